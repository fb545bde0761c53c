"""A campaign of faults on real processes: `python -m tests.fault.campaign --minutes 60 --seed 7`.

Exit code 0: nothing was wrong, and the faults have struck what was under way.
"""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
from tests.fault.campaign import faults
from tests.fault.campaign.crew import ROOT, Beside, Crew
from tests.fault.campaign.load import Options
from tests.fault.campaign.page import VIOLATIONS_SHOWN, Result, page, share
from tests.fault.campaign.recorder import Recorder
from tests.fault.campaign.storm import TOGETHER, Storm
from tests.fault.proxy import proxied

from hocket.log import jetstream
from hocket.log.server import Cluster, EmbeddedServer
from hocket.observe.audit import judge, sorted_out
from hocket.observe.finding import Severity

DOMAIN = "campaign"
ROOM = 12 << 30
READY_S = 60.0
PROGRESS_S = 10.0
PAGE_S = 60.0
SETTLE_S = 60.0
"""After the last heal every saga has its end by then."""

ACKED_SHARE_MIN = 0.8
OVERLAP_MIN = 50
WITHIN_S = 15.0


@asynccontextmanager
async def servers(replicas: int, folder: Path) -> AsyncIterator[tuple[str, list[EmbeddedServer]]]:
    """One server, or a cluster."""
    if replicas == 1:
        async with EmbeddedServer(folder / "n1", name="n1") as server:
            yield server.url, [server]
    else:
        async with Cluster(folder, size=replicas) as cluster:
            yield cluster.url, list(cluster.nodes)


