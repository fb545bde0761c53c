"""Runs that wait: what thousands of them cost, how fast they go on, and how late their time finds them."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

from hocket.approval import APPROVE
from hocket.bench.figures import quantile
from hocket.bench.load import ANSWER_S, Say, WorkerProcess, all_of
from hocket.bench.parked_worker import NAME, Granted, TimerRang, TimerSet, TimerWanted, Wanted
from hocket.beside import beside
from hocket.client import Bus, Delivery, open_bus
from hocket.clock import SystemClock
from hocket.log import jetstream
from hocket.log.server import EmbeddedServer
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested
from hocket_schemas.event import Event

IDLE_S = 10.0
"""How long the CPU time of a worker with nothing to do is watched."""

SETTLE_S = 2.0
"""How long it is left alone before, so that the last cursor is through, and after, in case anything comes twice."""

DISK_BLOCK_BYTES = 512
"""What `st_blocks` counts in, whatever the file system's own blocks are."""

DUE_WITHIN_S = 1.0
"""The timers are due evenly over this time."""

KILLED_AFTER_S = 0.5
"""When the worker is killed, counted from the first timer's time: while they are due."""


@dataclass(frozen=True, slots=True)
class Stage:
    """More runs that come to wait for a person, beside those that do already."""

    waiting: int
    """How many do at its end."""

    came: int
    created_per_s: float
    """From the first publish to the last run's wait in the log."""

    memory_bytes: float
    """Resident memory of the worker for each that came. What the process takes up once is counted with the first."""

    disk_bytes: float
    """Of the server's store, for each that came: its event, its question, its record and its journal."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Runs that wait for a person."""

    runs: int
    stages: list[Stage]
    """Until a hundredth of them waited, a tenth, and all."""

    created_cpu_us: float
    """CPU time of the worker for each."""

    rss_before_mib: float
    """Resident memory of the worker before there was any run."""

    rss_mib: float
    """The same with all of them waiting."""

    idle_cpu_percent: float
    """CPU time of the worker with all of them waiting, as a share of one core."""

    owner_again_s: float
    """From kill -9 to a new process that has found all of them and owns the agent."""

    rss_again_mib: float
    """Resident memory of the new process then."""

    resumed_per_s: float
    """From the first decision's publish to the last run's end in the log."""

    resumed_cpu_us: float
    """CPU time of the worker for each."""

    rss_most_mib: float
    """The largest resident memory of the new process, with all of them resumed."""

    answers: int
    """How many runs ended with the decision that was theirs."""

    doubled: int
    """How many events came more often than once."""


@dataclass(frozen=True, slots=True)
class Timers:
    """Runs that wait for their time, all due within a second."""

    timers: int
    killed: bool
    """Whether the worker was killed while they were due, and started again."""

    set_per_s: float
    """From the first publish to the last run's wait in the log."""

    rang: int
    """How many rang, each counted once."""

    rang_before_kill: int
    doubled: int
    """How many rang more often than once."""

    early: int
    """How many went on before their time."""

    late_p50_s: float
    """From a timer's time to the event that says that it rang, in the hands of a reader."""

    late_last_s: float
    """From the last timer's time to the last such event."""

    late_most_s: float
    """The longest that any timer was late."""

    cpu_us: float | None
    """CPU time of the worker for each; None when it was killed."""


@dataclass(frozen=True, slots=True)
class Parked:
    """The whole measurement."""

    sync: str
    waiting: Waiting
    timers: list[Timers]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


@dataclass(slots=True)
class _Seen:
    """What a reader sees of one type of event."""

    wanted: int
    deliveries: dict[int, Delivery] = field(default_factory=dict)
    """The first of each number."""

    times: Counter[int] = field(default_factory=Counter)
    """How often each number came."""

    complete_s: float = 0.0
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def see(self, number: int, delivery: Delivery) -> None:
        """Take a delivery."""
        self.times[number] += 1
        self.deliveries.setdefault(number, delivery)
        if len(self.deliveries) == self.wanted and not self.complete.is_set():
            self.complete_s = perf_counter()
            self.complete.set()

    async def all(self) -> float:
        """Wait until every number has come, and a little longer; return when that was, by `perf_counter`."""
        async with asyncio.timeout(ANSWER_S + self.wanted / 100):
            await self.complete.wait()
        await asyncio.sleep(SETTLE_S)
        return self.complete_s

    @property
    def doubled(self) -> int:
        """How many came more often than once."""
        return sum(times > 1 for times in self.times.values())


async def measure(*, sync: str = "always", runs: int = 20_000, timers: int = 10_000, say: Say) -> Parked:
    """Let runs wait, kill their process, and let them all go on; then the same with timers, and a kill in between.

    `sync` is the server's `sync_interval`.
    """
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as folder:
        async with (
            EmbeddedServer(Path(folder), sync=sync) as server,
            WorkerProcess("hocket.bench.parked_worker", [server.url]) as worker,
            jetstream.connect(server.url) as logs,
            open_bus(logs, publisher="bench") as bus,
        ):
            waiting = await _waiting(bus, worker, runs, Path(folder), say)
            lead_s = 3 * timers / waiting.stages[-1].created_per_s + 5
            calm = await _timers(bus, worker, timers, lead_s, say, kill=False)
            killed = await _timers(bus, worker, timers, lead_s, say, kill=True)
    return Parked(sync, waiting, [calm, killed])


