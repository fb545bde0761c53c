"""The log's twin: the same promises and the same errors, in memory, under any clock, with faults on demand.

It serves tests and simulations of whole systems: `MemoryServer` is what is stored, `MemoryLog` one client's
connection to it. With a virtual event loop a run of days takes milliseconds, and a seed decides every fault.
"""

import asyncio
import heapq
import random
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from hocket.clock import Clock, SystemClock
from hocket.errors import (
    AppendTooLarge,
    Conflict,
    ConsumerLost,
    OutcomeUnknown,
    StorageFull,
    Unavailable,
)
from hocket.log import wire
from hocket.log.base import APPEND_MESSAGES_MAX, SINGLY_MAX, Expect, Message, Seq, Write
from hocket.log.matching import matching

PAYLOAD_BYTES_MAX = 1 << 20
"""The server's default payload limit."""


LISTENER_MESSAGES_MAX = 1024
"""A slow listener keeps this many messages and loses the oldest."""


@dataclass(slots=True)
class Faults:
    """What one connection suffers: chances between 0 and 1, decided by `rng`."""

    rng: random.Random = field(default_factory=lambda: random.Random(0))
    delay_s: float = 0.0
    """Each way takes up to this long."""

    lose_request: float = 0.0
    """An append never arrives; its sender learns nothing."""

    lose_answer: float = 0.0
    """An append is stored; its sender learns nothing."""

    late: float = 0.0
    """An append is stored, or refused, only after its sender has given up."""

    late_s: float = 10.0
    """How late at most."""

    lose_consumer: float = 0.0
    """A delivery ends in ConsumerLost instead."""

    deaf: bool = False
    """Nothing told reaches anybody and nothing is heard, while the log itself works: a zombie in the making."""

    def strikes(self, chance: float) -> bool:
        """Whether this fault happens now."""
        return chance > 0 and self.rng.random() < chance


