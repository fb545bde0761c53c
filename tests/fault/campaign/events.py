"""What is said in a campaign: things are appended to lists, timers ring, people decide, sagas book one thing after
another.

All of it is forgotten by the log after a while, as events with a retention are: a campaign writes a million of them.
"""

from datetime import timedelta

from hocket_schemas.event import Event
from hocket_schemas.sagas import Saga

KEPT = timedelta(minutes=10)
DEADLINE_S = 60.0
UNDO_WITHIN_S = 60.0


class Appended(Event, type="campaign.appended.v1", retention=KEPT):
    """A writer wants something at the end of its key's list."""

    writer: int


class Applied(Event, type="campaign.applied.v1", retention=KEPT):
    """It is there."""

    of: str
    place: int
    """Where in the list, from 1."""

    by: str
    """The process that put it there."""


class Mirrored(Event, type="campaign.mirrored.v1", retention=KEPT):
    """Somebody else has taken note of it."""

    of: str
    place: int
    by: str


class Begun(Event, type="campaign.begun.v1", retention=KEPT):
    """Something is to wait for a while, and then for people."""

    delay_s: float


class Rung(Event, type="campaign.rung.v1", retention=KEPT):
    """The while is over."""

    of: str
    asked_s: float
    """When the wait began, in seconds since the epoch."""

    rung_s: float
    """When the agent went on."""


class Settled(Event, type="campaign.settled.v1", retention=KEPT):
    """People have decided, or nobody has in time."""

    of: str
    option: str
    by: list[str]


class Asked(Event, type="campaign.asked.v1", retention=KEPT):
    """A saga of so many positions."""

    positions: int
    refused_at: int | None = None
    undo_fails_at: int | None = None


class NorthDue(Event, type="campaign.north.due.v1", retention=KEPT):
    """The next thing is to be booked in the north."""

    n: int
    positions: int
    refused_at: int | None


class SouthDue(Event, type="campaign.south.due.v1", retention=KEPT):
    """The same in the south."""

    n: int
    positions: int
    refused_at: int | None


class Booked(Event, type="campaign.booked.v1", retention=KEPT):
    """All of it is booked."""


class Refused(Event, type="campaign.refused.v1", retention=KEPT):
    """Something could not be had."""


TOUR = Saga(
    "campaign-tour",
    starts=Asked,
    done=Booked,
    fails=[Refused],
    deadline=timedelta(seconds=DEADLINE_S),
    undo_within=timedelta(seconds=UNDO_WITHIN_S),
)
