"""Sagas that start others, on the log's twin: what the end of one means to the other."""

import asyncio
from datetime import timedelta

import pytest
from tests.fault.services import coordinator

from hocket import Agent, Context, Event, Retry, Saga
from hocket.observe.sagas import SagaState, facts_in, fold
from hocket.testing import Bed, run_virtual
from hocket_schemas.cancels import CancelRequested
from hocket_schemas.children import ChildEnded
from hocket_schemas.event import Catalog
from hocket_schemas.runtime import SagaCancelled, SagaCompensated, SagaCompleted, SagaExpired, SagaFailed, SagaStuck
from hocket_schemas.sagas import Link
from hocket_schemas.undoing import UndoDecided

EVENTS = Catalog()

HOUR = timedelta(hours=1)
ENDS = (SagaCompleted, SagaFailed, SagaExpired, SagaCancelled, SagaCompensated, SagaStuck)


class TripAsked(Event, type="family.trip.asked.v1", catalog=EVENTS):
    pass


class TripBooked(Event, type="family.trip.booked.v1", catalog=EVENTS):
    pass


class TripRefused(Event, type="family.trip.refused.v1", catalog=EVENTS):
    pass


class StayAsked(Event, type="family.stay.asked.v1", catalog=EVENTS):
    pass


class StayBooked(Event, type="family.stay.booked.v1", catalog=EVENTS):
    pass


class StayRefused(Event, type="family.stay.refused.v1", catalog=EVENTS):
    pass


class Wanted(Event, type="family.wanted.v1", catalog=EVENTS):
    """Has a thing bought, a stay started, or both."""

    thing: str = ""
    stay: str = ""
    link: Link | None = None


class WantedElsewhere(Wanted, type="family.wanted.elsewhere.v1", catalog=EVENTS):
    """The same of another shop."""


class FairAsked(Event, type="family.fair.asked.v1", catalog=EVENTS):
    pass


class FairEnded(Event, type="family.fair.ended.v1", catalog=EVENTS):
    pass


class Reopened(Event, type="family.reopened.v1", catalog=EVENTS):
    """The shop opens."""


TRIP = Saga("family-trip", starts=TripAsked, done=TripBooked, fails=[TripRefused], deadline=HOUR * 2)
STAY = Saga("family-stay", starts=StayAsked, done=StayBooked, fails=[StayRefused], deadline=HOUR)

FAIR = Saga("family-fair", starts=FairAsked, done=FairEnded, fails=[TripRefused], deadline=HOUR, undo="parallel")
COORDINATOR = coordinator()