class MemoryServer:
    """One shard's stored messages, and what a server does with them."""

    def __init__(
        self, *, domain: str = "hocket", shard: int = 0, bytes_max: int = 1 << 30, clock: Clock | None = None
    ) -> None:
        self.domain = domain
        self.shard = shard
        self.bytes_max = bytes_max
        self.clock = clock or SystemClock()
        self.up = True
        self.history: list[Message] = []
        """Every message ever stored, also those that were overwritten: what an outside observer saw."""

        self._newest: dict[str, Message] = {}
        self._seqs: list[int] = []
        self._at: dict[int, Message] = {}
        self._end = 0
        self._bytes = 0
        self._expiries: list[tuple[float, int]] = []
        self._ttls: dict[int, int] = {}
        self._restored_ns: dict[int, int] = {}
        self._lasting: dict[str, Message] = {}
        """The newest of each subject that has no TTL, overwritten or not."""

        self._readers: dict[str, int] = {}
        """Who reads each durable consumer. Its position belongs to the reader, as after any reset."""

        self.handed_out: dict[str, Seq] = {}
        """How far each durable consumer has come."""

        self._waiting: dict[asyncio.Future[None], Callable[[str], bool] | None] = {}
        """Who waits for what; in order, so that a seed replays exactly."""

        self._listeners: dict[int, tuple[Callable[[str], bool], deque[Message], asyncio.Event]] = {}
        self._serial = 0

    def connect(self, faults: Faults | None = None) -> "MemoryLog":
        """A new client's connection."""
        return MemoryLog(self, faults or Faults())

    def stop(self) -> None:
        """Be away: every call raises Unavailable, every reader loses its consumer."""
        self.up = False
        self._readers.clear()
        self._wake()

    def start(self) -> None:
        """Be back, with everything that was stored, and with what only something overwrites that has expired."""
        self._expire()
        for message in () if self.up else [m for m in self._lasting.values() if m.subject not in self._newest]:
            self._newest[message.subject] = self._at[message.seq] = message
            self._bytes += _size(message)
        self._seqs = sorted(self._at)
        self.up = True
        self._wake()

    def delete_consumer(self, name: str) -> None:
        """Forget a durable consumer, as an operator's mistake would."""
        self._readers.pop(name, None)
        self.handed_out.pop(name, None)
        self._wake()

    def store(self, writes: Sequence[Write]) -> Seq:
        """Store all or nothing. The one place where the log changes."""
        if not self.up:
            raise Unavailable("the log is down")
        self._expire()
        size = _check_sizes(writes)
        for write in writes:
            if write.expect and self._last_seq(write.expect) != write.expect.seq:
                raise Conflict(f"wrong last sequence: {self._last_seq(write.expect)}")
        freed = sum(_size(self._newest[w.subject]) for w in writes if w.subject in self._newest)
        if self._bytes + size - freed > self.bytes_max:
            raise StorageFull("maximum bytes exceeded")
        for write in writes:
            self._put(write)
        self._wake([write.subject for write in writes])
        return Seq(self._end)

    def newest(self, subject: str) -> Message | None:
        """The newest message under a subject."""
        self._expire()
        return self._newest.get(subject)

    def since(self, start: int, filters: Sequence[str], most: int) -> list[Message]:
        """Up to `most` messages from `start` on that match."""
        self._expire()
        matches, seqs, at = matching(tuple(filters)), self._seqs, self._at
        found: list[Message] = []
        for index in range(bisect_left(seqs, start), len(seqs)):
            message = at.get(seqs[index])
            if message is not None and matches(message.subject):
                found.append(message)
                if len(found) == most:
                    break
        return found

    def begin_at(self, first: int) -> None:
        """Give the first message ever this sequence."""
        assert self._end == 0, "something is stored already"
        self._end = first - 1

    def raw(self, message: Message) -> Message:
        """A message with the server's own stamp of time, and the header that says when it may be forgotten."""
        message = message._replace(time_ns=self._restored_ns.get(message.seq, message.time_ns))
        ttl_s = self._ttls.get(message.seq)
        return message if ttl_s is None else message._replace(headers={**message.headers, "Nats-TTL": f"{ttl_s}s"})

    @property
    def end(self) -> Seq:
        """The newest sequence."""
        return Seq(self._end)

    def _last_seq(self, expect: Expect) -> int:
        subject = expect.subject
        if "*" not in subject and ">" not in subject:
            message = self._newest.get(subject)
            return message.seq if message else 0
        matches = matching((subject,))
        return max((message.seq for known, message in self._newest.items() if matches(known)), default=0)

    def _put(self, write: Write) -> None:
        self._end += 1
        old = self._newest.get(write.subject)
        if old:
            self._forget(old)
        now_s = self.clock.now_s()
        headers = write.headers or {}
        time_ns = wire.first_stored(headers, int(now_s * 1e9))
        if wire.STORED in headers:
            self._restored_ns[self._end] = int(now_s * 1e9)
        message = Message(write.subject, Seq(self._end), write.data, time_ns, headers)
        self._newest[write.subject] = message
        self._seqs.append(self._end)
        self._at[self._end] = message
        self._bytes += _size(message)
        self.history.append(message)
        if write.ttl is None:
            self._lasting[write.subject] = message
        else:
            self._ttls[self._end] = int(write.ttl.total_seconds())
            heapq.heappush(self._expiries, (now_s + write.ttl.total_seconds(), self._end))

    def _forget(self, message: Message) -> None:
        del self._at[message.seq]
        self._ttls.pop(message.seq, None)
        self._restored_ns.pop(message.seq, None)
        self._bytes -= _size(message)
        if len(self._seqs) > 64 and len(self._at) * 2 < len(self._seqs):
            self._seqs = sorted(self._at)

    def _expire(self) -> None:
        if not self._expiries:
            return
        now_s = self.clock.now_s()
        while self._expiries and self._expiries[0][0] <= now_s:
            _, seq = heapq.heappop(self._expiries)
            message = self._at.get(seq)
            if message:
                del self._newest[message.subject]
                self._forget(message)

    def _wake(self, stored: Sequence[str] | None = None) -> None:
        """Let those go on whom it concerns that these subjects were stored; None: something else is new, for all."""
        for future, matches in list(self._waiting.items()):
            if stored is None or matches is None or any(map(matches, stored)):
                del self._waiting[future]
                if not future.done():
                    future.set_result(None)

    async def changed(self, filters: Sequence[str] | None = None) -> None:
        """Wait until something may have changed: a message under the filters, any at all without them, a consumer, the
        server itself.
        """
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = None if filters is None else matching(tuple(filters))
        try:
            await future
        finally:
            self._waiting.pop(future, None)

    def attach(self, name: str, start: int) -> int:
        """Make a new reader of the durable consumer `name`; the one before has lost it."""
        self._serial += 1
        self._readers[name] = self._serial
        self.handed_out[name] = Seq(start - 1)
        self._wake()
        return self._serial

    def attached(self, name: str, reader: int) -> bool:
        """Whether `reader` still reads the durable consumer."""
        return self.up and self._readers.get(name) == reader

    def tell(self, subject: str, data: bytes) -> None:
        """Hand a message to whoever listens now."""
        message = Message(subject, Seq(0), data)
        for matches, queue, ready in self._listeners.values():
            if matches(subject):
                queue.append(message)
                ready.set()

    @asynccontextmanager
    async def listening(self, pattern: str) -> AsyncIterator[AsyncIterator[Message]]:
        """Hear what is told."""
        self._serial += 1
        serial = self._serial
        queue: deque[Message] = deque(maxlen=LISTENER_MESSAGES_MAX)
        ready = asyncio.Event()
        self._listeners[serial] = (matching((pattern,)), queue, ready)

        async def heard() -> AsyncIterator[Message]:
            while True:
                while queue:
                    yield queue.popleft()
                ready.clear()
                await ready.wait()

        try:
            yield heard()
        finally:
            del self._listeners[serial]


