"""Recovery: from kill -9 of an owner to the next commit of its agent, by a new process and by one that stands by."""

import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from hocket.bench import baseline
from hocket.bench.figures import quantile
from hocket.bench.load import ANSWER_S, Say, all_of
from hocket.bench.recovering_agent import KEEPER, Probed, Seen, Wanted
from hocket.client import Bus, open_bus
from hocket.engine.owner import OWNER, STANDBY
from hocket.host.health import Card
from hocket.host.restarts import Restarts
from hocket.host.supervisor import Fleet
from hocket.log import jetstream
from hocket.log.server import EmbeddedServer
from hocket.subjects import Names
from hocket_schemas.approvals import ApprovalRequested

PLAIN = """
import asyncio, sys
import nats

async def main(url):
    connection = await nats.connect(url)
    await connection.jetstream().publish("single.plain", b"{}", timeout=30)
    print("published", flush=True)
    await connection.close()

asyncio.run(main(sys.argv[1]))
"""
"""What every process pays that has something to say: an interpreter, a client, a connection, one publish."""

SERVICE = "from hocket.bench.recovering_agent import keeper\n\nagent = keeper()\n"
MANIFEST = """
name = "{name}"
consumes = ["{wanted}", "{probed}"]
emits = ["{seen}"]
instances = {instances}
"""

AT_ONCE = Restarts(restarts_max=1000, second_s=0, longest_s=0)
"""Each end counts as the first one does, after which the supervisor does not wait."""


@dataclass(frozen=True, slots=True)
class Kills:
    """The owner killed a few times, with so many runs open."""

    runs: int
    standby: bool
    """Whether another process of this machine stood by."""

    took_s: list[float] = field(default_factory=list)
    """Of each kill, from the kill to the first new commit in the hands of a reader."""

    @property
    def median_s(self) -> float:
        """The one in the middle."""
        return quantile(self.took_s, 0.5)


@dataclass(frozen=True, slots=True)
class Recovery:
    """The whole measurement."""

    sync: str
    plain_s: float
    """A plain Python process: start, import nats-py, connect, publish one message; the median."""

    rows: list[Kills]

    def ratio(self, row: Kills) -> float:
        """A recovery, as a multiple of the plain process."""
        return row.median_s / self.plain_s

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        rows = [{**asdict(row), "median_s": row.median_s, "ratio": self.ratio(row)} for row in self.rows]
        return {"sync": self.sync, "plain_s": self.plain_s, "rows": rows}


async def measure(
    *,
    sync: str = "always",
    runs: Sequence[int] = (0, 100, 1000, 10_000),
    kills: int = 3,
    standby: bool = True,
    say: Say,
) -> Recovery:
    """Kill the owner `kills` times with each number of open runs, in turn with plain processes.

    With `standby` the same with as many runs as there are at last, and a second process that stands by. `sync` is the
    server's `sync_interval`.
    """
    plain: list[float] = []
    rows: list[Kills] = []
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as folder:
        async with (
            EmbeddedServer(Path(folder) / "data", sync=sync) as server,
            jetstream.connect(server.url) as logs,
            open_bus(logs, publisher="bench") as bus,
            baseline.publishing(server.url),  # makes the stream for it
        ):
            there = 0
            cases = [(count, False) for count in sorted(runs)] + [(max(runs), True)] * standby
            for count, stands_by in cases:
                service = _service(Path(folder) / f"{count}-{stands_by}", instances=1 + stands_by)
                async with Fleet([service], url=server.url, restarts=AT_ONCE, output=Path(folder) / "output") as fleet:
                    await fleet.ready(timeout_s=ANSWER_S)
                    say(f"{count} runs are open{', and a process stands by' if stands_by else ''}")
                    await _open(bus, range(there, count))
                    there = count
                    row = Kills(count, stands_by)
                    for number in range(kills):
                        plain.append(await _plain(server.url))
                        await _until(fleet, lambda: len(_heard(fleet, STANDBY)) == len(fleet.pids) - 1)
                        row.took_s.append(await _kill(bus, fleet, number))
                    rows.append(row)
    return Recovery(sync, quantile(plain, 0.5), rows)


def _service(folder: Path, *, instances: int) -> Path:
    """A service as anyone would write it, so that it is started as any other is."""
    service = folder / KEEPER
    service.mkdir(parents=True)
    (service / "agent.py").write_text(SERVICE)
    types = {"wanted": Wanted.event_type, "probed": Probed.event_type, "seen": Seen.event_type}
    (service / "agent.toml").write_text(MANIFEST.format(name=KEEPER, instances=instances, **types))
    return service


async def _open(bus: Bus, numbers: range) -> None:
    """Open runs, and wait until all of them wait for their person."""
    asked = 0
    async with bus.subscribe(ApprovalRequested) as deliveries:
        await all_of(bus.publish(Wanted(number=number), key=f"run-{number}") for number in numbers)
        async with asyncio.timeout(ANSWER_S + len(numbers) / 100):
            while asked < len(numbers):
                await anext(deliveries)
                asked += 1


async def _plain(url: str) -> float:
    """Seconds from the start of a plain process until its message is stored."""
    began_s = perf_counter()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PLAIN, url, stdout=pipe)
    assert process.stdout is not None
    async with asyncio.timeout(ANSWER_S):
        said = await process.stdout.readline()
        took_s = perf_counter() - began_s
        await process.wait()
    if not said:
        raise RuntimeError("the plain process could not publish; what it printed is above")
    return took_s


async def _kill(bus: Bus, fleet: Fleet, number: int) -> float:
    """Kill the owner, publish an event, and wait for its answer; return how long that took, in seconds."""
    await _until(fleet, lambda: len(_heard(fleet, OWNER)) == 1)
    [owner] = _heard(fleet, OWNER)
    [service] = [name for name, pid in fleet.pids.items() if pid == owner.pid]
    async with bus.subscribe(Seen) as deliveries, asyncio.timeout(ANSWER_S):
        began_s = perf_counter()
        fleet.kill(service)
        await bus.publish(Probed(number=number))
        answer = await anext(deliveries)
        took_s = perf_counter() - began_s
    claim = await bus.logs[0].last(Names(bus.domain, 0).owner(KEEPER))
    if claim is None or not owner.token < claim.seq < answer.seq:
        raise RuntimeError("the answer came from the owner that was killed")
    await fleet.ready(timeout_s=ANSWER_S)
    return took_s


def _heard(fleet: Fleet, role: str) -> list[Card]:
    """The processes that run and are heard in a role."""
    pids, now_s = fleet.pids.values(), asyncio.get_running_loop().time()
    return [card for card in fleet.health.fresh(now_s) if card.role == role and card.pid in pids]


async def _until(fleet: Fleet, met: Callable[[], bool]) -> None:
    async with asyncio.timeout(ANSWER_S):
        while not met():
            fleet.changed.clear()
            await fleet.changed.wait()
