"""The runs of one tenure: their head records, and the ones that wait for their time."""

import asyncio
import heapq
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import orjson

from hocket.clock import Clock
from hocket.errors import MalformedEvent
from hocket.log.base import Write

TOMBSTONE_KEPT = timedelta(hours=1)
"""How long the empty record of an ended run stays; it only has to outlive the append that wrote it."""

LONGEST_LOOK_S = 10.0
"""The wall clock is looked at this often at least, since it may be set while a run waits."""


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
    """When it goes on, in seconds since the Unix epoch; None: it was running."""

    def to_json(self) -> bytes:
        """The record's body."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, body: bytes) -> "Head":
        """Read a record's body. Raises MalformedEvent when it is no run head."""
        try:
            fields: dict[str, Any] = orjson.loads(body)
            return cls(**fields)
        except (ValueError, TypeError) as error:
            raise MalformedEvent(f"not a run head: {body[:80]!r}") from error


def tombstone(run: str) -> Write:
    """The end of a run's head: an empty body, kept no longer than needed."""
    return Write(run, b"", ttl=TOMBSTONE_KEPT)


class Parked:
    """The runs that wait, in the order of their time. One costs its head and a place in a heap."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, str, Head]] = []
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def park(self, run: str, head: Head) -> None:
        """Keep a run until its time."""
        assert head.until_s is not None
        heapq.heappush(self._heap, (head.until_s, run, head))
        self._changed.set()

    async def next_due(self) -> tuple[str, Head]:
        """Wait for the run whose time comes next; never returns one early."""
        while True:
            self._changed.clear()
            wait_s = LONGEST_LOOK_S
            if self._heap:
                wait_s = self._heap[0][0] - self._clock.now_s()
                if wait_s <= 0:
                    _, run, head = heapq.heappop(self._heap)
                    return run, head
            alarm = asyncio.get_running_loop().call_later(min(wait_s, LONGEST_LOOK_S), self._changed.set)
            try:
                await self._changed.wait()
            finally:
                alarm.cancel()
