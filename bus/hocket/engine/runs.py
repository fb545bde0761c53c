"""The runs of one tenure: their head records, and the ones that wait for their time."""

import asyncio
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar

import orjson

from hocket.approval import Terms
from hocket.clock import Clock
from hocket.errors import MalformedEvent
from hocket.log.base import Write
from hocket.subjects import Names, address

T = TypeVar("T")

TOMBSTONE_KEPT = timedelta(seconds=10)
"""How long the empty record stays that overwrites the head of an ended run: every takeover reads it until then."""

END_KEPT = timedelta(days=400)
"""How long the mark of a run's end stays, which no takeover reads: as long as a journal."""

LONGEST_LOOK_S = 10.0
"""The clock is looked at this often at least, since it may be corrected while a run waits."""


@dataclass(frozen=True, slots=True)
class Head:
    """The record of an open run: the event that it handles, and what it waits for."""

    subject: str
    """The event's."""

    seq: int
    handler: str
    version: str
    since: str
    suspect: bool
    """Whether an earlier owner may have answered the event before the run was opened."""

    emitted: int = 0
    """How many events it has emitted so far."""

    until_s: float | None = None
    """When it goes on at the latest, in seconds since the Unix epoch; 0: its answer has come."""

    waits: tuple[str, ...] = ()
    """The event types that may end its wait. With neither these nor a time it was running."""

    approval: Any = None
    """What people are asked, as JSON; None: nothing. In memory, its terms."""

    parked: str | None = None
    """Why a person has to look at it; None: nobody has to."""

    saga: str = ""
    """The event's, where it is not the key."""

    letter: str = ""
    """The dead letter that the event was sent again for."""

    again_from: int | None = None
    """Events that it had emitted when its handler came to its end, and asked to be called again; None: it did not."""

    @property
    def waiting(self) -> bool:
        """Whether it waits, rather than having run when its owner ended."""
        return self.until_s is not None or bool(self.waits)

    @property
    def lean(self) -> "Head":
        """What has to be in memory while it waits; the log has the rest."""
        asked = self.approval
        if isinstance(asked, dict):
            options, approvers = _shared(tuple(asked["options"])), _shared(tuple(asked["approvers"]))
            wider = _shared(tuple(asked.get("escalate_to", ())))
            nth = _shared(asked["approval"].rpartition(".")[2])  # the whole id would be a tenth of what a run takes up
            asked = Terms(nth, asked["digest"], options, approvers, wider, asked["quorum"])
        return replace(self, approval=asked, parked=None) if self.approval or self.parked else self

    @property
    def woken(self) -> "Head":
        """The same once its answer has come."""
        return replace(self, until_s=0.0, approval=None)

    def to_json(self) -> bytes:
        """The record's body."""
        return orjson.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, body: bytes) -> "Head":
        """Read a record's body. Raises MalformedEvent when it is no run head."""
        try:
            fields: dict[str, Any] = orjson.loads(body)
            fields["waits"] = _shared(tuple(fields["waits"]))
            fields["handler"] = _shared(fields["handler"])
            fields["version"] = _shared(fields["version"])
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise MalformedEvent(f"not a run head: {body[:80]!r}") from error


def tombstone(run: str) -> Write:
    """What takes the place of an ended run's head, so that no takeover finds it."""
    return Write(run, b"", ttl=TOMBSTONE_KEPT)


def ending(names: Names, *runs: str) -> list[Write]:
    """The end of runs, by the subjects of their heads.

    A server that is killed may bring a head back once what overwrote it has expired. The mark then tells that the run
    has ended, and is never overwritten itself.
    """
    return [write for run in runs for write in (tombstone(run), Write(names.end(run), b"", ttl=END_KEPT))]


class Parked:
    """The runs that wait, by key and in the order of their time. One costs its head and its places here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heads: dict[str, Head] = {}
        self._woken: set[str] = set()
        self._by_key: dict[str, str | tuple[str, ...]] = {}
        """Most keys have one run that waits, and a tuple for each would be a good part of what that takes up."""

        self._heap: list[tuple[float, str]] = []
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._heads)

    def park(self, run: str, head: Head) -> None:
        """Keep a run until its time or its answer comes."""
        key = address(head.subject).key
        self._heads[run] = head.lean
        self._by_key[key] = (*self.of_actor(key), run) if key in self._by_key else run
        if head.until_s is not None:
            heapq.heappush(self._heap, (head.until_s, run))
            self._changed.set()
        if len(self._heap) > 2 * len(self._heads) + 64:
            self._heap = [(head.until_s, run) for run, head in self._heads.items() if head.until_s is not None]
            heapq.heapify(self._heap)

    def of_key(self, key: str, event_type: str) -> list[tuple[str, Head]]:
        """The key's runs that wait for an event of this type, woken ones included."""
        found = ((run, self._heads[run]) for run in self.of_actor(key))
        return [(run, head) for run, head in found if event_type in head.waits]

    def of_actor(self, key: str) -> tuple[str, ...]:
        """The key's runs that wait, woken ones included."""
        found = self._by_key.get(key, ())
        return (found,) if isinstance(found, str) else found

    def asking(self, run: str, approval: str) -> Head | None:
        """The run, if it asks people this; woken or not. The id of an approval begins with its run's."""
        head = self._heads.get(run)
        nth = approval.rpartition(".")[2]
        return head if head is not None and head.approval and head.approval.nth == nth else None

    def woken(self, run: str) -> bool:
        """Whether a run that is here does not wait any more."""
        return run in self._woken or self._heads[run].until_s == 0.0

    def wake(self, run: str) -> Head | None:
        """Take note that a run's wait is over; None when it was before. It stays until it is taken out."""
        if run not in self._heads or run in self._woken:
            return None
        self._woken.add(run)
        return self._heads[run]

    def within(self, scope: str, name: str) -> Iterator[tuple[str, Head]]:
        """The runs that a request may be about: those of a `saga` or a `key`, or the one `run` of that token."""
        for key in self._by_key:
            for run in self.of_actor(key):
                head = self._heads[run]
                if name == (head.saga or key if scope == "saga" else key if scope == "key" else run.rpartition(".")[2]):
                    yield run, head

    def take_out(self, run: str) -> bool:
        """Forget a run that goes on now; False when it is not here."""
        head = self._heads.pop(run, None)
        self._woken.discard(run)
        if head is not None:
            key = address(head.subject).key
            others = tuple(other for other in self.of_actor(key) if other != run)
            if others:
                self._by_key[key] = others
            else:
                del self._by_key[key]
        return head is not None

    def forget(self, runs: Iterable[str]) -> None:
        """Let go of runs that have ended while they waited."""
        for run in runs:
            self.take_out(run)

    async def next_due(self) -> tuple[str, Head]:
        """Wait for the run whose time comes next, and wake it; never returns one early."""
        while True:
            self._changed.clear()
            wait_s = LONGEST_LOOK_S
            if self._heap:
                until_s, run = self._heap[0]
                wait_s = until_s - self._clock.now_s()
                if wait_s <= 0:
                    heapq.heappop(self._heap)
                    head = self._heads.get(run)
                    if head is not None and head.until_s == until_s and self.wake(run):
                        return run, head
                    continue
            alarm = asyncio.get_running_loop().call_later(min(wait_s, LONGEST_LOOK_S), self._changed.set)
            try:
                await self._changed.wait()
            finally:
                alarm.cancel()


@lru_cache(maxsize=256)
def _shared(value: T) -> T:
    """The same object for equal values: thousands of heads name few handlers."""
    return value
