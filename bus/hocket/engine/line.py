"""Whose turn it is of those that may have ended their process, and beside how many others: decided by counts alone.

An end says only that one of those that were being tried has caused it, so the fewer these are, the more it says. Those
of one end are tried side by side in parts, whichever part ends the process again is tried in smaller parts, and so on,
in such steps that whoever has one attempt left is alone in it. So no more ends are needed than a poisonous event has
attempts anyway, nobody is given up for having stood beside it, and the many that are innocent wait for few others.
"""

import heapq
from collections.abc import Iterator
from typing import NamedTuple


class Place(NamedTuple):
    """One event's place in the line. The order is that in which they have their turns, if all of them wait."""

    last: bool
    """Whether it is given up if its process ends once more: such come after all others, and are tried alone."""

    ends: int
    """Whoever has ended the fewest processes comes first, then log order."""

    seq: int
    width: int
    """How many may be tried at once while it is, itself among them."""


def placed(seq: int, *, ends: int, attempts_left: int, peers: int, width_max: int) -> Place:
    """The place of an event that has ended so many processes, as have so many `peers`, itself among them.

    A first attempt is made beside any number up to `width_max`.
    """
    if not ends:
        return Place(False, ends, seq, width_max)
    parts = int(peers ** ((attempts_left - 1) / attempts_left))
    return Place(attempts_left == 1, ends, seq, max(1, min(parts, width_max)))


class Line:
    """Those that wait for their turn, and those that have it."""

    def __init__(self) -> None:
        self._waiting: list[Place] = []
        self._at_work: dict[int, Place] = {}
        self._late: set[int] = set()

    @property
    def at_work(self) -> int:
        """How many are being tried, those that take very long among them."""
        return len(self._at_work) + len(self._late)

    def join(self, place: Place) -> None:
        """Wait for a turn; `begin` gives it."""
        heapq.heappush(self._waiting, place)

    def begin(self) -> Iterator[Place]:
        """Give a turn to everybody who may have one now."""
        while self._waiting and self._may_begin(self._waiting[0]):
            place = heapq.heappop(self._waiting)
            self._at_work[place.seq] = place
            yield place

    def late(self, seq: int) -> None:
        """It takes very long and holds up nobody from now on, but for those that have to be alone."""
        place = self._at_work[seq]
        if not place.last:
            del self._at_work[seq]
            self._late.add(seq)

    def leave(self, seq: int) -> None:
        """Its turn is over."""
        self._at_work.pop(seq, None)
        self._late.discard(seq)

    def _may_begin(self, place: Place) -> bool:
        if place.last:
            return not self.at_work
        return len(self._at_work) < min(each.width for each in (place, *self._at_work.values()))


__all__ = ["Line", "Place", "placed"]
