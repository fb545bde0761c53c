"""The coordinator on the log's twin, with a clock that can be set."""

from datetime import timedelta
from typing import Any

import pytest

from hocket import Agent, Context, Event, OnExhausted, Retry
from hocket.host.crew import running
from hocket.testing import Bed, run_virtual
from hocket_schemas.briefs import BRIEF, BriefFailed, BriefPublished, BriefRequested
from hocket_schemas.cancels import CancelRequested
from hocket_schemas.event import Catalog
from hocket_schemas.limits import LimitExceeded
from hocket_schemas.runtime import SagaCancelled, SagaCompensated, SagaCompleted, SagaExpired, SagaFailed, SagaStuck
from hocket_schemas.undoing import EffectDone, UndoDecided

from .agent import coordinator

ENDS = (SagaCompleted, SagaFailed, SagaExpired, SagaCancelled, SagaCompensated, SagaStuck)

REQUESTED = BriefRequested(folder="/documents", out="/brief.md")
PUBLISHED = BriefPublished(path="/brief.md", digest="0" * 64, sentences=3, documents=2)
FAILED = BriefFailed(reason="The folder is empty.")

EVENTS = Catalog()

NO_TIME = timedelta()


class Bought(Event, type="test.bought.v1", catalog=EVENTS):
    """Has the shopper buy some things, in this order."""

    things: list[str]
    pays: int = 0
    then: str = ""
    """`fail` fails the saga after that; `raise` raises, as often as it is tried."""


class Shop:
    """The outside: what is bought and not given back."""

    def __init__(self, *, refusals: int = 0) -> None:
        self.held: list[str] = []
        self.given_back: list[str] = []
        self.refusals = refusals


def shopper(shop: Shop, name: str = "shopper") -> Agent:
    """An agent that buys, and can give back."""
    agent = Agent(name)

    @agent.effect(pivot=True)
    async def pay(cents: int) -> str:
        shop.held.append(f"{cents} cents")
        return "paid"

    @agent.effect()
    async def buy(thing: str) -> str:
        shop.held.append(thing)
        return f"receipt for {thing}"

    buy.undo_retry = Retry(attempts_max=2, first_s=0.01)

    @buy.undo
    async def give_back(thing: str, receipt: str) -> None:
        assert receipt == f"receipt for {thing}"
        if shop.refusals:
            shop.refusals -= 1
            raise OSError("the shop is closed")
        if thing in shop.held:
            shop.held.remove(thing)
            shop.given_back.append(thing)

    @agent.on(
        Bought,
        emits=[BriefFailed],
        retry=Retry(attempts_max=2, first_s=0.01),
        on_exhausted=OnExhausted.FAIL_SAGA,
    )
    async def go(event: Bought, ctx: Context) -> None:
        for thing in event.things:
            await ctx.step(buy, thing)
        if event.pays:
            await ctx.step(pay, event.pays)
        if event.then == "raise":
            raise ValueError("what now?")
        if event.then == "fail":
            ctx.emit(FAILED, key=ctx.saga)

    return agent


def told(*events: Any, wait: timedelta = NO_TIME, shop: Shop | None = None, key: str = "saga-1") -> list[Any]:
    """What the coordinator says of one saga whose events come, and then time passes. A command goes to it alone."""

    async def live() -> list[Any]:
        async with Bed(coordinator, shopper(shop or Shop())) as bed:
            for event in events:
                if isinstance(event, UndoDecided):
                    await bed.bus.command(event, to="coordinator", key="saga-1")
                else:
                    await bed.publish(event, key=key if isinstance(event, Bought) else "saga-1", saga="saga-1")
                await bed.settled()
            await bed.pass_time(wait)
            return bed.events(*ENDS)

    return run_virtual(live())


def test_a_saga_that_would_go_beyond_its_budget_fails_and_is_undone() -> None:
    shop = Shop()
    over = LimitExceeded(limit="tokens", most=10, count=11, agent="shopper", event="x", account="saga-1")

    said = told(REQUESTED, Bought(things=["tea"]), over, shop=shop)

    assert [type(fact) for fact in said] == [SagaFailed, SagaCompensated]
    assert said[0].failure == LimitExceeded.event_type
    assert said[1].reason == "shopper would have gone beyond its budget of 10 tokens"
    assert shop.given_back == ["tea"]


