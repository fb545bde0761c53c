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
"""How many others, each on a key of its own, in the second half."""


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
    """From an event's publish to the answer to it, with nothing else going on."""

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
    *, sync: str = "always", seconds: float = 10.0, loads_per_s: Sequence[int] = LOADS_PER_S, say: Say
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
            say(f"{events} events on {KEYS} keys, {PER_S} a second")
            before = await stream(bus, range(events), PER_S)
            say(f"as many again, with {poisoned} others that raise, hang or return garbage")
            async with asyncio.TaskGroup() as tasks:
                poisoning = tasks.create_task(_poison(bus, poisoned))
                during = await stream(bus, range(events, 2 * events), PER_S)
                await poisoning
            dead = await dead_letters(bus, poisoned)
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


async def _poison(bus: Bus, count: int) -> None:
    async def publish(number: int) -> None:
        await bus.publish(Dosed(number=-number - 1, kind=KINDS[number % len(KINDS)]), key=f"poison-{number}")

    await paced(publish, range(count), POISON_PER_S)


__all__ = ["KEYS", "PER_S", "POISON_PER_S", "Poison", "measure"]