class Family:
    """A trip, its stays, and a shop that remembers what it sold and took back."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.given_back: list[str] = []
        self.closed = False
        self.at_work = self.at_once = 0
        self.shops = [self._shop("shopper", Wanted), self._shop("other-shopper", WantedElsewhere)]
        self.bed: Bed

    def _shop(self, name: str, wanted: type[Wanted]) -> Agent:
        shopper = Agent(name)

        @shopper.effect()
        async def buy(thing: str) -> str:
            self.held.append(thing)
            return thing

        buy.undo_retry = Retry(attempts_max=1)

        @buy.undo
        async def give_back(thing: str, receipt: str) -> None:
            if self.closed:
                raise OSError("the shop is closed")
            self.at_work += 1
            self.at_once = max(self.at_once, self.at_work)
            await asyncio.sleep(1.0)
            self.at_work -= 1
            self.held.remove(thing)
            self.given_back.append(thing)

        @shopper.on(wanted, emits=[StayAsked])
        async def go(event: Wanted, ctx: Context) -> None:
            if event.thing:
                await ctx.step(buy, event.thing)
            if event.stay:
                ctx.start(StayAsked(), saga=event.stay, link=event.link)

        return shopper

    async def hear(self, saga: str, *events: Event) -> None:
        for event in events:
            if isinstance(event, Reopened):
                self.closed = False
            elif isinstance(event, UndoDecided):
                await self.bed.bus.command(event, to="coordinator", key=saga)
            else:
                await self.bed.publish(event, key=saga)
            await self.bed.settled()

    def live(self, *moves: tuple[str, Event] | timedelta) -> list[tuple[str, str]]:
        """Live through it; return which saga ended how, in log order."""

        async def story() -> list[tuple[str, str]]:
            async with Bed(COORDINATOR, *self.shops) as self.bed:
                for move in moves:
                    if isinstance(move, timedelta):
                        await self.bed.pass_time(move)
                    else:
                        await self.hear(*move)
                self.ended = self.bed.events(ChildEnded)
                self.said = self.bed.events(*ENDS)
                facts = [fact async for fact in facts_in(self.bed.bus)]
                lines = fold([TRIP, STAY], facts, self.bed.server.clock.now_s())
                self.lines = {line.id: line for line in lines}
                assert not self.bed.dead(COORDINATOR)
                return [(said.saga, type(said).__name__.removeprefix("Saga").lower()) for said in self.said]

        return run_virtual(story())


A, B, C = (Wanted(thing=thing) for thing in "abc")


SKIPPED = UndoDecided(decision="skip", by="ada")


def stay(link: Link | None = None) -> tuple[str, Event]:
    return ("trip", Wanted(stay="stay", link=link))


def test_an_abort_cascades_to_a_child_in_its_turn_also_when_that_had_completed() -> None:
    family = Family()

    said = family.live(
        ("trip", TripAsked()),
        ("trip", A),
        stay(),
        ("stay", B),
        ("stay", StayBooked()),
        ("trip", C),
        ("trip", TripRefused()),
    )

    assert family.given_back == ["c", "b", "a"]
    assert said == [
        ("stay", "completed"),
        ("trip", "failed"),
        ("stay", "cancelled"),
        ("stay", "compensated"),
        ("trip", "compensated"),
    ]
    assert family.said[-1].undone[1] == "saga stay"
    assert family.said[-2].reason == "its parent trip is aborted: failed by family.trip.refused.v1"
    assert (family.lines["stay"].parent, family.lines["stay"].state) == ("trip", SagaState.COMPENSATED)
    assert [(child.id, child.state) for child in family.lines["trip"].children] == [("stay", "compensated")]


def test_an_abort_reaches_grandchildren_that_are_under_way() -> None:
    family = Family()
    grandchild = ("stay", Wanted(thing="b", stay="room"))

    said = family.live(
        ("trip", TripAsked()), stay(), grandchild, ("room", C), ("trip", CancelRequested(saga="trip", by="ada"))
    )

    assert family.given_back == ["c", "b"]
    assert [saga for saga, how in said if how == "compensated"] == ["room", "stay", "trip"]


def test_a_parent_completes_without_a_child_that_cascades_and_that_goes_on_alone() -> None:
    family = Family()

    said = family.live(
        ("trip", TripAsked()), ("trip", A), stay(), ("stay", B), ("trip", TripBooked()), ("stay", StayRefused())
    )

    assert said == [("trip", "completed"), ("stay", "failed"), ("stay", "compensated")]
    assert family.held == ["a"]
    assert [(told.child, told.name, told.state) for told in family.ended] == [("stay", "family-stay", "compensated")]


def test_a_parent_waits_for_the_end_of_its_child() -> None:
    family = Family()

    said = family.live(("trip", TripAsked()), stay("wait"), ("trip", TripBooked()), ("trip", TripRefused()))
    waiting = family.lines["trip"].state
    completed = family.live(
        ("trip", TripAsked()), stay("wait"), ("trip", TripBooked()), ("stay", B), ("stay", StayBooked())
    )

    assert (said, waiting) == ([], SagaState.RUNNING)
    assert completed == [("stay", "completed"), ("trip", "completed")]
    assert family.held == ["b"]


def test_a_child_that_is_waited_for_and_fails_fails_its_parent() -> None:
    family = Family()

    said = family.live(
        ("trip", TripAsked()), ("trip", A), stay("wait"), ("stay", B), ("trip", TripBooked()), ("stay", StayRefused())
    )

    assert said == [("stay", "failed"), ("stay", "compensated"), ("trip", "failed"), ("trip", "compensated")]
    assert family.said[2].failure == "hocket.child.ended.v1"
    assert "saga stay did not complete: failed by family.stay.refused.v1" in family.said[3].reason
    assert family.held == []


def test_an_aborted_parent_lets_a_child_that_it_waits_for_come_to_its_own_end() -> None:
    family = Family()

    said = family.live(
        ("trip", TripAsked()), ("trip", A), stay("wait"), ("stay", B), ("trip", TripRefused()), ("stay", StayBooked())
    )

    assert said == [("trip", "failed"), ("stay", "completed"), ("trip", "compensated")]
    assert (family.held, family.given_back) == (["b"], ["a"])


def test_a_detached_child_goes_its_own_way() -> None:
    family = Family()

    said = family.live(
        ("trip", TripAsked()), stay("detach"), ("stay", B), ("trip", TripRefused()), ("stay", StayBooked())
    )

    assert said == [("trip", "failed"), ("trip", "compensated"), ("stay", "completed")]
    assert family.held == ["b"]


@pytest.mark.parametrize("whom", ["stay", "trip"])
def test_a_child_that_is_stuck_makes_its_parent_stuck_and_either_can_be_retried(whom: str) -> None:
    family = Family()

    family.closed = True
    stuck = family.live(("trip", TripAsked()), ("trip", A), stay(), ("stay", B), ("trip", TripRefused()))
    reason = family.said[-1].reason
    left = list(family.held)
    family.held.clear()
    said = family.live(
        ("trip", TripAsked()),
        ("trip", A),
        stay(),
        ("stay", B),
        ("trip", TripRefused()),
        (whom, Reopened()),
        (whom, UndoDecided(decision="retry", by="ada")),
    )

    assert stuck[-2:] == [("stay", "stuck"), ("trip", "stuck")]
    assert "saga stay is stuck: " in reason
    assert "the shop is closed" in reason
    assert left == ["a", "b"]
    assert said[-2:] == [("stay", "compensated"), ("trip", "compensated")]
    assert family.given_back == ["b", "a"]


def test_a_child_that_is_stuck_already_says_so_to_its_parent() -> None:
    family = Family()
    family.closed = True

    said = family.live(
        ("trip", TripAsked()), stay(), ("stay", B), ("stay", StayRefused()), ("trip", TripRefused()), ("stay", SKIPPED)
    )

    assert said == [
        ("stay", "failed"),
        ("stay", "stuck"),
        ("trip", "failed"),
        ("trip", "stuck"),
        ("stay", "compensated"),
        ("trip", "compensated"),
    ]


def test_a_child_that_does_not_end_is_waited_for_until_its_own_deadline_and_then_fails_its_parent() -> None:
    family = Family()

    said = family.live(("trip", TripAsked()), stay("wait"), ("trip", TripBooked()), HOUR + timedelta(seconds=1))

    assert said == [("stay", "expired"), ("stay", "compensated"), ("trip", "failed"), ("trip", "compensated")]


@pytest.mark.parametrize(("saga", "started", "at_once"), [("fair", FairAsked(), 2), ("trip", TripAsked(), 1)])
def test_effects_of_different_agents_can_be_undone_side_by_side(saga: str, started: Event, at_once: int) -> None:
    family = Family()

    said = family.live((saga, started), (saga, A), (saga, WantedElsewhere(thing="b")), (saga, C), (saga, TripRefused()))

    assert said == [(saga, "failed"), (saga, "compensated")]
    assert sorted(family.given_back) == ["a", "b", "c"]
    assert family.at_once == at_once


def test_a_saga_that_was_there_before_is_nobody_s_child() -> None:
    family = Family()

    said = family.live(
        ("stay", StayAsked()), ("stay", B), ("trip", TripAsked()), stay(), ("trip", TripRefused()), ("trip", A)
    )

    assert said == [("trip", "failed"), ("trip", "compensated")]
    assert family.held == ["b"]
    assert family.lines["trip"].children[0].state == "foreign"
