"""The one seam to NATS: what the engine needs of a log, and what it may not rely on.

A log is one JetStream stream, one shard of a domain. `log/jetstream.py` is the real one, `log/memory.py`
its twin; the contract suite in tests/contract holds both to this file.

The values are named tuples: an event makes a dozen of them on its way, and a frozen dataclass takes five times as
long to make.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from types import MappingProxyType
from typing import NamedTuple, NewType, Protocol

Seq = NewType("Seq", int)
"""A position in the log: 1 for the first message ever stored, no two alike, 0 for "none"."""

SINGLY_MAX = 6
"""For a batch nats-server makes a store of its own on the disk, unless other servers keep the stream too: that costs as
much as so many messages that have to reach the disk one by one."""

APPEND_MESSAGES_MAX = 1000
"""The server's limit of messages in one atomic batch."""


class Expect(NamedTuple):
    """A condition on the log at the moment of the append: the newest message under `subject` is `seq`."""

    subject: str
    """May hold wildcards: then the newest message of all that match counts."""

    seq: int
    """0: no message is there."""


class Write(NamedTuple):
    """One message to store."""

    subject: str
    data: bytes
    expect: Expect | None = None
    ttl: timedelta | None = None
    """When the log may forget it, counted from the append; whole seconds, at least one. None: never."""

    headers: Mapping[str, str] | None = None


class Message(NamedTuple):
    """One stored message as read back."""

    subject: str
    seq: Seq
    data: bytes
    time_ns: int = 0
    """When the server stored it, in nanoseconds since the Unix epoch; of what was restored, when that was at first."""

    headers: Mapping[str, str] = MappingProxyType({})
    pending: int = 0
    """How many more matched the reader's filters when this one was sent; a hint, for showing lag."""


class Consumption(Protocol):
    """A running durable consumer: deliveries in log order, each once, from where it was started.

    Not promised: that it survives anything. At the first doubt (a gap, a redelivery, silence, deletion)
    `take` raises ConsumerLost, and the owner starts again from its cursor.
    """

    async def take(self, most: int) -> Sequence[Message]:
        """Wait for deliveries; return between 1 and `most` of them, in log order. Raises ConsumerLost."""
        ...

    async def pending(self) -> int:
        """How many deliveries wait that were not taken yet; a hint, for showing lag. Asks the server."""
        ...

    async def ack(self, floor: Seq) -> None:
        """Tell the server that everything up to `floor` is finished. A hint, for showing lag: never waits."""
        ...


class Log(Protocol):
    """One shard's log. All methods may be called concurrently; all raise Unavailable when it is away.

    Not promised: that what was overwritten is gone. Once its successor has expired, it may be back after a crash.
    """

    domain: str
    shard: int
    singly_max: int
    """Up to so many messages that need not be stored together cost less one after the other than in one append."""

    async def append(self, writes: Sequence[Write], *, timeout_s: float = 5.0) -> Seq:
        """Store all writes, next to each other and in order, or none; return the last one's sequence.

        Expectations are judged against the log as it was before the append, under one lock. Write i of n
        then has the sequence `last - n + 1 + i`. A single write is a plain publish.

        Raises Conflict, StorageFull, AppendTooLarge, PermissionDenied, Unavailable (nothing stored) or
        OutcomeUnknown (no answer within `timeout_s`).
        """
        ...

    async def last(self, subject: str) -> Message | None:
        """Read the newest message under `subject` (no wildcards) from the leader, never a stale replica."""
        ...

    def scan(self, filters: Sequence[str], *, start: int = 1, follow: bool = False) -> AsyncGenerator[Message, None]:
        """Yield what is stored under the filters, in log order, from sequence `start` on.

        Ends with the last message that was in the log when the scan began; with `follow` it never ends.
        Gaps are healed by reading again from the last message seen. Filters must not overlap. Close the
        iterator (`contextlib.aclosing`) when leaving early.
        """
        ...

    def consume(self, name: str, filters: Sequence[str], *, start: int) -> AbstractAsyncContextManager[Consumption]:
        """Create or update the durable consumer `name`, reset it to `start`, and deliver.

        One reader at a time: a second one with the same name takes deliveries from the first, which sees
        a gap and stops with ConsumerLost. Ownership is the engine's business, not the consumer's.
        """
        ...

    async def handed_out(self, name: str) -> Seq | None:
        """How far the durable consumer `name` has come: none of its readers was given anything later than that.

        None: there is no such consumer, or nobody answers who knows. Of a server that was killed it may be what was
        true a moment before.
        """
        ...

    async def end(self) -> Seq:
        """Return the sequence of the newest message in the log, 0 when it is empty. From the leader."""
        ...

    async def time_s(self) -> float:
        """Ask what time it is by the clock that stamps what is stored, in seconds since the Unix epoch."""
        ...

    async def tell(self, subject: str, data: bytes) -> None:
        """Send to whoever listens now. Not stored, at most once, no error when nobody does."""
        ...

    def listen(self, subject: str) -> AbstractAsyncContextManager[AsyncIterator[Message]]:
        """Hear what is told on `subject` (wildcards allowed) from the moment of entry on."""
        ...


class Whole(Log, Protocol):
    """A log that can be read as a whole, to copy it."""

    def everything(self, *, start: int = 1, follow: bool = False) -> AsyncGenerator[Message, None]:
        """Like `scan` of all that is stored, with the server's own headers and stamps of time.

        Of these `Nats-TTL` says when the log may forget a message, and `Nats-Batch-Id` without `Nats-Batch-Commit`
        that the next message belongs to the same append.
        """
        ...
