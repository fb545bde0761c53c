"""Saga policies: values that contradict neither themselves nor each other."""

from collections.abc import Sequence
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta

import pytest

from hocket_schemas.budgets import Budget
from hocket_schemas.errors import BadSaga, DuplicateSaga
from hocket_schemas.event import Event
from hocket_schemas.sagas import Saga, declared


class ParcelSent(Event, type="parcel.sent.v1"):
    pass


class ParcelArrived(Event, type="parcel.arrived.v1"):
    pass


class ParcelLost(Event, type="parcel.lost.v1"):
    pass


class Untyped(Event):
    pass


HOUR = timedelta(hours=1)


def test_a_policy_says_what_starts_and_ends_a_saga() -> None:
    saga = Saga(
        "parcel", starts=ParcelSent, done=ParcelArrived, fails=[ParcelLost], deadline=HOUR, budget=Budget(steps=9)
    )

    assert saga.fails == (ParcelLost,)
    assert saga.budget == Budget(steps=9)
    with pytest.raises(FrozenInstanceError):
        saga.name = "other"  # type: ignore[misc] # that it is refused is what is tested


@pytest.mark.parametrize("deadline", [timedelta(0), timedelta(seconds=-1)])
def test_a_deadline_leaves_some_time(deadline: timedelta) -> None:
    with pytest.raises(BadSaga, match="deadline"):
        Saga("parcel", starts=ParcelSent, done=ParcelArrived, deadline=deadline)


@pytest.mark.parametrize("name", ["", "Parcel", "1st", "a parcel", "a.parcel"])
def test_a_name_is_plain(name: str) -> None:
    with pytest.raises(BadSaga, match="name"):
        Saga(name, starts=ParcelSent, done=ParcelArrived, deadline=HOUR)


@pytest.mark.parametrize(
    ("done", "fails"),
    [
        (ParcelSent, []),
        (ParcelArrived, [ParcelSent]),
        (ParcelArrived, [ParcelArrived]),
        (ParcelArrived, [ParcelLost] * 2),
    ],
)
def test_an_event_means_one_thing_to_a_saga(done: type[Event], fails: Sequence[type[Event]]) -> None:
    with pytest.raises(BadSaga, match="two meanings"):
        Saga("parcel", starts=ParcelSent, done=done, fails=fails, deadline=HOUR)


def test_an_event_without_a_type_can_neither_start_nor_end_a_saga() -> None:
    with pytest.raises(BadSaga, match="no event type"):
        Saga("parcel", starts=ParcelSent, done=Untyped, deadline=HOUR)


def test_a_policy_is_declared_for_as_long_as_somebody_holds_it() -> None:
    saga = Saga("parcel", starts=ParcelSent, done=ParcelArrived, deadline=HOUR)

    assert saga in declared()
    del saga
    assert "parcel" not in [found.name for found in declared()]


def test_the_same_policy_twice_is_one() -> None:
    saga = Saga("parcel", starts=ParcelSent, done=ParcelArrived, deadline=HOUR)
    twin = replace(saga)

    assert [found for found in declared() if found.name == "parcel"] == [twin]
    del twin
    assert saga in declared()


def test_two_policies_cannot_share_a_name() -> None:
    first = Saga("parcel", starts=ParcelSent, done=ParcelArrived, deadline=HOUR)
    other = replace(first, deadline=2 * HOUR)

    with pytest.raises(DuplicateSaga, match="name 'parcel'"):
        declared()
    assert first != other


def test_two_policies_cannot_start_with_one_event() -> None:
    first = Saga("parcel", starts=ParcelSent, done=ParcelArrived, deadline=HOUR)
    other = replace(first, name="letter")

    with pytest.raises(DuplicateSaga, match=r"starting event 'parcel\.sent\.v1'"):
        declared()
    assert first != other
