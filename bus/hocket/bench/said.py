"""The event that is published, read and folded by the tens of thousands, and how it gets into the log."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter, process_time

from hocket.bench.load import TEXT
from hocket.client import Bus, open_bus
from hocket.log import jetstream
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()

KEYS = 1000
"""Over how many keys the events are spread."""

IN_FLIGHT = 2000
"""How many publishes wait for their acknowledgement at any time, of all clients together."""

PUBLISH_S = 60.0
"""How long one publish may take."""


class Said(Event, type="bench.said.v1", catalog=EVENTS):
    """About 300 bytes of data and attributes."""

    number: int
    text: str


@asynccontextmanager
async def clients(url: str, count: int) -> AsyncIterator[list[Bus]]:
    """So many buses, each with a connection of its own."""
    async with AsyncExitStack() as stack:
        buses = []
        for i in range(count):
            logs = await stack.enter_async_context(jetstream.connect(url))
            buses.append(await stack.enter_async_context(open_bus(logs, publisher=f"bench-{i}")))
        yield buses


async def publish(buses: Sequence[Bus], numbers: range, *, in_flight: int = IN_FLIGHT) -> None:
    """Publish an event for each number, from all buses in turn; all are acknowledged when this returns."""

    async def one(number: int) -> None:
        event = Said(number=number, text=TEXT)
        await buses[number % len(buses)].publish(event, key=f"key-{number % KEYS}", timeout_s=PUBLISH_S)

    await at_once(one, numbers, in_flight)


async def at_once(act: Callable[[int], Awaitable[None]], numbers: range, in_flight: int) -> None:
    """Do it for each number, so many at a time."""
    left = iter(numbers)

    async def lane() -> None:
        for number in left:
            await act(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(in_flight, len(numbers))):
            tasks.create_task(lane())


async def timed(work: Awaitable[object]) -> tuple[float, float]:
    """Seconds that it took, and seconds of this process's CPU."""
    began_s, cpu_s = perf_counter(), process_time()
    await work
    return perf_counter() - began_s, process_time() - cpu_s
