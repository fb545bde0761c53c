"""Replay: how fast everything is made again from the log, beside a plain consumer that only reads and parses.

State is a record, so no agent needs it to start. What is made again from the first event on is what somebody folds who
reads the log, a projection that was thrown away, and the state of an agent that is added later.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hocket.bench import baseline, said
from hocket.bench.figures import quantile
from hocket.bench.load import TEXT, WorkerProcess
from hocket.bench.replay_worker import CaughtUp
from hocket.bench.said import KEYS, PUBLISH_S, Said
from hocket.client import Bus
from hocket.log.server import EmbeddedServer
from hocket.log.topology import stream_name
from hocket.memory import Memory
from hocket.subjects import Names
from hocket_schemas import gate
from hocket_schemas.memory import Remembered

FOLD = "read, checked, typed, folded"
REBUILD = "a memory made again"
LATE = "an agent added late"
BASELINE = "plain consumer, parsed"

Say = Callable[[str], None]

ROUNDS = 3
"""How often each is measured, in turns; the median counts. An agent that is added late is so only once."""

FACTS_SHARE = 5
"""A fifth as many facts are remembered as events are said."""

STREAM = stream_name("hocket", 0)
SUBJECTS = Names("hocket", 0).events_of_type(Said.event_type)

CATCH_UP_S = 300.0
"""How long an agent that is added late may take."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One way to read all of it."""

    what: str
    events: int
    per_s: float
    """The median over rounds."""

    cpu_us: float
    """CPU time of the process that reads, per event."""

    @property
    def per_core(self) -> float:
        """Events per second of the reading process's CPU."""
        return 1e6 / self.cpu_us


@dataclass(frozen=True, slots=True)
class Replay:
    """The whole measurement."""

    sync: str
    rows: list[Replayed]

    def row(self, what: str) -> Replayed:
        """One row."""
        return next(row for row in self.rows if row.what == what)

    @property
    def rate_ratio(self) -> float:
        """Events folded per second, as a multiple of those that a plain consumer parses."""
        return self.row(FOLD).per_s / self.row(BASELINE).per_s

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        rows = [{**asdict(row), "per_core": row.per_core} for row in self.rows]
        return {"sync": self.sync, "rows": rows, "rate_ratio": self.rate_ratio}


@dataclass(frozen=True, slots=True)
class _Way:
    """One of those that are compared."""

    what: str
    events: int
    read: Callable[[], Awaitable[None]]
    took: list[tuple[float, float]] = field(default_factory=list)

    def replayed(self) -> Replayed:
        """Its row."""
        return Replayed(
            self.what,
            self.events,
            per_s=self.events / quantile([took_s for took_s, _ in self.took], 0.5),
            cpu_us=sum(cpu_s for _, cpu_s in self.took) / (self.events * len(self.took)) * 1e6,
        )


async def measure(*, sync: str = "always", events: int = 30_000, say: Say) -> Replay:
    """Fill a log, and read it in each way, round by round in turn. `sync` is the server's `sync_interval`."""
    facts = max(1, events // FACTS_SHARE)
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as folder:
        async with EmbeddedServer(Path(folder), sync=sync) as server, AsyncExitStack() as stack:
            [bus] = await stack.enter_async_context(said.clients(server.url, 1))
            say(f"{events} events and {facts} facts are published")
            await said.publish([bus], range(events))
            await said.at_once(partial(_remember, bus), range(facts), said.IN_FLIGHT)
            ways = [
                _Way(FOLD, events, partial(fold, bus, events)),
                _Way(REBUILD, facts, partial(_rebuild, Memory(), bus)),
                _Way(BASELINE, events, partial(read_plainly, server.url, events)),
            ]
            for nth in range(1, ROUNDS + 1):
                for way in ways:
                    say(f"{nth} of {ROUNDS}: {way.what}, {way.events} events")
                    way.took.append(await said.timed(way.read()))
            say(f"{LATE}, {events} events")
            late = await handled_late(server.url, bus, "latecomer", events)
    fold_row, rebuild_row, plain_row = [way.replayed() for way in ways]
    return Replay(sync, [fold_row, rebuild_row, late, plain_row])


async def fold(bus: Bus, expected: int) -> None:
    """Read every event as its typed self, and keep what a fold keeps: something of each key."""
    counts: dict[str, int] = {}
    sums: dict[str, int] = {}
    async for delivery in bus.read(Said):
        event, key = gate.event_of(delivery.envelope, Said), delivery.address.key
        counts[key] = counts.get(key, 0) + 1
        sums[key] = sums.get(key, 0) + event.number
    _all_of(sum(counts.values()), expected)


async def read_plainly(url: str, expected: int) -> None:
    """The same with a plain ordered consumer, and without any check."""
    counts: dict[str, int] = {}
    sums: dict[str, int] = {}
    async with aclosing(baseline.parsed(url, STREAM, SUBJECTS, expected)) as messages:
        async for subject, members in messages:
            key = subject.split(".")[4]
            counts[key] = counts.get(key, 0) + 1
            sums[key] = sums.get(key, 0) + members["data"]["number"]
    _all_of(sum(counts.values()), expected)


async def handled_late(url: str, bus: Bus, name: str, events: int) -> Replayed:
    """An agent of this name is added, and handles everything."""
    worker = WorkerProcess("hocket.bench.replay_worker", [url, name, str(events)])
    async with asyncio.timeout(CATCH_UP_S), bus.subscribe(CaughtUp) as deliveries, worker:
        caught_up = gate.event_of((await anext(deliveries)).envelope, CaughtUp)
    return Replayed(LATE, events, events / caught_up.took_s, caught_up.cpu_s / events * 1e6)


async def _remember(bus: Bus, number: int) -> None:
    fact = Remembered(text=f"{TEXT}{number}", about=f"subject-{number % KEYS}", kind="fact", scope="crew")
    await bus.publish(fact, key=f"key-{number % KEYS}", timeout_s=PUBLISH_S)


async def _rebuild(memory: Memory, bus: Bus) -> None:
    await memory.rebuild(bus)


def _all_of(found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeError(f"{found} events were read, {expected} were published")