class Campaign:
    """Everything together, from the first server to the page."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.started = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.began_s = 0.0
        self.server = ""
        self.finished = False
        self.recorder: Recorder
        self.storm: Storm
        self.crew: Crew

    async def run(self, folder: Path) -> Result:
        """Live through it."""
        given = self.given
        async with AsyncExitStack() as stack:
            url, nodes = await stack.enter_async_context(servers(given.replicas, folder))
            opening = jetstream.connect(
                url, domain=DOMAIN, replicas=given.replicas, max_bytes=ROOM, name="recorder", timeout_s=READY_S
            )
            [log] = await stack.enter_async_context(opening)
            self.server = await log.server_version()
            self.recorder = recorder = Recorder(log, WITHIN_S)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            outside = Beside("outside", tell=recorder.witnessed)
            port = (await outside.start(tasks))["port"]
            reading = [tasks.create_task(recorder.follow()), tasks.create_task(recorder.sweep())]
            reading.append(tasks.create_task(recorder.look()))
            environment = {"CAMPAIGN_OUTSIDE": str(port)}
            self.crew = crew = Crew(url, DOMAIN, folder, given.seed, environment)
            await stack.enter_async_context(crew)
            await self._owned()
            writers = await stack.enter_async_context(proxied(url, seed=given.seed))
            options = Options(writers.url, DOMAIN, given.seed, given.appends, given.sagas, given.timers, WITHIN_S)
            load = Beside("load", orjson.dumps(_as_dict(options)).decode(), tell=recorder.heard)
            await load.start(tasks)

            def to_outside(number: signal.Signals) -> None:
                if outside.process is not None and outside.process.returncode is None:
                    outside.process.send_signal(number)

            field = faults.Field(crew, nodes, log, recorder, writers, to_outside, random.Random(given.seed))
            self.storm = Storm(field, faults.kinds(given.replicas, given.only))
            reading.append(tasks.create_task(self._progress(load)))
            self.began_s = time.time()
            await asyncio.sleep(given.warm_s)
            await self.storm.run(self.began_s + given.minutes * 60)
            load.say("quiet")
            await self._settled()
            await load.stop()
            await self._audit()
            await outside.stop()
            for task in reading:
                task.cancel()
        recorder.account.finish(recorder.position)
        self.finished = True
        return self.result()

    async def _owned(self) -> None:
        """Wait until every agent has an owner."""
        async with asyncio.timeout(READY_S):
            while len(self.recorder.worker_of) < len(self.crew.workers) / 2:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.1)

    async def _settled(self) -> None:
        """Wait until nothing is left to do."""
        account = self.recorder.account
        until_s = time.time() + SETTLE_S
        while time.time() < until_s and not self._rests():  # noqa: ASYNC110 - what rests does not tell us
            await asyncio.sleep(0.5)
        for saga, tour in account.tours.items():
            if tour.stored and not tour.end:
                account.wrong("I6", f"{saga} has no end {SETTLE_S:g} s after the last heal")
        while self.recorder.behind() and time.time() < until_s + SETTLE_S:  # noqa: ASYNC110 - nor does the reader
            await asyncio.sleep(0.5)
        for name, waiting in self.recorder.behind().items():
            examples = list(self.recorder.queues[name].waiting.items())[:5]
            account.wrong("I3", f"{waiting} events wait for {name} at the end: {examples}")

    def _rests(self) -> bool:
        account = self.recorder.account
        open_tours = any(tour.stored and not tour.end for tour in account.tours.values())
        open_timers = any(timer.stored for timer in account.timers.values())
        return not (open_tours or open_timers or self.recorder.behind())

    async def _audit(self) -> None:
        """Hold what is left of the log against itself."""
        log, account = self.recorder.log, self.recorder.account
        kept = [message async for message in log.scan([f"{DOMAIN}.0.>"])]
        report = judge(sorted_out(kept, 0), {}, ageing=True)
        account.checked["I8 audit"] = report.events
        for finding in report.findings:
            if finding.severity is Severity.ERROR and finding.code != "gap":
                account.wrong("I8", f"audit: {finding.code}: {finding.where}: {finding.message}")

    async def _progress(self, load: Beside) -> None:
        told, shown, last_s = 0, 0, 0.0
        while True:
            await asyncio.sleep(PROGRESS_S)
            recorder, account, storm = self.recorder, self.recorder.account, self.storm
            rate = (recorder.events - told) / PROGRESS_S
            told = recorder.events
            minutes = (time.time() - self.began_s) / 60
            say(
                f"{minutes:5.1f} min {recorder.events:>9,} events ({rate:.0f}/s) {dict(account.ends)} sagas "
                f"{storm.total} faults, {recorder.in_flight} in flight, waiting {recorder.behind()}, "
                f"{len(account.violations)} violations {storm.under_way}"
            )
            for violation in account.violations[shown : shown + VIOLATIONS_SHOWN]:
                say(f"VIOLATION {violation.invariant} {violation.text} (seed {self.given.seed})")
            shown = len(account.violations)
            if load.ended and load.process is not None and load.process.returncode:
                raise RuntimeError(f"the load has ended with {load.process.returncode}")
            if self.given.out and time.time() > last_s + PAGE_S:
                last_s = time.time()
                write(self.result(), self.given.out)

    def result(self) -> Result:
        """How it stands."""
        recorder, account, storm, given = self.recorder, self.recorder.account, self.storm, self.given
        rows = {}
        for name in [*storm.kinds, TOGETHER]:
            told = storm.told[name]
            overlapped = share([float(count) for count in told.in_flight], 0.5)
            rows[name] = {
                "struck": told.struck or len(told.recoveries),
                "missed": told.missed,
                "recovered": len(told.recoveries),
                "p50_s": share(told.recoveries, 0.5),
                "p99_s": share(told.recoveries, 0.99),
                "most_s": max(told.recoveries, default=None),
                "overlapped": int(overlapped or 0),
            }
        late = list(account.lateness)
        result = Result(
            command=_command(given),
            seed=given.seed,
            minutes=min((time.time() - self.began_s) / 60, given.minutes),
            replicas=given.replicas,
            started=self.started,
            finished=self.finished,
            server=self.server,
            acked=recorder.events,
            operations={name: account.outcomes[name] for name in ("asked", "ok", "refused", "unknown")},
            sagas={**account.ends, "expired": account.outcomes["sagas expired"], "stuck": account.stuck},
            faults=rows,
            faults_total=storm.total,
            checked={name: account.checked[name] for name in _promises(account.checked)},
            seen={
                "takeovers": account.takeovers,
                "attempts": account.attempts,
                "letters": account.letters,
                "verified": recorder.verified,
                "late_p99_s": share(late, 0.99) or 0.0,
                "late_most_s": max(late, default=0.0),
            },
            violations=[f"{each.invariant}: {each.text}" for each in account.violations[:VIOLATIONS_SHOWN]],
            violations_total=len(account.violations),
            journal=[
                (round(at_s - self.began_s, 1), name, what, None if took_s is None else round(took_s, 2))
                for at_s, name, what, took_s in storm.journal
            ],
        )
        result.vacuous = self._vacuous(result)
        return result

    def _vacuous(self, result: Result) -> list[str]:
        found = []
        asked, ok = result.operations["asked"], result.operations["ok"]
        if ok < ACKED_SHARE_MIN * asked or not asked:
            found.append(f"only {ok} of {asked} operations were acked")
        if max((max(told.in_flight, default=0) for told in self.storm.told.values()), default=0) < OVERLAP_MIN:
            found.append(f"no fault overlapped {OVERLAP_MIN} operations")
        never = [name for name in self.storm.kinds if not self.storm.told[name].struck]
        if never:
            found.append(f"never struck: {', '.join(never)}")
        return found


def _command(given: argparse.Namespace) -> str:
    """What to say for the same load and the same order of faults."""
    wanted = ("minutes", "seed", "replicas", "appends", "sagas", "timers")
    return "python -m tests.fault.campaign " + " ".join(f"--{name} {getattr(given, name):g}" for name in wanted)


def _promises(checked: dict[str, int]) -> list[str]:
    return sorted(checked, key=lambda name: (int(name.split(" ")[0][1:]), name))


def _as_dict(options: Options) -> dict[str, object]:
    return {name: getattr(options, name) for name in Options.__dataclass_fields__}


def say(text: str) -> None:
    """Tell whoever watches."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def write(result: Result, out: Path) -> None:
    """The page and the JSON beside it."""
    out.mkdir(parents=True, exist_ok=True)
    suffix = "" if result.replicas == 1 else f"-r{result.replicas}"
    stem = out / f"{result.started[:10]}-seed-{result.seed}{suffix}"
    stem.with_name(stem.name + ".md").write_text(page(result))
    stem.with_name(stem.name + ".json").write_bytes(orjson.dumps(result.to_json(), option=orjson.OPT_INDENT_2) + b"\n")


def main() -> int:
    """Run one, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.campaign", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="how long faults strike")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--replicas", type=int, choices=(1, 3), default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "campaigns", help="where the page goes")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="kinds whose name has this in it, or (=TEXT) is this",
    )
    parser.add_argument("--appends", type=float, default=68.0, help="a second")
    parser.add_argument("--sagas", type=float, default=6.2, help="a second")
    parser.add_argument("--timers", type=float, default=1.5, help="a second")
    parser.add_argument("--warm-s", type=float, default=3.0, help="seconds before the first fault")
    parser.add_argument("--keep", type=Path, help="a folder for what the processes leave behind")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="campaign-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = asyncio.run(Campaign(given).run(folder))
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    write(result, given.out)
    sys.stdout.write(page(result))
    for text in [*result.violations, *result.vacuous]:
        say(f"{text} (seed {given.seed})")
    return 1 if result.violations_total or result.vacuous else 0


if __name__ == "__main__":
    sys.exit(main())
