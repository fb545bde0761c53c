"""What was cancelled: read from the log alone, so that every owner knows the same."""

from dataclasses import dataclass
from typing import NamedTuple

from hocket.clock import Clock
from hocket.engine.handling import is_own, read
from hocket.log.base import Message, Seq
from hocket_schemas import gate
from hocket_schemas.cancels import CANCEL_KEPT, CancelRequested

REQUESTED = CancelRequested.event_type


@dataclass(frozen=True, slots=True)
class Cancel:
    """A request, as far as it says what it is about."""

    seq: Seq
    id: str
    reason: str
    by: str
    scope: tuple[str, str]
    """`saga`, `key` or `run`, and which."""

    until_s: float
    """When the log forgets it, in seconds since the Unix epoch."""

    def __str__(self) -> str:
        return told(self.by, self.reason)


class Extent(NamedTuple):
    """All that a request can be about, of one handling."""

    seq: int
    """Of the event."""

    type: str
    key: str
    saga: str
    run: str


class Cancels:
    """Every request that the log holds, for one agent on one shard. It forgets them when the log does."""

    def __init__(self, clock: Clock, *, heeds: bool) -> None:
        self._clock = clock
        self._heeds = heeds
        self._known: dict[int, Cancel] = {}
        self._named: dict[tuple[str, str], Cancel] = {}
        """The newest by what it names."""

        self.ending: dict[str, Cancel] = {}
        """The waiting runs that are being ended, by the subjects of their heads."""

    def __bool__(self) -> bool:
        return bool(self._known)

    def hear(self, message: Message) -> tuple[Cancel, bool]:
        """Take a request in; whether it is a new one. Raises MalformedEvent."""
        known = self._known.get(message.seq)
        if known is not None:
            return known, False
        cancel = cancel_of(message)
        self.know(cancel)
        return cancel, True

    def know(self, cancel: Cancel) -> None:
        """Take one in that was read before."""
        self._known[cancel.seq] = cancel
        before = self._named.get(cancel.scope)
        if before is None or before.seq < cancel.seq:
            self._named[cancel.scope] = cancel
        self._forget()

    def covering(self, what: Extent) -> Cancel | None:
        """The request by which a handling ends or does not begin; None: it may go on."""
        found = self._named.get(("run", what.run))
        if found is None and self._heeds and not is_own(what.type):  # those are about its end
            found = self._named.get(("saga", what.saga))
            if found is None:
                found = self._named.get(("key", what.key))
                if found is not None and found.seq < what.seq:
                    return None
        return found

    def _forget(self) -> None:
        """Let go of the oldest, as the log does."""
        now_s = self._clock.now_s()
        while self._known:
            oldest = self._known[next(iter(self._known))]
            if oldest.until_s > now_s:
                return
            del self._known[oldest.seq]
            if self._named.get(oldest.scope) is oldest:
                del self._named[oldest.scope]


def cancel_of(message: Message) -> Cancel:
    """What a message asks for. Raises MalformedEvent."""
    envelope = read(message)
    asked = gate.event_of(envelope, CancelRequested)
    until_s = message.time_ns / 1e9 + CANCEL_KEPT.total_seconds()
    return Cancel(message.seq, envelope.id, asked.reason, asked.by, asked.scope, until_s)


def recalled(seq: int, request: str, kind: str, name: str, until_s: float) -> Cancel:
    """What is kept in mind of a request. By whom it was and why is said in the event of that id."""
    return Cancel(Seq(seq), request, "", f"request {request}", (kind, name), until_s)


def told(by: str, reason: str) -> str:
    """By whom something was cancelled, and why."""
    return f"cancelled by {by}: {reason}" if reason else f"cancelled by {by}"
