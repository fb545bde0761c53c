"""Schedules under Hypothesis: each due time is accounted for once, and due is what a calendar says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from hocket.engine.schedules import taken_up
from hocket.schedule import Rule, Schedule, fire

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Africa/Cairo",
    "Asia/Kolkata",
    "America/St_Johns",
    "America/Havana",
]
HOURS = ["*", "*/4", "2", "0", "0-3", "1,2,3"]
MINUTES = ["*/20", "0", "30", "0,30", "15-17"]
CHANGES = [datetime(2026, month, day, tzinfo=UTC) for month, day in [(3, 7), (3, 28), (4, 23), (10, 24), (11, 1)]]
"""Days before clocks somewhere are set."""

LOOK_S = 2 * 86_400


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    minute, hour = draw(st.sampled_from(MINUTES)), draw(st.sampled_from(HOURS))
    day, weekday = draw(st.sampled_from([("*", "*"), ("*", "mon"), ("*", "sun"), ("25-31", "*"), ("1", "fri")]))
    return Rule(f"{minute} {hour} {day} * {weekday}", draw(st.sampled_from(ZONES)))


moments = st.builds(
    lambda day, seconds: (day + timedelta(seconds=seconds)).timestamp(),
    st.sampled_from(CHANGES),
    st.floats(0, 3 * 86_400),
)


@settings(deadline=None, max_examples=40)  # looking at each minute takes its time
@given(rules(), moments)
def test_the_next_time_is_the_first_that_a_calendar_shows(rule: Rule, start_s: float) -> None:
    found = list(takewhile(lambda due_s: due_s <= start_s + LOOK_S, rule.after(start_s)))

    assert found == from_a_calendar(rule, start_s)


@given(rules(), moments, st.floats(0, 1))
def test_from_wherever_one_looks_the_next_time_is_the_same(rule: Rule, start_s: float, part: float) -> None:
    first, second, third = islice(rule.after(start_s), 3)

    assert next(rule.after(first + part * (second - first) * 0.99)) == second
    assert rule.between(first, third, 9) == [first, second, third]


@given(
    rules(),
    st.sampled_from(["latest", "all", "skip"]),
    moments,
    st.lists(st.tuples(st.floats(0.01, 86_400), st.booleans()), max_size=20),
)
def test_every_time_is_ticked_missed_or_skipped_and_none_twice(rule, catch_up, start_s, looks) -> None:
    schedule = Schedule("s", rule, "k", catch_up=catch_up)
    due = taken_up(schedule, None, start_s)
    now_s, ticks, others = start_s, [], 0

    for after_s, new_owner in looks:
        now_s += after_s
        due = taken_up(schedule, due, now_s) if new_owner else due
        if due.due_s <= now_s:
            firing = fire(schedule, due.due_s, now_s)
            ticks += firing.ticks
            others += firing.missed + firing.skipped
            due = replace(due, due_s=firing.next_s)

    all_of_them = list(takewhile(lambda due_s: due_s <= now_s, rule.after(start_s)))
    assert len(set(ticks)) == len(ticks)
    assert set(ticks) <= set(all_of_them)
    assert len(ticks) + others == len(all_of_them)
    assert due.due_s > now_s


def from_a_calendar(rule: Rule, start_s: float) -> list[float]:
    """The same by looking at each minute: of the wall clock where the rule names minutes and hours, else of time."""
    minute, hour, day, _, weekday = rule.cron.split()
    zone = ZoneInfo(rule.tz)
    minutes = range(int(start_s) // 60 * 60 - 4 * 3600, int(start_s) + LOOK_S + 60, 60)
    if minute.startswith("*") or hour.startswith("*"):
        shown = {float(at_s): datetime.fromtimestamp(at_s, zone) for at_s in minutes}
    else:
        walls = {datetime.fromtimestamp(at_s, zone).replace(tzinfo=None, fold=0) for at_s in minutes}
        left_out = {wall + timedelta(hours=1) for wall in walls} - walls
        shown = {}
        for wall in walls | left_out:
            if fields_fit(wall, minute, hour, day, weekday):
                shown[shown_first(wall, zone)] = wall
    due = {at_s for at_s, local in shown.items() if fields_fit(local, minute, hour, day, weekday)}
    return sorted(at_s for at_s in due if start_s < at_s <= start_s + LOOK_S)


def shown_first(wall: datetime, zone: ZoneInfo) -> float:
    moment = wall.replace(tzinfo=zone)
    while moment.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != moment.replace(tzinfo=None):
        wall += timedelta(minutes=1)
        moment = wall.replace(tzinfo=zone)
    return moment.timestamp()


def fields_fit(local: datetime, minute: str, hour: str, day: str, weekday: str) -> bool:
    day_fits, weekday_fits = fits(local.day, day, 31), weekday == "*" or f"{local:%a}".lower() == weekday
    both = day == "*" or weekday == "*"
    days = day_fits and weekday_fits if both else day_fits or weekday_fits
    return fits(local.minute, minute, 59) and fits(local.hour, hour, 23) and days


def fits(value: int, field: str, most: int) -> bool:
    if field.startswith("*"):
        return value % int(field.removeprefix("*/")) == 0 if "/" in field else True
    spans = [part.split("-") for part in field.split(",")]
    return any(int(span[0]) <= value <= int(span[-1]) for span in spans)
