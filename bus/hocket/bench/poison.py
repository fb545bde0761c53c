"""Poison: how much later a steady stream of events is handled while others, on other keys, go wrong."""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hocket.bench import poison_ends
from hocket.bench.figures import quantile
from hocket.bench.load import WorkerProcess
from hocket.bench.poison_ends import LOADS_PER_S, Ending
from hocket.bench.poison_stream import KEYS, Say, dead_letters, paced, stream
from hocket.bench.poison_worker import KINDS, Dosed
from hocket.client import Bus, open_bus
from hocket.log import jetstream
from hocket.log.server import EmbeddedServer

PER_S = 100
"""How many events of the stream are published in a second."""

POISON_PER_S = 20
"""How many others, each on a key of its own, while there is poison."""

WELL = ("",)
"""The kind of an event that is handled well."""

ROUNDS = 5
"""So often there is none and then some: a disk that is slow for a second is so to both."""


@dataclass(frozen=True, slots=True)
class Poison:
    """The whole measurement."""

    sync: str
    events: int
    """Of the stream, before and again meanwhile."""

    poisoned: int
    dead: int
    """Dead letters in the end; as many as were poisoned."""

    before_p50_ms: float
    before_p99_ms: float
    """From an event's publish to the answer to it, while as many others as are poisoned later are handled well."""

    during_p50_ms: float
    during_p99_ms: float
    endings: list[Ending]
    """The same for poison that ends its process."""

    takeovers_s: list[float]
    """From `kill -9` of an owner to the first new commit of its standby."""

    @property
    def ratio(self) -> float:
        """The p99 while others go wrong, as a multiple of the one before."""
        return self.during_p99_ms / self.before_p99_ms

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        endings = [{**asdict(each), "ratio": each.ratio} for each in self.endings]
        return {**asdict(self), "ratio": self.ratio, "endings": endings}


async def measure(
    *, sync: str = "always", seconds: float = 20.0, loads_per_s: Sequence[int] = LOADS_PER_S, say: Say
) -> Poison:
    """Publish a steady stream for so many seconds, and again while poison of every kind comes on other keys.

    `sync` is the server's `sync_interval`; `loads_per_s` are those beside poison that ends its process.
    """
    events, poisoned = max(1, int(seconds * PER_S)), max(1, int(seconds * POISON_PER_S))
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as folder:
        async with (
            EmbeddedServer(Path(folder), sync=sync) as server,
            WorkerProcess("hocket.bench.poison_worker", [server.url]),
            jetstream.connect(server.url) as logs,
            open_bus(logs, publisher="bench") as bus,
        ):
            await stream(bus, range(PER_S), PER_S)  # warms up, and is not counted
            say(f"{events} events on {KEYS} keys, {PER_S} a second, and {poisoned} others that are handled well")
            say(f"as many again, while the others raise, hang or return garbage; {ROUNDS} times in turn")
            before: list[float] = []
            during: list[float] = []
            dead = 0
            for n in range(ROUNDS):
                others = _part(poisoned, n, ROUNDS)
                before += await _beside(bus, _part(2 * events, 2 * n, 2 * ROUNDS), others, WELL)
                during += await _beside(bus, _part(2 * events, 2 * n + 1, 2 * ROUNDS), others, KINDS)
                dead = await dead_letters(bus, others.stop)
    endings = await poison_ends.measure(loads_per_s, sync=sync, seconds=seconds, say=say)
    return Poison(
        sync=sync,
        events=events,
        poisoned=poisoned,
        dead=dead,
        before_p50_ms=quantile(before, 0.5) * 1000,
        before_p99_ms=quantile(before, 0.99) * 1000,
        during_p50_ms=quantile(during, 0.5) * 1000,
        during_p99_ms=quantile(during, 0.99) * 1000,
        endings=endings,
        takeovers_s=await poison_ends.takeovers(sync=sync, say=say),
    )


def _part(count: int, n: int, parts: int) -> range:
    """The numbers of the n-th of so many parts."""
    return range(count * n // parts, count * (n + 1) // parts)


async def _beside(bus: Bus, numbers: range, others: range, kinds: Sequence[str]) -> list[float]:
    """Publish a part of the stream and others beside it; return how long each of the stream took to be answered."""

    async def publish(number: int) -> None:
        await bus.publish(Dosed(number=-number - 1, kind=kinds[number % len(kinds)]), key=f"other-{number}")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(paced(publish, others, POISON_PER_S))
        return await stream(bus, numbers, PER_S)


__all__ = ["KEYS", "PER_S", "POISON_PER_S", "Poison", "measure"]