async def _waiting(bus: Bus, worker: WorkerProcess, runs: int, folder: Path, say: Say) -> Waiting:
    say(f"{runs} runs that each ask a person")
    empty = await worker.ask()
    asked: list[Delivery] = []
    stages: list[Stage] = []
    doubled = 0
    for numbers in _parts(runs):
        before, before_bytes = await worker.ask(), _stored_bytes(folder)
        async with _reading(bus, ApprovalRequested, len(numbers)) as questions:
            began_s = perf_counter()
            await all_of(bus.publish(Wanted(number=number), key=f"run-{number}") for number in numbers)
            took_s = await questions.all() - began_s
        asked += questions.deliveries.values()
        doubled += questions.doubled
        memory = ((await worker.ask())["rss_now_mib"] - before["rss_now_mib"]) * (1 << 20)
        disk, came = _stored_bytes(folder) - before_bytes, len(numbers)
        stages.append(Stage(numbers.stop, came, came / took_s, memory / came, disk / came))
    created = await worker.ask()
    say(f"nobody answers for {IDLE_S:.0f} s")
    before, began_s = await worker.ask(), perf_counter()
    await asyncio.sleep(IDLE_S)
    idle, idle_s = await worker.ask(), perf_counter() - began_s
    say("kill -9, and a new process")
    began_s = perf_counter()
    await worker.restart()
    owner_again_s = perf_counter() - began_s
    again = await worker.ask()
    say("all are answered")
    async with _reading(bus, Granted, runs) as granted:
        began_s = perf_counter()
        await all_of(_decide(bus, delivery) for delivery in asked)
        ended_s = await granted.all()
        resumed_s = ended_s - began_s
    resumed = await worker.ask()
    return Waiting(
        runs=runs,
        stages=stages,
        created_cpu_us=(created["cpu_s"] - empty["cpu_s"]) / runs * 1e6,
        rss_before_mib=empty["rss_now_mib"],
        rss_mib=idle["rss_now_mib"],
        idle_cpu_percent=(idle["cpu_s"] - before["cpu_s"]) / idle_s * 100,
        owner_again_s=owner_again_s,
        rss_again_mib=again["rss_now_mib"],
        resumed_per_s=runs / resumed_s,
        resumed_cpu_us=(resumed["cpu_s"] - again["cpu_s"]) / runs * 1e6,
        rss_most_mib=resumed["rss_mib"],
        answers=sum(delivery.envelope.data["approved"] for delivery in granted.deliveries.values()),
        doubled=doubled + granted.doubled,
    )


def _parts(runs: int) -> list[range]:
    """The numbers of so many runs: a hundredth, what is missing for a tenth, and the rest."""
    ends = [0, *sorted({max(1, runs // 100), max(1, runs // 10), runs})]
    return [range(first, end) for first, end in pairwise(ends)]


async def _timers(bus: Bus, worker: WorkerProcess, timers: int, lead_s: float, say: Say, *, kill: bool) -> Timers:
    """One round: timers whose time begins `lead_s` from now, when all of them are set."""
    say(f"{timers} timers, due within {DUE_WITHIN_S:.0f} s{', and kill -9 meanwhile' if kill else ''}")
    clock = SystemClock()
    first_s = clock.now_s() + lead_s
    due_s = [first_s + number / timers * DUE_WITHIN_S for number in range(timers)]
    name = "killed" if kill else "calm"
    async with _reading(bus, TimerSet, timers) as were_set, _reading(bus, TimerRang, timers) as rang:
        began_s = perf_counter()
        await all_of(bus.publish(TimerWanted(number=n, due_s=at), key=f"{name}-{n}") for n, at in enumerate(due_s))
        set_s = await were_set.all() - began_s
        before = await worker.ask()
        if clock.now_s() > first_s:
            raise RuntimeError(f"{timers} timers were set in {set_s:.1f} s, which is too late for the first of them")
        if kill:
            await asyncio.sleep(first_s + KILLED_AFTER_S - clock.now_s())
            await worker.restart()
        await rang.all()
    after = await worker.ask()
    at_s = {number: delivery.message.time_ns / 1e9 for number, delivery in rang.deliveries.items()}
    late = [at_s[number] - due for number, due in enumerate(due_s)]
    went_on = [delivery.envelope.data for delivery in rang.deliveries.values()]
    return Timers(
        timers=timers,
        killed=kill,
        set_per_s=timers / set_s,
        rang=len(rang.deliveries),
        rang_before_kill=sum(at < first_s + KILLED_AFTER_S for at in at_s.values()) if kill else 0,
        doubled=rang.doubled,
        early=sum(data["at_s"] < data["due_s"] for data in went_on),
        late_p50_s=quantile(late, 0.5),
        late_most_s=max(late),
        late_last_s=max(at_s.values()) - due_s[-1],
        cpu_us=None if kill else (after["cpu_s"] - before["cpu_s"]) / timers * 1e6,
    )


@asynccontextmanager
async def _reading(bus: Bus, event: type[Event], wanted: int) -> AsyncIterator[_Seen]:
    """Read what comes of one type of event until the block ends."""
    seen = _Seen(wanted)
    async with bus.subscribe(event) as deliveries:

        async def read() -> None:
            async for delivery in deliveries:
                data = delivery.envelope.data
                seen.see(data["details"]["number"] if event is ApprovalRequested else data["number"], delivery)

        async with beside(read()):
            yield seen


async def _decide(bus: Bus, asked: Delivery) -> None:
    """Go ahead with what an approval asks."""
    request = asked.envelope.data
    decision = ApprovalDecided(approval=request["approval"], digest=request["digest"], option=APPROVE, by="bench")
    await bus.command(decision, to=NAME, key=asked.address.key)


def _stored_bytes(folder: Path) -> int:
    """What the server's store takes up on the disk."""
    return sum(file.stat().st_blocks * DISK_BLOCK_BYTES for file in (folder / "jetstream").rglob("*") if file.is_file())
