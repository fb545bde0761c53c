"""A steady stream of events through an agent, whatever else it is given, and how long each takes to be answered."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from time import perf_counter
from typing import Any

from hocket.bench.load import ANSWER_S
from hocket.bench.poison_worker import Dosed, Survived
from hocket.client import Bus
from hocket.subjects import Names

Say = Callable[[str], None]

KEYS = 100
"""So many keys the stream goes to, in turn."""


async def stream(bus: Bus, numbers: range, per_s: float) -> list[float]:
    """Publish events at a steady pace, whatever becomes of them; return how long each took to be answered."""
    published_s: dict[int, float] = {}
    took: list[float] = []

    async def publish(number: int) -> None:
        published_s[number] = perf_counter()
        await bus.publish(Dosed(number=number), key=f"key-{number % KEYS}")

    async with (
        asyncio.timeout(ANSWER_S + len(numbers) / per_s),
        bus.subscribe(Survived) as survived,
        asyncio.TaskGroup() as tasks,
    ):
        pacing = tasks.create_task(paced(publish, numbers, per_s))
        async for delivery in survived:
            published = published_s.get(delivery.envelope.data["number"])
            if published is not None:  # else it is none of the stream
                took.append(perf_counter() - published)
            if len(took) == len(numbers):
                break
        await pacing
    return took


async def paced(publish: Callable[[int], Any], numbers: range, per_s: float) -> None:
    """Begin so many a second, however long each takes."""
    began_s = perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for i, number in enumerate(numbers):
            await asyncio.sleep(began_s + i / per_s - perf_counter())
            tasks.create_task(publish(number))


async def dead_letters(bus: Bus, wanted: int) -> int:
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


__all__ = ["KEYS", "Say", "dead_letters", "paced", "stream"]
