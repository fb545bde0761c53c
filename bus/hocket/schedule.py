"""When something recurs: a cron rule in a time zone, and what becomes of the times that nobody was there for."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from hocket.errors import UsageError
from hocket.subjects import token

Overlap = Literal["queue", "skip"]
"""What becomes of a tick while the one before it is still open: it waits its turn, or it is dropped."""

CatchUp = Literal["latest", "all", "skip"]
"""What becomes of missed times: one tick for all of them, one for each, or none."""

CAUGHT_UP_MAX = 100
"""Most ticks that "all" catches up with at once; the oldest of them stands for those before it."""

COUNTED_MAX = 1000
"""So many missed times are counted; more than that count as that many."""

ON_TIME_S = 1.0
"""A time that is noticed no later than this was not missed."""

FIRST_LOOK_BACK_S = 3600
"""Missed times are looked for in the last hour, then in four times that, and so on."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A cron expression of five fields, or of six with the seconds first, by the wall clocks of a time zone.

    Where clocks are set forward or back: a rule that names its minutes and its hours means the wall clock. It is
    due once at each of its times: one that does not exist at the first moment after the gap, one that exists
    twice the first time. A rule with `*` as minute or hour means the passing of time: it is due through the
    repeated hour again, and not for an hour that is left out.
    """

    cron: str
    tz: str

    def __post_init__(self) -> None:
        """Raises UsageError when the expression or the zone is none, or when no time ever fits."""
        try:
            ZoneInfo(self.tz)
        except (KeyError, ValueError, TypeError, OSError) as error:
            cause = "no time zone of that name" if available_timezones() else "there are none here: install tzdata"
            raise UsageError(f"time zone {self.tz!r}: {cause}") from error
        try:
            next(CronSim(self.cron, datetime(2024, 1, 1)))  # noqa: DTZ001 - which time it is there does not matter
        except (CronSimError, ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"cron expression {self.cron!r:.200}: {error}") from error
        except StopIteration:
            raise UsageError(f"cron expression {self.cron!r:.200}: never comes due") from None

    def after(self, at_s: float) -> Iterator[int]:
        """The due times after a moment, in seconds since the Unix epoch, one after the other."""
        zone = ZoneInfo(self.tz)
        start = datetime.fromtimestamp(int(at_s), zone)
        if self._by_wall_clock:
            wall = start.replace(tzinfo=None, fold=0)
            found = (_first_moment(due, zone) for due in CronSim(self.cron, wall))
        else:
            # Where a gap begins at midnight, the iteration may come upon a time that does not exist.
            found = (int(due.timestamp()) for due in CronSim(self.cron, start) if _exists(due) or self._fits(due))
        last_s = at_s
        for due_s in found:
            if due_s > last_s:  # two times that a gap leaves out are due together, and a repeated hour only once
                last_s = due_s
                yield due_s

    def between(self, first_s: int, now_s: float, most: int) -> list[int]:
        """The due times from one moment up to another, both included; only the newest where there are many."""
        look_back_s = FIRST_LOOK_BACK_S
        while True:
            start_s = max(first_s - 1, int(now_s) - look_back_s)
            found = deque(takewhile(lambda due_s: due_s <= now_s, self.after(start_s)), maxlen=most)
            if len(found) == most or start_s < first_s:
                return list(found)
            look_back_s *= 4

    def _fits(self, due: datetime) -> bool:
        """Whether the moment that a time stands for, as clocks really show it then, is due."""
        shown = due.astimezone(UTC).astimezone(due.tzinfo).replace(tzinfo=None)
        return next(CronSim(self.cron, shown - timedelta(seconds=1))) == shown

    @property
    def _by_wall_clock(self) -> bool:
        minute, hour = self.cron.split()[-5:-3]
        return not (minute.startswith("*") or hour.startswith("*"))


@dataclass(frozen=True, slots=True)
class Schedule:
    """A rule with a name, and the policies for when things go wrong."""

    name: str
    rule: Rule
    key: str
    """The actor that its ticks go to."""

    overlap: Overlap = "queue"
    catch_up: CatchUp = "latest"

    def __post_init__(self) -> None:
        """Raises UsageError for a policy that there is none of, and BadKey."""
        token(self.name), token(self.key)
        for what, said, known in (("overlap", self.overlap, Overlap), ("catch_up", self.catch_up, CatchUp)):
            if said not in get_args(known):
                raise UsageError(f"schedule {self.name!r}: {what}={said!r}, wants one of {get_args(known)}")
        if self.overlap == "skip" and self.catch_up == "all":
            raise UsageError(
                f"schedule {self.name!r}: catch_up='all' has several ticks come at once, "
                "of which overlap='skip' would drop all but one; choose"
            )


class Firing(NamedTuple):
    """What there is to do when a schedule has come due."""

    ticks: tuple[int, ...]
    """The times that get an event of their own, in seconds since the Unix epoch."""

    missed: int
    """Earlier times that the first of them stands for."""

    skipped: int
    """Times that nothing stands for."""

    next_s: int
    """When it is due again."""

    def dropped(self) -> "Firing":
        """The same, with all of it skipped."""
        return Firing((), 0, self.skipped + self.missed + len(self.ticks), self.next_s)


def fire(schedule: Schedule, due_s: int, now_s: float) -> Firing:
    """Decide what becomes of all times from `due_s`, the first that nothing was done about, up to now."""
    # Nothing is found where the zone's own rules have changed since.
    come = tuple(schedule.rule.between(due_s, now_s, COUNTED_MAX)) or (due_s,)
    next_s = next(schedule.rule.after(max(now_s, due_s)))
    if schedule.catch_up == "skip":
        ticks = come[-1:] if now_s - come[-1] <= ON_TIME_S else ()
        return Firing(ticks, 0, len(come) - len(ticks), next_s)
    ticks = come[-(CAUGHT_UP_MAX if schedule.catch_up == "all" else 1) :]
    return Firing(ticks, len(come) - len(ticks), 0, next_s)


def _first_moment(wall: datetime, zone: ZoneInfo) -> int:
    """When a wall clock first shows a time; of one that it leaves out, the first moment after the gap."""
    moment = wall.replace(tzinfo=zone)
    while not _exists(moment):
        wall = wall.replace(second=0) + timedelta(minutes=1)
        moment = wall.replace(tzinfo=zone)
    return int(moment.timestamp())


def _exists(moment: datetime) -> bool:
    """Whether clocks there ever show it."""
    return moment.astimezone(UTC).astimezone(moment.tzinfo).replace(tzinfo=None) == moment.replace(tzinfo=None)


__all__ = ["CAUGHT_UP_MAX", "COUNTED_MAX", "CatchUp", "Firing", "Overlap", "Rule", "Schedule", "fire"]
