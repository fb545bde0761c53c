"""When a rule is due: by wall clocks that are set forward and back, and when it was missed."""

from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from hocket.schedule import COUNTED_MAX, CatchUp, Firing, Rule, Schedule, fire

FORWARD = "2026-03-29T00:30"
"""At two, clocks in Berlin are set to three."""

BACK = "2026-10-25T00:30"
"""At three, they are set back to two."""

MINUTE_S = 60


def at(moment: str, tz: str = "UTC") -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(tz)).timestamp()


def due(cron: str, tz: str, since: str, most: int) -> list[str]:
    found = islice(Rule(cron, tz).after(at(since, tz)), most)
    return [datetime.fromtimestamp(due_s, ZoneInfo(tz)).strftime("%d %H:%M%z")[:-2] for due_s in found]


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * * *", ["29 03:00+02", "30 02:30+02"]),
        ("0 30 2 * * *", ["29 03:00+02", "30 02:30+02"]),
        ("0,30 2 * * *", ["29 03:00+02", "30 02:00+02"]),
        ("30 2,3 * * *", ["29 03:00+02", "29 03:30+02", "30 02:30+02"]),
        ("*/30 * * * *", ["29 01:00+01", "29 01:30+01", "29 03:00+02", "29 03:30+02"]),
    ],
)
def test_a_time_that_does_not_exist_is_due_at_the_first_moment_after_the_gap(cron: str, expected: list[str]) -> None:
    assert due(cron, "Europe/Berlin", FORWARD, len(expected)) == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * * *", ["25 02:30+02", "26 02:30+01"]),
        ("0 30 2 * * *", ["25 02:30+02", "26 02:30+01"]),
        ("30 2,3 * * *", ["25 02:30+02", "25 03:30+01", "26 02:30+01"]),
        ("30 * * * *", ["25 01:30+02", "25 02:30+02", "25 02:30+01", "25 03:30+01"]),
    ],
)
def test_a_time_that_exists_twice_is_due_once_unless_the_rule_means_the_passing_of_time(
    cron: str, expected: list[str]
) -> None:
    assert due(cron, "Europe/Berlin", BACK, len(expected)) == expected


def test_a_rule_is_due_strictly_after_a_moment() -> None:
    rule = Rule("0 7 * * mon", "Europe/Berlin")
    monday = at("2026-01-05T07:00", "Europe/Berlin")

    assert next(rule.after(monday - 0.001)) == monday
    assert next(rule.after(monday)) == monday + 7 * 86_400


@pytest.mark.parametrize(
    ("catch_up", "late_s", "firing"),
    [
        ("latest", 0.0, Firing((180,), 2, 0, 240)),
        ("all", 0.0, Firing((60, 120, 180), 0, 0, 240)),
        ("skip", 0.0, Firing((180,), 0, 2, 240)),
        ("skip", 1.0, Firing((180,), 0, 2, 240)),
        ("skip", 1.1, Firing((), 0, 3, 240)),
    ],
)
def test_missed_times_are_told_once_each_once_or_not_at_all(catch_up: CatchUp, late_s: float, firing: Firing) -> None:
    schedule = Schedule("s", Rule("* * * * *", "UTC"), "k", catch_up=catch_up)

    assert fire(schedule, 60, 180 + late_s) == firing


def test_no_more_is_counted_than_can_be_counted_quickly() -> None:
    schedule = Schedule("s", Rule("* * * * * *", "UTC"), "k")

    firing = fire(schedule, 0, 10 * 365 * 86_400)

    assert firing == Firing((315_360_000,), COUNTED_MAX - 1, 0, 315_360_001)


def test_a_time_that_the_zone_has_since_redefined_is_kept() -> None:
    schedule = Schedule("s", Rule("0 7 * * *", "UTC"), "k")

    assert fire(schedule, 8 * 3600, 8 * 3600) == Firing((8 * 3600,), 0, 0, 31 * 3600)
