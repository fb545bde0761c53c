"""Poison: how much later a steady stream of events is handled while others, on other keys, go wrong."""

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from hocket.bench.figures import quantile
from hocket.bench.load import ANSWER_S, WorkerProcess
from hocket.bench.poison_worker import KINDS, Dosed, Survived
from hocket.client import Bus, open_bus
from hocket.log import jetstream
from hocket.log.server import EmbeddedServer
from hocket.subjects import Names

Say = Callable[[str], None]

KEYS = 100
"""So many keys the stream goes to, in turn."""

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

    @property
    def ratio(self) -> float:
        """The p99 while others go wrong, as a multiple of the one before."""
        return self.during_p99_ms / self.before_p99_ms

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "ratio": self.ratio}


async def measure(*, sync: str = "always", seconds: float = 10.0, say: Say) -> Poison:
    """Publish a steady stream for so many seconds, and again while poison of every kind comes on other keys.

    `sync` is the server's `sync_interval`.
    """
    events, poisoned = max(1, int(seconds * PER_S)), max(1, int(seconds * POISON_PER_S))
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as folder:
        async with (
            EmbeddedServer(Path(folder), sync=sync) as server,
            WorkerProcess("hocket.bench.poison_worker", [server.url]),
            jetstream.connect(server.url) as logs,
            open_bus(logs, publisher="bench") as bus,
        ):
            await _stream(bus, range(PER_S))  # warms up, and is not counted
            say(f"{events} events on {KEYS} keys, {PER_S} a second")
            before = await _stream(bus, range(events))
            say(f"as many again, with {poisoned} others that raise, hang or return garbage")
            async with asyncio.TaskGroup() as tasks:
                poisoning = tasks.create_task(_poison(bus, poisoned))
                during = await _stream(bus, range(events, 2 * events))
                await poisoning
            dead = await _dead(bus, poisoned)
    return Poison(
        sync=sync,
        events=events,
        poisoned=poisoned,
        dead=dead,
        before_p50_ms=quantile(before, 0.5) * 1000,
        before_p99_ms=quantile(before, 0.99) * 1000,
        during_p50_ms=quantile(during, 0.5) * 1000,
        during_p99_ms=quantile(during, 0.99) * 1000,
    )


async def _stream(bus: Bus, numbers: range) -> list[float]:
    """Publish events at a steady pace, whatever becomes of them; return how long each took to be answered."""
    published_s: dict[int, float] = {}
    took: list[float] = []

    async def publish(number: int) -> None:
        published_s[number] = perf_counter()
        await bus.publish(Dosed(number=number), key=f"key-{number % KEYS}")

    async with (
        asyncio.timeout(ANSWER_S + len(numbers) / PER_S),
        bus.subscribe(Survived) as survived,
        asyncio.TaskGroup() as tasks,
    ):
        pacing = tasks.create_task(_paced(publish, numbers, PER_S))
        async for delivery in survived:
            took.append(perf_counter() - published_s[delivery.envelope.data["number"]])
            if len(took) == len(numbers):
                break
        await pacing
    return took


async def _poison(bus: Bus, count: int) -> None:
    async def publish(number: int) -> None:
        await bus.publish(Dosed(number=-number - 1, kind=KINDS[number % len(KINDS)]), key=f"poison-{number}")

    await _paced(publish, range(count), POISON_PER_S)


async def _paced(publish: Callable[[int], Any], numbers: range, per_s: float) -> None:
    """Begin so many a second, however long each takes."""
    began_s = perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for i, number in enumerate(numbers):
            await asyncio.sleep(began_s + i / per_s - perf_counter())
            tasks.create_task(publish(number))


async def _dead(bus: Bus, wanted: int) -> int:
    """How many dead letters there are, once there are enough or long enough was waited."""
    found = 0
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(ANSWER_S),
            aclosing(bus.logs[0].scan([Names(bus.domain, 0).all_dead], follow=True)) as messages,
        ):
            async for _ in messages:
                found += 1
                if found == wanted:
                    break
    return found


__all__ = ["KEYS", "PER_S", "POISON_PER_S", "Poison", "measure"]
