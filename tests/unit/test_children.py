"""Sagas that are started by others: the link is in the log with the child's first event, and is passed on."""

import pytest

from hocket import Agent, Context
from hocket.client import Delivery
from hocket.errors import UndeclaredEvent, UsageError
from hocket.subjects import at_home, shard_of
from hocket.testing import Bed, run_virtual
from hocket_schemas.children import ChildStarted
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()


class TripAsked(Event, type="children.trip.asked.v1", catalog=EVENTS):
    saga: str | None = None


class StayAsked(Event, type="children.stay.asked.v1", catalog=EVENTS):
    pass


class RoomHeld(Event, type="children.room.held.v1", catalog=EVENTS):
    pass


class TripNoted(Event, type="children.trip.noted.v1", catalog=EVENTS):
    pass


def agency(started: list[str]) -> Agent:
    """Starts a stay for a trip; the stay goes a step further, and says something to another saga."""
    agent = Agent("agency")

    @agent.on(TripAsked, emits=[StayAsked, TripNoted])
    async def plan(event: TripAsked, ctx: Context) -> TripNoted:
        started.append(ctx.start(StayAsked(), saga=event.saga, link="wait"))
        return TripNoted()

    @agent.on(StayAsked, emits=[RoomHeld, TripNoted])
    async def stay(event: StayAsked, ctx: Context) -> RoomHeld:
        ctx.emit(TripNoted(), saga="elsewhere")
        return RoomHeld()

    return agent


def told(asked: TripAsked) -> tuple[list[str], list[Delivery], list[str]]:
    """The children that were started, what is in the log then, and the dead letters."""
    started: list[str] = []

    async def live() -> tuple[list[Delivery], list[str]]:
        agent = agency(started)
        async with Bed(agent) as bed:
            await bed.publish(asked, key="trip-1")
            await bed.quiet()
            return [delivery async for delivery in bed.bus.read()], [dead["reason"] for dead in bed.dead(agent)]

    return started, *run_virtual(live())


def of_type(found: list[Delivery], event: type[Event]) -> list[Delivery]:
    return [delivery for delivery in found if delivery.address.type == event.event_type]


def test_a_child_has_an_id_of_its_own_and_its_parent_knows_it() -> None:
    [child], found, _ = told(TripAsked())

    [first] = of_type(found, StayAsked)
    [link] = of_type(found, ChildStarted)
    assert first.envelope.correlationid == first.envelope.partitionkey == child
    assert first.envelope.hkparent == "trip-1"
    assert (link.envelope.correlationid, link.envelope.partitionkey) == ("trip-1", "trip-1")
    assert link.envelope.data == {"child": child, "starts": "children.stay.asked.v1", "link": "wait"}
    assert child == f"{first.address.cause}-0"


def test_what_follows_within_a_child_says_whose_child_it_is_and_what_leaves_it_does_not() -> None:
    _, found, _ = told(TripAsked())

    [held] = of_type(found, RoomHeld)
    [within, elsewhere] = of_type(found, TripNoted)
    assert held.envelope.hkparent == "trip-1"
    assert within.envelope.hkparent is None
    assert (elsewhere.envelope.correlationid, elsewhere.envelope.hkparent) == ("elsewhere", None)


def test_a_child_may_be_named_and_is_not_its_own_parent() -> None:
    [named], found, dead = told(TripAsked(saga="stay-7"))
    _, _, refused = told(TripAsked(saga="trip-1"))

    assert (named, dead) == ("stay-7", [])
    assert of_type(found, StayAsked)[0].envelope.correlationid == "stay-7"
    assert refused == [UsageError.__name__]


def test_only_what_is_declared_can_be_started() -> None:
    agent = Agent("hasty")

    @agent.on(TripAsked)
    async def plan(event: TripAsked, ctx: Context) -> None:
        ctx.start(StayAsked())

    async def live() -> list[str]:
        async with Bed(agent) as bed:
            await bed.publish(TripAsked(), key="trip-1")
            await bed.quiet()
            assert not bed.events(ChildStarted)
            return [dead["reason"] for dead in bed.dead(agent)]

    assert run_virtual(live()) == [UndeclaredEvent.__name__]


@pytest.mark.parametrize("shard", range(8))
def test_a_name_is_changed_until_it_lives_on_the_shard(shard: int) -> None:
    name = at_home("child", shard, 8)

    assert shard_of(name, 8) == shard
    assert name.partition("-")[0] == "child"