class MemoryLog:
    """One client's connection to a MemoryServer; implements `Log`."""

    def __init__(self, server: MemoryServer, faults: Faults) -> None:
        self.server = server
        self.faults = faults
        self.domain = server.domain
        self.shard = server.shard
        self.singly_max = SINGLY_MAX
        self.killed = False

    def kill(self) -> None:
        """End as a process does on SIGKILL: nothing sent from here on arrives, no answer comes back."""
        self.killed = True

    async def append(self, writes: Sequence[Write], *, timeout_s: float = 5.0) -> Seq:
        """See `Log.append`. Raises UsageError for what no log could take."""
        wire.check(writes, f"{self.domain}.{self.shard}.")
        _check_sizes(writes)
        await self._travel()
        faults = self.faults
        if faults.strikes(faults.lose_request):
            await self._give_up(timeout_s)
        if faults.strikes(faults.late):
            loop = asyncio.get_running_loop()
            loop.call_later(timeout_s + faults.rng.random() * faults.late_s, self._store_late, list(writes))
            await self._give_up(timeout_s)
        last = self.server.store(writes)
        if faults.strikes(faults.lose_answer):
            await self._give_up(timeout_s)
        await self._travel()
        return last

    async def last(self, subject: str) -> Message | None:
        """See `Log.last`."""
        await self._travel()
        self._require_up()
        return self.server.newest(subject)

    async def handed_out(self, name: str) -> Seq | None:
        """See `Log.handed_out`."""
        await self._travel()
        self._require_up()
        return self.server.handed_out.get(name)

    async def end(self) -> Seq:
        """See `Log.end`."""
        await self._travel()
        self._require_up()
        return self.server.end

    async def time_s(self) -> float:
        """See `Log.time_s`."""
        await self._travel()
        self._require_up()
        return self.server.clock.now_s()

    async def scan(
        self, filters: Sequence[str], *, start: int = 1, follow: bool = False
    ) -> AsyncGenerator[Message, None]:
        """See `Log.scan`."""
        await self._travel()
        self._require_up()
        until = self.server.end
        position = start
        while True:
            found = self.server.since(position, filters, 256) if self.server.up else []
            for message in found:
                if not follow and message.seq > until:
                    return
                position = message.seq + 1
                yield message
            if not follow and len(found) < 256:
                return
            if not found:  # else more may have come while these were read
                await self.server.changed(filters)
            await self._travel()

    async def everything(self, *, start: int = 1, follow: bool = False) -> AsyncGenerator[Message, None]:
        """See `Whole.everything`. The twin stores appends in one go, so nobody sees half of one."""
        async with aclosing(self.scan([f"{self.domain}.{self.shard}.>"], start=start, follow=follow)) as messages:
            async for message in messages:
                yield self.server.raw(message)

    @asynccontextmanager
    async def consume(self, name: str, filters: Sequence[str], *, start: int) -> AsyncIterator["_MemoryConsumption"]:
        """See `Log.consume`."""
        await self._travel()
        self._require_up()
        yield _MemoryConsumption(self, name, filters, start)

    async def tell(self, subject: str, data: bytes) -> None:
        """See `Log.tell`."""
        await self._travel()
        if self.server.up and not self.faults.deaf:
            self.server.tell(subject, data)

    @asynccontextmanager
    async def listen(self, subject: str) -> AsyncIterator[AsyncIterator[Message]]:
        """See `Log.listen`."""
        async with self.server.listening(subject) as heard:
            yield heard

    async def _travel(self) -> None:
        delay_s = self.faults.delay_s
        await asyncio.sleep(self.faults.rng.random() * delay_s if delay_s else 0)
        if self.killed:
            await asyncio.get_running_loop().create_future()

    async def _give_up(self, timeout_s: float) -> None:
        await asyncio.sleep(timeout_s)
        raise OutcomeUnknown(f"no answer within {timeout_s} s")

    def _store_late(self, writes: Iterable[Write]) -> None:
        try:
            self.server.store(list(writes))
        except (Conflict, StorageFull, Unavailable):
            return

    def _require_up(self) -> None:
        if not self.server.up:
            raise Unavailable("the log is down")


