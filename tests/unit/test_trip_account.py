"""What a campaign over trips says about itself: what it tried, what it never did, and what contradicts the ends."""

import random
from typing import Any

import pytest
from examples.trip.account import POSITIONS, ROWS, SERVICES, Account, Trip, plan


def call(trip: Trip, outcome: str, *, at: float, does: str = "book") -> dict[str, Any]:
    return {"saga": trip.saga, "desk": POSITIONS[trip.at], "does": does, "outcome": outcome, "at": at}


def tried(sagas: int = len(ROWS)) -> Account:
    """A campaign in which everything happened, and everybody was killed after it."""
    trips = plan(sagas, seed=1)
    for trip in trips:
        trip.struck_s, trip.ended_s, trip.end, trip.failures = 10.0, 20.0, "compensated", 6
    return Account(trips, kills=[(15.0, name) for name in SERVICES])


def test_a_plan_has_each_line_of_the_table_as_often_as_any_other_and_follows_from_the_seed() -> None:
    trips = plan(2 * len(ROWS), seed=7)

    assert sorted(trip.row for trip in trips) == sorted([*ROWS, *ROWS])
    assert [trip.row for trip in trips] == [trip.row for trip in plan(2 * len(ROWS), seed=7)]
    assert [trip.row for trip in trips] != [trip.row for trip in plan(2 * len(ROWS), seed=8)]


def test_a_campaign_that_tried_everything_has_no_gaps() -> None:
    assert tried().gaps() == []


def test_what_never_happened_and_who_was_never_killed_then_is_a_gap() -> None:
    account = tried()
    account.trips = [trip for trip in account.trips if trip.row != ("refused", 1)]
    account.kills = [(at_s, name) for at_s, name in account.kills if name != "hotels"]
    account.kills.append((9.0, "hotels"))  # before anything went wrong

    gaps = account.gaps()

    assert gaps[0] == "hotels was never killed after 'nothing' at flights"
    assert "'refused' at hotels never happened" in gaps
    assert len(gaps) == len(ROWS)


def test_what_was_missed_is_planned_again_once_for_each_who_was_not_killed_on_it() -> None:
    account = tried()
    account.kills = [(15.0, name) for name in SERVICES if name != "hotels"]
    late = next(trip for trip in account.trips if trip.row == ("refused", 1))
    late.struck_s = None

    again = account.again(seed=1)

    assert len(again) == len(ROWS) - 1 + len(SERVICES)
    assert sorted({trip.row for trip in again}) == sorted(ROWS)
    assert not {trip.saga for trip in again} & {trip.saga for trip in account.trips}
    assert tried().again(seed=1) == []


@pytest.mark.parametrize(("fault", "times"), [("undo fails 1x", 1), ("undo fails 3x", 3), ("undo broken", 6)])
def test_an_undo_has_failed_once_it_failed_as_often_as_it_was_meant_to(fault: str, times: int) -> None:
    trip = Trip("trip-1", fault, 0)
    account = Account([trip])

    account.strike([call(trip, "refuse", at=1.0)])
    account.strike([call(trip, "fail", at=2.0 + n, does="cancel") for n in range(times - 1)])
    before = trip.happened
    account.strike([call(trip, "fail", at=9.0, does="cancel")])

    assert (before, trip.happened, trip.struck_s) == (False, True, 1.0)


def test_who_is_to_die_is_whoever_did_so_least_on_what_is_going_wrong_now() -> None:
    account = tried()
    account.kills = [(15.0, name) for name in SERVICES if name != "payments"]
    under_way = account.trips[0]
    under_way.ended_s = None

    assert account.victim(30.0, random.Random(1)) == "payments"


@pytest.mark.parametrize(
    ("trip", "books", "says"),
    [
        (Trip("t", "refused", 1, end="compensated"), {"open": {"flights": ["FL-1"]}, "net_cents": 1}, "for 1 cents"),
        (Trip("t", "nothing", 0, end="completed"), {"open": {"flights": ["FL-1"]}, "net_cents": 1}, "only"),
        (Trip("t", "hiccup", 0, end="compensated", reason="failed by x"), None, "for nothing"),
        (Trip("t", "undo broken", 0, end="compensated", stuck=[""]), None, "nobody said why"),
    ],
)
def test_what_contradicts_an_end_is_said(trip: Trip, books: dict[str, Any] | None, says: str) -> None:
    [found] = Account([trip]).judge({"t": books} if books else {})

    assert says in found


def test_a_trip_that_was_undone_has_nothing_left_or_nothing_begun() -> None:
    trips = [
        Trip("t", "refused", 1, end="compensated"),
        Trip("u", "hiccup", 1, end="compensated", reason="not done within 1 s"),
    ]

    assert Account(trips).judge({"t": {"open": {}, "net_cents": 0}}) == []


def test_the_table_shows_each_line_with_its_ends_and_who_died_on_it() -> None:
    account = tried()

    line = next(line for line in account.table().splitlines() if line.startswith("refused         hotels"))

    assert line.split() == ["refused", "hotels", "1", "1", "1", *["1"] * len(SERVICES)]
