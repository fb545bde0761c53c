"""More work than anybody can do at once: it is done in order, in bounded memory, and nobody else waits for it."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from tests.fault.services import written
from tests.fault.test_kills import until_all_finished
from tests.fault.test_network import LONG

from hocket.client import Bus, Receipt, connect
from hocket.host import health
from hocket.host.supervisor import Fleet
from hocket.subjects import Names, address
from hocket_schemas.envelope import Envelope

COLD_KEYS = 100
STARVED_S = 5.0
AT_ONCE = 100_000 if LONG else 4_000

BACKLOG = 50_000 if LONG else 2_000
PADDING = "x" * (2_000 if LONG else 50_000)
"""The backlog is some 100 MB."""

GROWTH_MAX_BYTES = 50 << 20
ASKED = 300 if LONG else 30
SLOWER_MAX = 2.0

IN_FLIGHT = 1_000

COUNTER = """
from pydantic import BaseModel

from hocket import Agent, Context, Event


class Ordered(Event, type="backlog.ordered.v1"):
    n: int


class Counted(Event, type="backlog.counted.v1"):
    n: int
    place: int


class Count(BaseModel):
    count: int = 0


counter = Agent("counter", state=Count)


@counter.on(Ordered)
async def count(event: Ordered, ctx: Context[Count]) -> Counted:
    ctx.state.count += 1
    return Counted(n=event.n, place=ctx.state.count)
"""

SLOW_S = 1.0 if LONG else 1.9
"""Not so long that a run is opened for it, and so long that the short backlog lasts for fifteen seconds."""

SLOW = f"""
import asyncio

from hocket import Agent, Event, Limits


class Wanted(Event, type="backlog.wanted.v1"):
    n: int
    padding: str


slow = Agent("slow", limits=Limits(window_bytes=10 << 20))


@slow.on(Wanted)
async def take(event: Wanted) -> None:
    await asyncio.sleep({SLOW_S})
"""


def service(tmp_path: Path, name: str, code: str, consumes: str, emits: str = "") -> Path:
    manifest = f'name = "{name}"\nconsumes = ["backlog.{consumes}.v1"]\nemits = [{emits}]\n'
    return written(tmp_path / name, code, manifest)


def counter(tmp_path: Path) -> Path:
    return service(tmp_path, "counter", COUNTER, "ordered", '"backlog.counted.v1"')


async def publish(bus: Bus, kind: str, key: str, n: int) -> Receipt:
    data = {"n": n, "padding": PADDING} if kind == "wanted" else {"n": n}
    envelope = Envelope(id=f"{key}-{n}", source="/test", type=f"backlog.{kind}.v1", data=data, partitionkey=key)
    return await bus.publish_envelope(envelope, timeout_s=60)


async def all_at_once(bus: Bus, kind: str, keys: Sequence[str]) -> int:
    """Publish one event for each key, as fast as the log takes them; return the last one's sequence."""
    last = 0
    for first in range(0, len(keys), IN_FLIGHT):
        some = range(first, min(first + IN_FLIGHT, len(keys)))
        receipts = await asyncio.gather(*(publish(bus, kind, keys[n], n) for n in some))
        last = max(receipt.seq for receipt in receipts)
    return last


@pytest.mark.timeout(600)  # seconds; in its long form minutes
async def test_events_that_come_at_once_and_half_of_them_for_one_key_are_handled_in_order_and_no_key_starves(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    keys = ["hot" if n % 2 else f"cold-{n // 2 % COLD_KEYS}" for n in range(AT_ONCE)]
    names = Names(domain, 0)
    async with (
        Fleet([counter(tmp_path)], url=nats_url, domain=domain) as fleet,
        connect(nats_url, domain=domain) as bus,
    ):
        await fleet.ready(30)

        last = await all_at_once(bus, "ordered", keys)
        await until_all_finished(bus, last, within_s=120)

        ordered: dict[str, list[int]] = {}
        answered: dict[str, list[tuple[int, int]]] = {}
        moved_s: dict[str, list[float]] = {}
        async for message in bus.logs[0].scan([names.all_events]):
            where, data = address(message.subject), orjson.loads(message.data)["data"]
            if where.type == "backlog.ordered.v1":
                ordered.setdefault(where.key, []).append(data["n"])
                if where.key in moved_s:
                    continue
            else:
                answered.setdefault(where.key, []).append((data["n"], data["place"]))
            moved_s.setdefault(where.key, []).append(message.time_ns / 1e9)

    assert answered == {key: [(n, place) for place, n in enumerate(told, 1)] for key, told in ordered.items()}
    assert len(ordered["hot"]) == AT_ONCE / 2
    starved = {key: max(b - a for a, b in pairwise(moved)) for key, moved in moved_s.items()}
    assert {key: stood for key, stood in starved.items() if stood > STARVED_S} == {}


@pytest.mark.timeout(600)
async def test_the_backlog_of_a_slow_agent_takes_no_memory_and_nobody_elses_time(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    slow = service(tmp_path, "slow", SLOW, "wanted")
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(Fleet([slow, counter(tmp_path)], url=nats_url, domain=domain))
        bus = await stack.enter_async_context(connect(nats_url, domain=domain))
        seen = await stack.enter_async_context(health.listening(bus.logs))
        await fleet.ready(30)
        before = await latencies(bus, "before")
        at_rest = await told(seen)
        last = await all_at_once(bus, "wanted", [f"key-{n}" for n in range(BACKLOG)])
        busy = await told(seen)

        during = await latencies(bus, "during")

        still = await told(seen)
        await until_all_finished(bus, last, "slow", within_s=300)

    assert still.lag, "there was no backlog any more, so nothing was proved"
    grown = [(card.memory_bytes or 0) - (at_rest.memory_bytes or 0) for card in (busy, still)]
    assert max(grown) <= GROWTH_MAX_BYTES
    if LONG:  # on a machine that does other things beside it, a disk is now and then slow for one of both
        assert during <= SLOWER_MAX * before


async def latencies(bus: Bus, name: str) -> float:
    """Have events counted one after the other; return the 99th percentile of what that takes, in seconds."""
    took_s = []
    counted = bus.logs[0].scan([Names(bus.domain, 0).events_of_type("backlog.counted.v1")], follow=True)
    n = -1
    async with asyncio.timeout(120):
        for i in range(ASKED):
            began_s = time.monotonic()
            await publish(bus, "ordered", f"{name}-{i}", i)
            while n != i:
                message = await anext(counted)
                n = orjson.loads(message.data)["data"]["n"] if f".{name}-{i}." in message.subject else n
            took_s.append(time.monotonic() - began_s)
    await counted.aclose()
    return sorted(took_s)[int(0.99 * len(took_s))]


async def told(seen: health.Health) -> health.Card:
    """What the slow agent's owner says of itself, once it has been heard again."""
    loop = asyncio.get_running_loop()
    asked_s = loop.time()
    async with asyncio.timeout(20):
        while True:
            card = seen.owner("slow", 0, loop.time())
            if card is not None and card.heard_s > asked_s:
                return card
            await asyncio.sleep(0.05)