class _MemoryConsumption:
    """A durable consumer's deliveries on the twin."""

    def __init__(self, log: MemoryLog, name: str, filters: Sequence[str], start: int) -> None:
        self._log = log
        self._name = name
        self._filters = list(filters)
        self._position = start
        self._reader = log.server.attach(name, start)

    async def take(self, most: int) -> Sequence[Message]:
        """See `Consumption.take`."""
        server = self._log.server
        while True:
            await self._log._travel()
            if not server.attached(self._name, self._reader):
                raise ConsumerLost(f"consumer {self._name} is gone or read by another")
            if self._log.faults.strikes(self._log.faults.lose_consumer):
                raise ConsumerLost(f"consumer {self._name} has a gap")
            found = server.since(self._position, self._filters, most)
            if found:
                self._position = found[-1].seq + 1
                server.handed_out[self._name] = found[-1].seq
                return found
            await server.changed(self._filters)

    async def pending(self) -> int:
        """See `Consumption.pending`."""
        await self._log._travel()
        return len(self._log.server.since(self._position, self._filters, 1 << 30))

    async def ack(self, floor: Seq) -> None:
        """See `Consumption.ack`. The twin keeps no lag, so there is nothing to do."""


def _size(message: Message) -> int:
    return len(message.subject) + len(message.data) + 32


def _check_sizes(writes: Sequence[Write]) -> int:
    if not 1 <= len(writes) <= APPEND_MESSAGES_MAX:
        raise AppendTooLarge(f"{len(writes)} messages in one append, between 1 and {APPEND_MESSAGES_MAX} go")
    total = 0
    for write in writes:
        if len(write.data) > PAYLOAD_BYTES_MAX:
            raise AppendTooLarge(f"{len(write.data)} bytes for {write.subject}, limit {PAYLOAD_BYTES_MAX}")
        total += len(write.subject) + len(write.data) + 32
    return total
