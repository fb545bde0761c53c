"""The saga on FastStream: four subscribers on JetStream that publish on, and promise nothing more."""

import asyncio
from typing import Any

from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub
from lanes import HOPS, SETTINGS, run, serve, until_closed, worker
from nats.js.api import ConsumerConfig, StorageType

FETCHED = 500
"""How many a subscriber fetches, and handles, at once."""

STREAM = JStream("compare", subjects=["compare.*"], storage=StorageType.FILE)


async def work() -> None:
    """The four subscribers."""
    broker = NatsBroker(SETTINGS["nats"], logger=None)
    for i in range(HOPS):
        link(broker, i)
    async with broker:
        await broker.start()
        await until_closed()


def link(broker: NatsBroker, i: int) -> None:
    """The subscriber of one hop."""

    @broker.subscriber(
        f"compare.{i}",
        stream=STREAM,
        durable=f"link-{i}",
        pull_sub=PullSub(batch_size=FETCHED),
        config=ConsumerConfig(max_ack_pending=20_000),
        ack_policy=AckPolicy.REJECT_ON_ERROR,
    )
    async def pass_on(passed: dict[str, Any]) -> None:
        await broker.publish(passed | {"hop": i + 1}, f"compare.{i + 1}", stream="compare", timeout=30)


async def main() -> None:
    """Publish first events, hear of the last ones, and be measured."""
    broker = NatsBroker(SETTINGS["nats"], logger=None)
    arrived: dict[int, asyncio.Event] = {}

    @broker.subscriber(f"compare.{HOPS}", stream=STREAM, ordered_consumer=True, ack_policy=AckPolicy.MANUAL)
    async def end(passed: dict[str, Any]) -> None:
        assert passed["hop"] == HOPS
        arrived[passed["number"]].set()

    async def saga(number: int) -> None:
        over = arrived[number] = asyncio.Event()
        first = {"number": number, "text": SETTINGS["text"], "hop": 0}
        await broker.publish(first, "compare.0", stream="compare", timeout=30)
        await over.wait()
        del arrived[number]

    async with broker:
        await broker.start()
        async with worker():
            await serve(saga, "faststream", "nats-py")


run(work() if SETTINGS.get("role") == "worker" else main())
