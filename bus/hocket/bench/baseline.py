"""What hocket is measured against: plain JetStream publishes, with one ack each, one by one or as the hops of a chain.

No deduplication, no fence, no state: a message handled twice is passed on twice. In order, each consumer
handles one message after the other, as a plain loop does; at once, all that it has fetched, and what was first
need not stay first. Run as a module it is the process with the four consumers.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import nats
import orjson
from nats.js.api import ConsumerConfig, StorageType, StreamConfig

from hocket.bench.load import TEXT, answer, own_costs
from hocket.host.runtime import run

IN_ORDER = "plain"
AT_ONCE = "loose"
LENGTH = 4
FETCHED = 500


@asynccontextmanager
async def publishing(url: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Makes one plain publish with its ack, to a stream of its own."""
    connection = await nats.connect(url)
    js = connection.jetstream()
    await js.add_stream(StreamConfig(name="single", subjects=["single.>"], storage=StorageType.FILE))
    numbers = count()

    async def publish() -> None:
        number = next(numbers)
        await js.publish(f"single.{number}", orjson.dumps({"number": number, "text": TEXT}), timeout=30)

    try:
        yield publish
    finally:
        await connection.close()


@asynccontextmanager
async def client(
    url: str, kind: str
) -> AsyncIterator[tuple[Callable[[int], Awaitable[None]], dict[int, asyncio.Event]]]:
    """Starts chains with a plain publish each, and hears of their ends."""
    arrived: dict[int, asyncio.Event] = {}
    connection = await nats.connect(url)
    js = connection.jetstream()

    async def heard(message: Any) -> None:
        arrived[orjson.loads(message.data)["number"]].set()

    await js.subscribe(f"{kind}.{LENGTH}", ordered_consumer=True, cb=heard)

    async def start(number: int) -> None:
        await js.publish(f"{kind}.0", orjson.dumps({"number": number, "text": TEXT}), timeout=30)

    try:
        yield start, arrived
    finally:
        await connection.close()


async def parsed(
    url: str, stream: str, subjects: str, expected: int
) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    """Reads so many messages of a stream in their order, each with its subject, and its JSON parsed."""
    connection = await nats.connect(url)
    try:
        subscription = await connection.jetstream().subscribe(subjects, stream=stream, ordered_consumer=True)
        for _ in range(expected):
            message = await subscription.next_msg(timeout=30)
            yield message.subject, orjson.loads(message.data)
    finally:
        await connection.close()


async def main(url: str, kind: str) -> None:
    """Pass messages on until the measuring process closes our standard input."""
    connection = await nats.connect(url)
    js = connection.jetstream()
    await js.add_stream(StreamConfig(name=kind, subjects=[f"{kind}.>"], storage=StorageType.FILE))
    published = 0

    async def pass_on(message: Any, i: int) -> None:
        nonlocal published
        data = orjson.loads(message.data)
        await js.publish(f"{kind}.{i + 1}", orjson.dumps(data), timeout=30)
        published += 1
        await message.ack()

    async def consume(i: int) -> None:
        config = ConsumerConfig(max_ack_pending=20_000)
        subscription = await js.pull_subscribe(f"{kind}.{i}", durable=f"link-{i}", config=config)
        while True:
            try:
                messages = await subscription.fetch(FETCHED, timeout=5)
            except TimeoutError:
                continue
            if kind == AT_ONCE:
                await asyncio.gather(*(pass_on(message, i) for message in messages))
            else:
                for message in messages:
                    await pass_on(message, i)

    async with asyncio.TaskGroup() as tasks:
        consumers = [tasks.create_task(consume(i)) for i in range(LENGTH)]
        await answer(lambda: own_costs() | {"commits": published})
        for consumer in consumers:
            consumer.cancel()
    await connection.close()


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