def test_a_limit_that_is_not_of_its_budget_is_no_end_of_a_saga() -> None:
    loop = LimitExceeded(limit="repeats", most=10, count=11, agent="shopper", event="x")
    others = LimitExceeded(limit="tokens", most=10, count=11, agent="shopper", event="x", account="saga-2")

    assert told(REQUESTED, loop, others) == []


def test_a_saga_is_undone_however_long_it_was() -> None:
    shop, things = Shop(), [f"thing {n}" for n in range(20)]  # two hops each: more than any chain of work may have

    said = told(REQUESTED, Bought(things=things, then="fail"), shop=shop)

    assert [type(fact) for fact in said] == [SagaFailed, SagaCompensated]
    assert shop.given_back == things[::-1]


def test_what_two_agents_have_bought_alike_is_given_back_twice() -> None:
    shop = Shop()

    async def live() -> list[Any]:
        async with Bed(coordinator, shopper(shop), shopper(shop, "second")) as bed:
            for event in (REQUESTED, Bought(things=["tea"]), FAILED):
                await bed.publish(event, key="saga-1", saga="saga-1")
                await bed.settled()
            return bed.events(*ENDS)

    failed, compensated = run_virtual(live())

    assert (type(failed), type(compensated)) == (SagaFailed, SagaCompensated)
    assert len(compensated.undone) == 2
    assert (shop.held, shop.given_back) == ([], ["tea", "tea"])


def test_a_saga_whose_last_event_came_is_completed() -> None:
    (said,) = told(REQUESTED, PUBLISHED)

    assert (type(said), said.name, said.saga) == (SagaCompleted, "brief", "saga-1")


def test_a_saga_with_a_failure_says_by_what_and_ends_compensated() -> None:
    failed, compensated = told(REQUESTED, FAILED)

    assert (type(failed), failed.failure) == (SagaFailed, "brief.failed.v1")
    assert (type(compensated), compensated.undone) == (SagaCompensated, [])


def test_a_saga_fails_by_an_event_that_its_agent_gives_up_if_the_handler_wants_it_so() -> None:
    shop = Shop()

    failed, compensated = told(REQUESTED, Bought(things=["a", "b"], then="raise"), shop=shop, key="elsewhere")

    assert (type(failed), failed.failure) == (SagaFailed, "hocket.handling.exhausted.v1")
    assert compensated.reason.startswith("shopper could not handle test.bought.v1: AttemptsExhausted: 2 attempts")
    assert shop.given_back == ["b", "a"]


def test_a_saga_that_does_not_end_expires_when_its_deadline_has_passed() -> None:
    early = told(REQUESTED, wait=BRIEF.deadline - timedelta(minutes=1))
    said, compensated = told(REQUESTED, wait=BRIEF.deadline + timedelta(seconds=1))

    assert early == []
    assert type(said) is SagaExpired
    assert said.missing == ["brief.published.v1", "brief.failed.v1", "brief.rejected.v1"]
    assert "not done within" in compensated.reason


def test_an_ended_saga_does_not_expire_as_well() -> None:
    said = told(REQUESTED, PUBLISHED, FAILED, wait=BRIEF.deadline + timedelta(seconds=1))

    assert [type(event) for event in said] == [SagaCompleted]


def test_an_end_without_a_start_is_none_of_ours() -> None:
    assert told(PUBLISHED) == []


def test_what_was_done_is_undone_the_newest_first() -> None:
    shop = Shop()

    said = told(REQUESTED, Bought(things=["a", "b", "c"], then="fail"), shop=shop)

    assert shop.held == []
    assert shop.given_back == ["c", "b", "a"]
    assert [type(event) for event in said] == [SagaFailed, SagaCompensated]
    assert said[-1].undone == ["shopper.<locals>.buy"] * 3


def test_a_completed_saga_keeps_what_it_did() -> None:
    shop = Shop()

    told(REQUESTED, Bought(things=["a"]), PUBLISHED, FAILED, shop=shop)

    assert shop.held == ["a"]


def test_an_effect_on_another_key_is_undone_as_well() -> None:
    shop = Shop()

    said = told(REQUESTED, Bought(things=["a"], then="fail"), shop=shop, key="elsewhere")

    assert shop.held == []
    assert type(said[-1]) is SagaCompensated


