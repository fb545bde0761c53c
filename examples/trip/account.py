"""What a campaign over trips sets out to try, and what came of it: pure, from what was recorded on the way."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SERVICES = ("flights", "hotels", "payments", "coordinator")
POSITIONS = ("flights", "hotels", "reservations", "approval", "payments")
UNDO_FAILS = ("undo fails 1x", "undo fails 2x", "undo fails 3x")
BROKEN_TIMES = 6
"""So often an undo fails that is broken: more than its agent tries."""

_ALL = tuple(range(len(POSITIONS)))
_DESKS = (0, 1, 2, 4)
_UNDOABLE = (0, 1, 2)

PLACES: Mapping[str, Sequence[int]] = {
    "nothing": (0,),
    "hiccup": _DESKS,
    "refused": _ALL,
    "lost": _DESKS,
    "killed": _DESKS,
    "cancelled": _ALL,
    "deadline": _ALL,
    **dict.fromkeys(UNDO_FAILS, _UNDOABLE),
    "undo broken": _UNDOABLE,
}
"""What goes wrong, and where it can.

`nothing`: only that processes die. `hiccup`: the desk fails once, and the agent's own retry is all it takes.
`refused`: it will not book, or nobody approves. `lost`: it books, and the answer comes too late. `killed`: the agent's
process dies while it books. `cancelled`: a person has enough while it is on its way. `deadline`: the desk asks for more
time than there is, or nobody decides. `undo fails`: what comes later is refused, and then it cannot be cancelled one to
three times. `undo broken`: nor for so long that a person has to have it tried again.
"""

ROWS = tuple((fault, at) for fault, places in PLACES.items() for at in places)

ABORTS_NOTHING = ("nothing", "hiccup", "killed")
"""After these a trip is undone only when its deadline has passed."""

EXPIRED = "not done within"


def undo_fails(fault: str) -> int:
    """How often an undo is made to fail."""
    return BROKEN_TIMES if fault == "undo broken" else UNDO_FAILS.index(fault) + 1 if fault in UNDO_FAILS else 0


@dataclass(slots=True)
class Trip:
    """One saga, and what goes wrong with it. Times are seconds since the Unix epoch."""

    saga: str
    fault: str
    at: int
    began_s: float = 0.0
    struck_s: float | None = None
    """When it began to go wrong; None: it has not, so far."""

    failures: int = 0
    """How often its undo has failed so far."""

    ended_s: float | None = None
    end: str = ""
    reason: str = ""
    """Why it was undone."""

    stuck: list[str] = field(default_factory=list)
    """Why it waited for a person, each time."""

    @property
    def row(self) -> tuple[str, int]:
        """Its line of the table."""
        return self.fault, self.at

    @property
    def happened(self) -> bool:
        """Whether all of what was meant to go wrong did."""
        return self.struck_s is not None and self.failures >= undo_fails(self.fault)

    @property
    def outcome(self) -> str:
        """How it ended, in words of the table."""
        return f"stuck, then {self.end}" if self.stuck else self.end

    def hit(self, at_s: float) -> bool:
        """Whether somebody who died at this time died on it: after it went wrong, and before its end."""
        return self.struck_s is not None and self.struck_s <= at_s <= (self.ended_s or at_s)


def plan(sagas: int, seed: int, rows: Sequence[tuple[str, int]] = ROWS) -> list[Trip]:
    """So many trips, each line of the table as often as any other, in an order by the seed."""
    wanted = [rows[n % len(rows)] for n in range(sagas)]
    random.Random(seed).shuffle(wanted)
    return [Trip(f"trip-{seed}-{n}", fault, at) for n, (fault, at) in enumerate(wanted)]


@dataclass(slots=True)
class Account:
    """What came of a campaign."""

    trips: list[Trip]
    kills: list[tuple[float, str]] = field(default_factory=list)
    """When each process was killed at a random moment, and whose it was."""

    wrong: list[str] = field(default_factory=list)

    def strike(self, calls: Sequence[Mapping[str, Any]]) -> None:
        """Learn from calls over the desks, each told once, what has gone wrong; an undo: with what it is to undo."""
        trips = {trip.saga: trip for trip in self.trips}
        for call in calls:
            trip = trips.get(call["saga"])
            if trip is None or call["outcome"] == "done" or trip.fault == "cancelled":
                continue  # it is the person who strikes
            trip.failures += call["does"] == "cancel"
            if trip.struck_s is None:
                trip.struck_s = call["at"]

    def victim(self, at_s: float, rng: random.Random) -> str:
        """Who should die now: whoever did so least on the trips on which something is going wrong."""
        needed = self.needed(at_s, self.hits())
        return max(SERVICES, key=lambda name: (needed[name], rng.random()))

    def needed(self, at_s: float, hits: Mapping[tuple[str, int, str], int]) -> Counter[str]:
        """Whose death now would be the first of its kind, and on how many lines of the table, given the `hits`."""
        rows = {trip.row for trip in self.trips if trip.ended_s is None and trip.hit(at_s)}
        return Counter(name for row in rows for name in SERVICES if not hits.get((*row, name)))

    def judge(self, sagas: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What contradicts the ends, given the ledger: what of each saga still stands, and what it comes to."""
        return [text for trip in self.trips for text in _wrong(trip, sagas.get(trip.saga))]

    def gaps(self) -> list[str]:
        """What was meant to be tried and was not, so that the campaign says nothing about it."""
        return list(self._gaps())

    def _gaps(self) -> Iterator[str]:
        for (fault, at), missed in self._missed():
            where = f"{fault!r} at {POSITIONS[at]}"
            if not any(trip.row == (fault, at) and trip.happened for trip in self.trips):
                yield f"{where} never happened"
                continue
            for name in missed:
                yield f"{name} was never killed after {where}"

    def again(self, seed: int) -> list[Trip]:
        """Trips that would fill the gaps: one for each of those who were never killed after what goes wrong there."""
        rows = [row for row, missed in self._missed() for _ in missed]
        random.Random(f"{seed} {len(self.trips)}").shuffle(rows)
        return [Trip(f"trip-{seed}-{n}", fault, at) for n, (fault, at) in enumerate(rows, start=len(self.trips))]

    def _missed(self) -> Iterator[tuple[tuple[str, int], list[str]]]:
        """The lines of the table on which somebody was never killed, and who that is."""
        hits = self.hits()
        for row in ROWS:
            if missed := [name for name in SERVICES if not hits[*row, name]]:
                yield row, missed

    def hits(self) -> Counter[tuple[str, int, str]]:
        """How often somebody died on a trip, by line of the table and service."""
        happened = [trip for trip in self.trips if trip.happened]
        return Counter((trip.fault, trip.at, name) for at_s, name in self.kills for trip in happened if trip.hit(at_s))

    def table(self) -> str:
        """Fault x position: how many, how they ended, and how often each process died on one of them."""
        hits = self.hits()
        counts = Counter((trip.fault, trip.at, trip.outcome) for trip in self.trips)
        ends = sorted({end for _, _, end in counts})
        lines = [
            f"{'':29}{'':7}{'':10}" + "".join(f"{'':{len(end) + 2}}" for end in ends) + "   killed after it, -9:",
            f"{'what goes wrong':16}{'at':13}{'trips':>7}{'happened':>10}"
            + "".join(f"{end:>{len(end) + 2}}" for end in ends)
            + "   "
            + "".join(f"{name:>{len(name) + 2}}" for name in SERVICES),
        ]
        for fault, at in ROWS:
            trips = [trip for trip in self.trips if trip.row == (fault, at)]
            happened = sum(trip.happened for trip in trips)
            lines.append(
                f"{fault:16}{POSITIONS[at] if fault != 'nothing' else '':13}{len(trips):7}{happened:10}"
                + "".join(f"{counts[fault, at, end]:{len(end) + 2}}" for end in ends)
                + "   "
                + "".join(f"{hits[fault, at, name]:{len(name) + 2}}" for name in SERVICES)
            )
        died = Counter(name for _, name in self.kills)
        told = ", ".join(f"{name} {died[name]}" for name in SERVICES)
        return "\n".join([*lines, "", f"{len(self.trips)} trips; killed at random moments: {told}"])


def _wrong(trip: Trip, books: Mapping[str, Any] | None) -> Iterator[str]:
    standing = sorted(books["open"]) if books else []
    if trip.end == "completed" and standing != ["flights", "hotels", "payments", "reservations"]:
        yield f"{trip} is completed, and only {standing} stand"
    if trip.end == "compensated" and books and (standing or books["net_cents"]):
        yield f"{trip} is compensated, and {standing} stand, for {books['net_cents']} cents"
    if trip.end == "compensated" and trip.fault in ABORTS_NOTHING and EXPIRED not in trip.reason:
        yield f"{trip} was undone for nothing"
    if not all(trip.stuck):
        yield f"{trip} was stuck, and nobody said why"
