"""Activation: events for actors of which nothing is in memory, beside the same events for actors in memory."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from hocket.bench.activation_worker import NAME, Tally, Told, Touched
from hocket.bench.load import ANSWER_S, Say, WorkerProcess, all_of
from hocket.client import Bus, Delivery, open_bus
from hocket.log import jetstream
from hocket.log.base import APPEND_MESSAGES_MAX, Write
from hocket.log.server import EmbeddedServer
from hocket.observe import holds
from hocket.subjects import Names
from hocket_schemas.holds import HoldLifted, HoldPlaced

ROOM_BYTES = 8 << 30
"""Of the log: a million actors need more than it has by default."""


@dataclass(frozen=True, slots=True)
class Round:
    """One event for each of some actors."""

    existing: int
    """How many actors have a record in the log."""

    cold: bool
    """Whether all of it was only there, rather than in memory."""

    took_s: float
    """From the word that the agent may begin to the last answer in the hands of a reader."""

    per_s: float
    cpu_us: float
    """CPU time of the worker for each."""

    right: int
    """How many answers said what the record says."""


@dataclass(frozen=True, slots=True)
class Activation:
    """The whole measurement."""

    sync: str
    actors: int
    """How many get an event in each round."""

    rounds: list[Round]

    def took_s(self, existing: int, *, cold: bool) -> float:
        """How long a round took."""
        return next(row.took_s for row in self.rounds if (row.existing, row.cold) == (existing, cold))

    @property
    def cold_ratio(self) -> float:
        """A cold round, as a multiple of the warm one, with the fewest actors there."""
        least = min(row.existing for row in self.rounds)
        return self.took_s(least, cold=True) / self.took_s(least, cold=False)

    @property
    def growth_ratio(self) -> float:
        """A cold round with the most actors there, as a multiple of one with the fewest."""
        existing = [row.existing for row in self.rounds]
        return self.took_s(max(existing), cold=True) / self.took_s(min(existing), cold=True)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "cold_ratio": self.cold_ratio, "growth_ratio": self.growth_ratio}


async def measure(
    *, sync: str = "always", actors: int = 10_000, times: Sequence[int] = (1, 10), say: Say
) -> Activation:
    """Wake actors out of the log, and again out of memory, with so many `times` as many actors there.

    The worker is started anew before each cold round, and the agent is paused while events are published, so that
    only their handling is measured. `sync` is the server's `sync_interval`.
    """
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as folder:
        async with (
            EmbeddedServer(Path(folder), sync=sync) as server,
            jetstream.connect(server.url, max_bytes=ROOM_BYTES) as logs,
            open_bus(logs, publisher="bench") as bus,
            WorkerProcess("hocket.bench.activation_worker", [server.url, str(actors)]) as worker,
        ):
            expected = [0] * (actors * max(times))
            there = 0
            for multiple in sorted(times):
                existing = actors * multiple
                say(f"{existing} actors are there")
                await _seed(bus, range(there, existing))
                there = existing
                await worker.restart()
                keys = range(0, existing, multiple)
                for cold in (True, False):
                    say(f"an event for each of {actors}, {'cold' if cold else 'warm'}")
                    rounds.append(await _round(bus, worker, existing, keys, expected, cold=cold))
    return Activation(sync, actors, rounds)


async def _seed(bus: Bus, numbers: range) -> None:
    """Write records as the agent does when its actors change: so many events would take minutes."""
    [log] = bus.logs
    names, body = Names(log.domain, log.shard), Tally().model_dump_json().encode()
    for first in range(0, len(numbers), APPEND_MESSAGES_MAX):
        part = numbers[first : first + APPEND_MESSAGES_MAX]
        await log.append([Write(names.actor(NAME, _key(number)), body) for number in part])


async def _round(
    bus: Bus, worker: WorkerProcess, existing: int, numbers: range, expected: list[int], *, cold: bool
) -> Round:
    """Publish while the agent is paused, let it go, and wait for all answers."""
    async with bus.subscribe(Told) as deliveries:
        await holds.say(bus, HoldPlaced(agent=NAME, reason="bench", by="bench"))
        await all_of(bus.publish(Touched(number=number), key=_key(number)) for number in numbers)
        before = await worker.ask()
        began_s = perf_counter()
        await holds.say(bus, HoldLifted(agent=NAME, reason="bench", by="bench"))
        told = await _answers(deliveries, len(numbers))
        took_s = perf_counter() - began_s
    after = await worker.ask()
    for number in numbers:
        expected[number] += 1
    return Round(
        existing=existing,
        cold=cold,
        took_s=took_s,
        per_s=len(numbers) / took_s,
        cpu_us=(after["cpu_s"] - before["cpu_s"]) / len(numbers) * 1e6,
        right=sum(told.get(number) == expected[number] for number in numbers),
    )


async def _answers(deliveries: AsyncIterator[Delivery], wanted: int) -> dict[int, int]:
    told: dict[int, int] = {}
    async with asyncio.timeout(ANSWER_S + wanted / 100):
        async for delivery in deliveries:
            data = delivery.envelope.data
            told[data["number"]] = data["times"]
            if len(told) == wanted:
                break
    return told


def _key(number: int) -> str:
    return f"actor-{number}"
