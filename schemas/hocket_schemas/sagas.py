"""A saga's policy: what starts, completes and fails it, and by when. It only states; the coordinator acts."""

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Literal
from weakref import WeakValueDictionary

from hocket_schemas.budgets import Budget
from hocket_schemas.errors import BadSaga, DuplicateSaga
from hocket_schemas.event import Event

Link = Literal["cascade", "wait", "detach"]
"""What a child has to do with its parent. `cascade`: when the parent is aborted the child is undone too, in its turn,
also when it had completed. `wait`: the parent ends when the child has ended, and fails when that did not complete.
`detach`: nothing, the parent is only told."""

_NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Saga:
    """All events that share a correlation id, from the first to the one that ends it.

    ```python
    TRIP = Saga("trip", starts=TripRequested, done=TripBooked, fails=[TripRefused], deadline=timedelta(hours=48))
    ```

    Keep it in a module's variable: the coordinator follows every policy that somebody holds on to.
    Raises BadSaga when it contradicts itself.
    """

    name: str
    """Lower-case letters, digits, `-` and `_`."""

    _: KW_ONLY
    starts: type[Event]
    done: type[Event]
    """Its arrival completes the saga."""

    fails: Sequence[type[Event]] = ()
    """The arrival of any of these fails it. Kept as a tuple."""

    deadline: timedelta
    """Longest time from the starting event to the one that ends it."""

    quiet: timedelta | None = None
    """Longest time without any sign of life on the saga's key, apart from waits that know their end and questions to
    people; then an event tells of it. None: nobody looks. Has to be longer than its longest step."""

    on_quiet: Literal["tell", "abort"] = "tell"
    """What follows when it is quiet for longer, besides that event. `tell`: nothing more. `abort`: the saga fails."""

    budget: Budget | None = None
    """What it may use up, with all that it begins; None: no bound but the deadline."""

    undo_within: timedelta = timedelta(minutes=10)
    """Longest time that an agent may take to answer a request for an undo. Then the saga is stuck, with the reason; it
    goes on when the answer comes after all."""

    undo: Literal["reverse", "parallel"] = "reverse"
    """`reverse`: one effect after the other is undone, the newest first. `parallel`: those of different agents side by
    side; say so only when they have nothing to do with each other."""

    link: Link = "cascade"
    """What it has to do with the saga that started it, if one did (`ctx.start`) and said nothing else."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fails", tuple(self.fails))
        if not _NAME.fullmatch(self.name):
            raise BadSaga(self.name, "a name wants lower-case letters, digits, '-' and '_', a letter first")
        events = (self.starts, self.done, *self.fails)
        for event in events:
            if not event.event_type:
                raise BadSaga(self.name, f"{event.__qualname__} has no event type, so nothing can publish it")
        types = [event.event_type for event in events]
        for event_type in types:
            if types.count(event_type) > 1:
                raise BadSaga(self.name, f"{event_type} has two meanings, wants one of starts, done or fails")
        if self.deadline <= timedelta(0):
            raise BadSaga(self.name, f"deadline is {self.deadline}, wants more than nothing")
        if self.quiet is not None and self.quiet <= timedelta(0):
            raise BadSaga(self.name, f"quiet is {self.quiet}, wants more than nothing, or None")
        if self.undo_within <= timedelta(0):
            raise BadSaga(self.name, f"undo_within is {self.undo_within}, wants more than nothing")
        for unit, most in self.budget.limits().items() if self.budget else ():
            if most < 0:
                raise BadSaga(self.name, f"its budget of {unit} is less than nothing")
        _LIVE[id(self)] = self


_LIVE: WeakValueDictionary[int, Saga] = WeakValueDictionary()
"""Every policy that somebody holds on to, by identity: equal ones may come and go on their own."""


def declared() -> tuple[Saga, ...]:
    """Every policy that somebody holds on to, by name. Raises DuplicateSaga when two of them collide."""
    by_name: dict[str, Saga] = {}
    by_start: dict[str, Saga] = {}
    for saga in list(_LIVE.values()):
        first = by_name.setdefault(saga.name, saga)
        if first != saga:
            raise DuplicateSaga(f"name {saga.name!r}", first.name, saga.name)
        first = by_start.setdefault(saga.starts.event_type, saga)
        if first != saga:
            raise DuplicateSaga(f"starting event {saga.starts.event_type!r}", first.name, saga.name)
    return tuple(by_name[name] for name in sorted(by_name))


def budgeted() -> WeakValueDictionary[str, Saga]:
    """The policies with a budget that somebody holds on to, by the type of their starting event. It holds none."""
    found = {saga.starts.event_type: saga for saga in list(_LIVE.values()) if saga.budget is not None}
    return WeakValueDictionary(found)
