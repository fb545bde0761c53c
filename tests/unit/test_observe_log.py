"""Looking into a small log that real agents have written on the twin."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from hocket.agent import Agent
from hocket.cli.deeds import NAME_LENGTH_MAX, named, outcome, took, waiting_for
from hocket.cli.output import short
from hocket.context import Context
from hocket.errors import MalformedEvent, NotFound
from hocket.log.base import Write
from hocket.observe.fact import Fact, fact_of
from hocket.observe.history import Remembered, RunHead, State, history
from hocket.observe.letters import DeadLetter, letters
from hocket.observe.sagas import SagaState, facts_in, fold
from hocket.observe.settling import redrive
from hocket.observe.why import why
from hocket.policy import Retry
from hocket.subjects import Names
from hocket.testing import Bed
from hocket_schemas.approvals import ApprovalRequested
from hocket_schemas.event import Catalog, Event
from hocket_schemas.sagas import Saga

LOCAL = Catalog()


class OrderPlaced(Event, type="order.placed.v1", catalog=LOCAL):
    cents: int = 100


class OrderPriced(Event, type="order.priced.v1", catalog=LOCAL):
    cents: int


class OrderShipped(Event, type="order.shipped.v1", catalog=LOCAL):
    pass


class OrderRefused(Event, type="order.refused.v1", catalog=LOCAL):
    pass


class Count(BaseModel):
    orders: int = 0


ORDER = Saga("order", starts=OrderPlaced, done=OrderShipped, fails=[OrderRefused], deadline=timedelta(hours=1))


class Broken(Exception):
    """What the shipper raises until it is mended."""


class Shop:
    """A pricer, a shipper that may be broken, and a watcher that hears prices too."""

    def __init__(self) -> None:
        self.broken = False
        self.watched = 0
        self.pricer: Agent[Count] = Agent("pricer", state=Count, version="2")
        self.shipper = Agent("shipper", version="3")
        self.watcher = Agent("watcher")

        @self.pricer.on(OrderPlaced)
        async def price(event: OrderPlaced, ctx: Context[Count]) -> OrderPriced | OrderRefused:
            ctx.state.orders += 1
            return OrderPriced(cents=event.cents) if event.cents else OrderRefused()

        @self.shipper.on(OrderPriced, retry=Retry(attempts_max=1))
        async def ship(event: OrderPriced) -> OrderShipped:
            if self.broken:
                raise Broken("no van")
            return OrderShipped()

        @self.watcher.on(OrderPriced)
        async def watch(event: OrderPriced) -> None:
            self.watched += 1


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
async def bed(shop: Shop) -> AsyncIterator[Bed]:
    async with Bed(shop.pricer, shop.shipper, shop.watcher) as bed:
        yield bed


async def facts(bed: Bed) -> list[Fact]:
    return [fact async for fact in facts_in(bed.bus)]


async def the_event(bed: Bed, event: type[Event], nth: int = 0) -> str:
    return [fact_of(d).id async for d in bed.bus.read(event)][nth]


async def test_an_event_is_there_because_of_its_causes(bed: Bed) -> None:
    await bed.publish(OrderPlaced(), key="o-1", event_id="web-1")
    await bed.quiet()

    chain = await why(bed.bus, await the_event(bed, OrderShipped))

    assert [(f.type, f.publisher, f.version) for f in chain.facts] == [
        ("order.placed.v1", "test", None),
        ("order.priced.v1", "pricer", "2"),
        ("order.shipped.v1", "shipper", "3"),
    ]
    assert chain.facts[0].id == "web-1"
    assert chain.missing is None
    assert chain.letters == ()


async def test_a_trigger_knows_what_it_led_to(bed: Bed) -> None:
    await bed.publish(OrderPlaced(), key="other")
    await bed.publish(OrderPlaced(), key="o-1", event_id="web-1")
    await bed.quiet()

    chain = await why(bed.bus, "web-1")

    assert [(f.type, f.key) for f in chain.led_to] == [("order.priced.v1", "o-1"), ("order.shipped.v1", "o-1")]


async def test_a_trigger_knows_the_dead_letters_that_it_led_to(bed: Bed, shop: Shop) -> None:
    shop.broken = True
    await bed.publish(OrderPlaced(), key="o-1", event_id="web-1")
    await bed.quiet()

    chain = await why(bed.bus, "web-1")

    assert [(letter.agent, letter.reason) for letter in chain.letters] == [("shipper", "AttemptsExhausted")]


async def test_a_chain_says_which_cause_the_log_has_forgotten(bed: Bed) -> None:
    await bed.publish(OrderPlaced(), key="o-1", event_id="web-1")
    await bed.quiet()
    placed = (await bed.bus.find("web-1")).message
    bed.server._forget(placed)
    del bed.server._newest[placed.subject]

    chain = await why(bed.bus, await the_event(bed, OrderShipped))

    assert [f.type for f in chain.facts] == ["order.priced.v1", "order.shipped.v1"]
    assert chain.missing == "web-1"


async def test_an_event_that_is_not_there_has_no_reason(bed: Bed) -> None:
    with pytest.raises(NotFound, match="no-such-event"):
        await why(bed.bus, "no-such-event")


async def test_a_key_has_its_history_in_log_order(bed: Bed, shop: Shop) -> None:
    shop.broken = True
    await bed.publish(OrderPlaced(), key="o-1")
    await bed.publish(OrderPlaced(), key="o-2")
    await bed.quiet()

    entries = await history(bed.bus, "o-1")

    assert [entry.seq for entry in entries] == sorted(entry.seq for entry in entries)
    assert {entry.key for entry in entries} == {"o-1"}
    assert [e.type for e in entries if isinstance(e, Fact)] == ["order.placed.v1", "order.priced.v1"]
    assert [e.state for e in entries if isinstance(e, State)] == [{"orders": 1}]
    assert [e.error for e in entries if isinstance(e, DeadLetter)] == ["1 attempts, the last: Broken: no van"]
    assert [e for e in entries if isinstance(e, RunHead)] == []


async def test_a_history_shows_what_a_run_did_and_until_when_it_waits() -> None:
    waiter = Agent("waiter", version="4")

    @waiter.on(OrderPlaced)
    async def wait(event: OrderPlaced, ctx: Context) -> None:
        await ctx.step(half, event.cents)
        await ctx.sleep(3600)

    async with Bed(waiter) as bed:
        await bed.publish(OrderPlaced(), key="o-1")
        async with asyncio.timeout(10):
            while not any(isinstance(entry, RunHead) and entry.until for entry in await history(bed.bus, "o-1")):
                await bed.server.changed()
        entries = await history(bed.bus, "o-1")

    assert [(e.kind, e.name, e.result) for e in entries if isinstance(e, Remembered)][:1] == [("step", "half", 50)]
    assert [(e.agent, e.version) for e in entries if isinstance(e, RunHead)] == [("waiter", "4")]


def half(cents: int) -> int:
    return cents // 2


async def test_a_reason_tells_what_agents_did_on_the_way_and_who_approved() -> None:
    buyer = Agent("buyer")

    @buyer.effect()
    async def order(cents: int) -> str:
        return "X7"

    @buyer.on(OrderPlaced)
    async def buy(event: OrderPlaced, ctx: Context) -> OrderShipped:
        price = await ctx.step(half, event.cents)
        await ctx.step(half, price)
        await ctx.approve("Buy it?", timeout=3600)
        await ctx.step(order, price)
        return OrderShipped()

    async with Bed(buyer) as bed:
        await bed.publish(OrderPlaced(), key="o-1", event_id="web-1")
        await bed.settled()
        before = (await why(bed.bus, "web-1")).handlings
        await bed.decide(by="ann", reason="cheap")
        await bed.quiet()
        asked = await the_event(bed, ApprovalRequested)

        (handling,) = (await why(bed.bus, await the_event(bed, OrderShipped))).handlings
        decided = [fact_of(d) async for d in bed.bus.read(OrderShipped)]
        questions = [e for e in await history(bed.bus, "o-1") if isinstance(e, Fact) and e.to is not None]

    assert [(deed.kind, deed.phase) for deed in before[0].did][-1] == ("approval", "begun")
    assert (handling.agent, handling.event_id, handling.event_type) == ("buyer", "web-1", "order.placed.v1")
    assert [(deed.kind, named(deed), outcome(deed)) for deed in handling.did] == [
        ("step", half.__qualname__, "50"),
        ("step", f"{half.__qualname__} #2", "25"),
        ("approval", "Buy it?", "approved by ann: cheap"),
        ("effect", short(order.name, NAME_LENGTH_MAX), "X7"),
    ]
    assert all(took(deed) for deed in handling.did)
    assert len(decided) == 1
    assert [(fact.cause, fact.saga) for fact in questions] == [(asked, "o-1")]


async def test_an_open_run_says_what_it_waits_for() -> None:
    waiter = Agent("waiter")

    @waiter.on(OrderPlaced, waits=[OrderPriced])
    async def wait(event: OrderPlaced, ctx: Context) -> None:
        if event.cents:
            await ctx.approve("Go on?")
        await ctx.wait(OrderPriced)

    async with Bed(waiter) as bed:
        await bed.publish(OrderPlaced(), key="asks")
        await bed.publish(OrderPlaced(cents=0), key="waits")
        await bed.settled()

        heads = [e for key in ("asks", "waits") for e in await history(bed.bus, key) if isinstance(e, RunHead)]

    assert [waiting_for(head) for head in heads] == ["asks: Go on?", "waits for order.priced.v1"]


def remembered(kind: str, phase: str, **others: Any) -> Remembered:
    fields: dict[str, Any] = {"result": None, "error": None, "until": None, "word": "", "arguments": None}
    return Remembered("a", "k", "r", 1, "", kind, phase, "it", 0, 0.0, **(fields | others))


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (remembered("step", "done", error="StepFailed: no"), "failed: StepFailed: no"),
        (remembered("effect", "begun", arguments=[["X"], {}]), 'begun, with [["X"],{}]'),
        (remembered("effect", "parked", word="9b1d"), "nobody knows whether it happened: hocket resolve 9b1d"),
        (remembered("effect", "void"), "did not happen"),
        (remembered("sleep", "done", until="2026-01-01T00:00:00.000Z"), "sleeps until 2026-01-01 00:00:00.000"),
        (remembered("wait", "begun"), "waits"),
        (remembered("wait", "done", result={"seq": 1, "type": "a.b.v1", "data": {"n": 1}}), '{"n":1}'),
        (
            remembered("approval", "done", result={"option": "expired", "by": [], "reason": "", "edited": False}),
            "expired",
        ),
        (remembered("notice", "done", result={"vanished": ["half"], "changed": []}), "vanished: half"),
    ],
)
def test_what_was_done_is_told_in_words(deed: Remembered, words: str) -> None:
    assert outcome(deed) == words


async def test_a_key_that_nobody_used_has_no_history(bed: Bed) -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        await history(bed.bus, "nobody")


async def test_a_letter_that_is_sent_again_reaches_its_agent_alone_and_once(bed: Bed, shop: Shop) -> None:
    shop.broken = True
    await bed.publish(OrderPlaced(), key="o-1", saga="s-1")
    await bed.quiet()
    [letter] = [letter async for letter in letters(bed.bus)]
    shop.broken = False

    async with bed.bus.subscribe(OrderShipped, start="start") as shipped:
        first = await redrive(bed.bus, letter, by="ada")
        answer = fact_of(await anext(shipped))
    second = await redrive(bed.bus, letter, by="ada")

    assert (letter.agent, letter.type, letter.saga) == ("shipper", "order.priced.v1", "s-1")
    assert (first.duplicate, second.duplicate) == (False, True)
    assert (answer.cause, answer.key, answer.saga) == (first.fate.redriven_as, "o-1", "s-1")
    assert shop.watched == 1


async def test_what_was_sent_again_still_knows_where_it_comes_from(bed: Bed, shop: Shop) -> None:
    shop.broken = True
    await bed.publish(OrderPlaced(), key="o-1", event_id="web-1")
    await bed.quiet()
    [letter] = [letter async for letter in letters(bed.bus)]
    shop.broken = False
    async with bed.bus.subscribe(OrderShipped, start="start") as shipped:
        await redrive(bed.bus, letter, by="ada")
        answer = fact_of(await anext(shipped))

    chain = await why(bed.bus, answer.id)
    onward = await why(bed.bus, "web-1")

    assert [(f.type, f.to) for f in chain.facts] == [
        ("order.placed.v1", None),
        ("order.priced.v1", None),
        ("order.priced.v1", "shipper"),
        ("order.shipped.v1", None),
    ]
    assert [found.id for found in chain.letters] == [letter.id]
    assert [f.id for f in onward.led_to] == [f.id for f in chain.facts[1:]]
    assert [found.id for found in onward.letters] == [letter.id]


async def test_a_letter_about_no_event_is_not_sent_again(bed: Bed) -> None:
    forged = Names("hocket", 0).event("o-1", "stranger", "x", 0, "order.placed.v1")
    await bed.bus.logs[0].append([Write(forged, b"not json")])
    await bed.quiet()
    [letter] = [letter async for letter in letters(bed.bus)]

    with pytest.raises(MalformedEvent):
        await redrive(bed.bus, letter, by="ada")

    assert letter.id.startswith("seq-")


async def test_letters_are_found_by_the_events_id(bed: Bed, shop: Shop) -> None:
    shop.broken = True
    await bed.publish(OrderPlaced(), key="o-1")
    await bed.publish(OrderPlaced(), key="o-2")
    await bed.quiet()
    wanted = await the_event(bed, OrderPriced, nth=1)

    found = [letter async for letter in letters(bed.bus, event_id=wanted)]

    assert [(letter.id, letter.key) for letter in found] == [(wanted, "o-2")]


async def test_sagas_stand_where_their_events_say(bed: Bed, shop: Shop) -> None:
    await bed.publish(OrderPlaced(), key="done")
    await bed.publish(OrderPlaced(cents=0), key="refused")
    await bed.quiet()
    shop.broken = True
    await bed.publish(OrderPlaced(), key="running")
    await bed.publish(OrderPriced(cents=1), key="no-policy")
    await bed.quiet()

    lines = {line.id: line for line in fold([ORDER], await facts(bed), bed.server.clock.now_s())}

    assert {saga: line.state for saga, line in lines.items()} == {
        "done": SagaState.COMPLETED,
        "refused": SagaState.FAILED,
        "running": SagaState.RUNNING,
        "no-policy": SagaState.OPEN,
    }
    assert (lines["done"].name, lines["done"].events, lines["done"].last_type) == ("order", 3, "order.shipped.v1")
    assert lines["refused"].ended_by == await the_event(bed, OrderRefused)
    assert lines["no-policy"].name is None


async def test_a_saga_expires_when_its_deadline_passes(bed: Bed, shop: Shop) -> None:
    shop.broken = True
    await bed.publish(OrderPlaced(), key="late")
    await bed.quiet()
    found = await facts(bed)
    now_s = bed.server.clock.now_s()

    before = fold([ORDER], found, now_s + 3500)
    after = fold([ORDER], found, now_s + 3700)

    assert [line.state for line in (*before, *after)] == [SagaState.RUNNING, SagaState.EXPIRED]


def _fact(seq: int, event_type: str, data: object = None) -> Fact:
    return Fact(
        seq=seq,
        shard=0,
        id=f"e-{seq}",
        type=event_type,
        key="k",
        saga="s",
        source="/x",
        publisher="x",
        to=None,
        cause=None,
        version=None,
        hops=0,
        time=None,
        stored=f"2026-01-01T00:00:{seq:02}.000Z",
        data=data,
    )


@pytest.mark.parametrize(
    ("types", "state"),
    [
        (["order.shipped.v1", "order.refused.v1"], SagaState.COMPLETED),
        (["order.refused.v1", "order.shipped.v1"], SagaState.FAILED),
        (["hocket.saga.expired.v1", "order.shipped.v1"], SagaState.EXPIRED),
        (["hocket.saga.failed.v1"], SagaState.FAILED),
        (["hocket.saga.cancelled.v1"], SagaState.CANCELLED),
        (["hocket.saga.failed.v1", "hocket.saga.compensated.v1"], SagaState.COMPENSATED),
        (["order.refused.v1", "hocket.saga.stuck.v1", "hocket.saga.compensated.v1"], SagaState.COMPENSATED),
        (["order.refused.v1", "hocket.saga.compensated.v1", "hocket.saga.stuck.v1"], SagaState.STUCK),
    ],
)
def test_the_first_word_about_a_sagas_end_stands(types: list[str], state: SagaState) -> None:
    found = [_fact(seq, event_type) for seq, event_type in enumerate(["order.placed.v1", *types])]

    [line] = fold([ORDER], found, now_s=1_767_225_660.0)

    assert (line.state, line.ended_by) == (state, "e-1")