def test_a_person_can_end_a_saga_and_the_reason_is_told() -> None:
    shop = Shop()
    request = CancelRequested(saga="saga-1", by="ada", reason="no longer wanted")

    said = told(REQUESTED, Bought(things=["a"]), request, shop=shop)

    assert shop.held == []
    assert [type(event) for event in said] == [SagaCancelled, SagaCompensated]
    assert said[-1].reason == "cancelled by ada: no longer wanted"


def test_the_deadline_undoes_too() -> None:
    shop = Shop()

    told(REQUESTED, Bought(things=["a"]), wait=BRIEF.deadline + timedelta(seconds=1), shop=shop)

    assert shop.given_back == ["a"]


def test_an_undo_that_keeps_failing_parks_the_saga_until_a_person_decides() -> None:
    bought = Bought(things=["a", "b"], then="fail")
    stuck = told(REQUESTED, bought, shop=Shop(refusals=2))
    repaired, skipped = Shop(refusals=2), Shop(refusals=2)
    retried = told(REQUESTED, bought, UndoDecided(decision="retry", by="ada"), shop=repaired)
    left = told(REQUESTED, bought, UndoDecided(decision="skip", by="ada"), shop=skipped)

    assert [type(event) for event in stuck] == [SagaFailed, SagaStuck]
    assert "the shop is closed" in stuck[-1].reason
    assert (repaired.held, type(retried[-1])) == ([], SagaCompensated)
    assert (skipped.held, left[-1].skipped) == (["b"], ["shopper.<locals>.buy"])


async def undone_by_whoever_is_there(shop: Shop, *, decides: bool) -> list[Any]:
    """What is said of a saga whose agent is away while it is aborted, and comes back after the deadline."""
    agent = shopper(shop)
    async with Bed(coordinator) as bed:
        async with running(bed.crew(agent)):
            await bed.publish(REQUESTED, key="saga-1")
            await bed.publish(Bought(things=["a"]), key="saga-1")
            while not bed.events(EffectDone):
                await bed.server.changed()
        await bed.publish(FAILED, key="saga-1")
        await bed.settled()
        await bed.pass_time(BRIEF.undo_within - timedelta(minutes=1))
        assert not bed.events(SagaStuck)
        await bed.pass_time(timedelta(minutes=2))
        assert bed.state(coordinator, "saga-1").phase == "stuck"
        if decides:
            await bed.bus.command(UndoDecided(decision="retry", by="ada"), to="coordinator", key="saga-1")
            await bed.settled()
            assert bed.state(coordinator, "saga-1").phase == "aborting"
        async with running(bed.crew(agent)):
            while not bed.events(SagaCompensated):
                await bed.server.changed()
        await bed.quiet()
        return bed.events(*ENDS)


@pytest.mark.parametrize("decides", [True, False])
def test_an_undo_that_nobody_answers_is_stuck_until_its_agent_is_back(decides: bool) -> None:
    shop = Shop()

    said = run_virtual(undone_by_whoever_is_there(shop, decides=decides))

    assert [type(event) for event in said] == [SagaFailed, SagaStuck, SagaCompensated]
    assert "shopper was asked to undo shopper.<locals>.buy and has not answered within 0:10:00" in said[1].reason
    assert "hocket agents" in said[1].reason
    assert (shop.held, shop.given_back) == ([], ["a"])


def test_past_a_pivot_nothing_is_undone_until_a_person_decides_and_it_may_still_complete() -> None:
    bought = Bought(things=["a"], pays=5, then="fail")
    left, forward, back = Shop(), Shop(), Shop()

    stuck = told(REQUESTED, bought, shop=left)
    completed = told(REQUESTED, bought, PUBLISHED, shop=forward)
    skipped = told(REQUESTED, bought, UndoDecided(decision="skip", by="ada"), shop=back)

    assert (left.held, type(stuck[-1]), stuck[-1].effect) == (["a", "5 cents"], SagaStuck, "shopper.<locals>.pay")
    assert (forward.held, type(completed[-1])) == (["a", "5 cents"], SagaCompleted)
    assert (back.held, type(skipped[-1]), skipped[-1].skipped) == (["5 cents"], SagaCompensated, [stuck[-1].effect])
