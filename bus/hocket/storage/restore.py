"""A copy brought back into an empty log such that every message has its old sequence again.

Claims, cursors, run heads, states and dead letters name positions in the log. Rather than to know and rewrite each of
these, now and in every later version, the positions are kept: where the old log had a gap, a filler takes its place.
All fillers of a shard have one subject, so each overwrites the one before it, and the last one goes by itself.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from hocket.clock import ServerClock
from hocket.engine.timekeeping import correct
from hocket.errors import DomainInUse, LogError, OutcomeUnknown
from hocket.log.base import Log, Write
from hocket.log.wire import STORED
from hocket.storage.line import Stored, whose
from hocket.subjects import Names

BATCH_MESSAGES = 1000
BATCH_BYTES = 2 << 20
"""The most that is stored in one append."""

APPEND_S = 30.0
LISTEN_S = 2.5
"""How long to listen for agents that are at work: their heartbeats come each second."""

FILLER_KEPT = timedelta(seconds=60)
LEAST_KEPT = timedelta(seconds=1)
TOLD_EVERY = 20


@dataclass(frozen=True, slots=True)
class Restored:
    """What was brought back."""

    domain: str
    messages: int
    fillers: int
    """Sequences that the copy does not hold, since they were overwritten or forgotten."""

    expired: int
    """Of the messages, those whose time had run out since: they are forgotten within a second."""

    ends: tuple[int, ...]


async def require_idle(logs: Sequence[Log], *, listen_s: float = LISTEN_S) -> None:
    """Raise DomainInUse when an agent is heard."""
    for log in logs[:1]:  # the heartbeats of all shards can be heard at any of them
        pattern = Names(log.domain, log.shard).heartbeats.rpartition(".")[0] + ".*"
        async with log.listen(pattern) as heard:
            try:
                async with asyncio.timeout(listen_s):
                    async for message in heard:
                        agent = message.subject.split(".")[2]
                        raise DomainInUse(f"agent {agent} is at work in domain {log.domain!r}: stop it first")
            except TimeoutError:
                return


async def restore(
    messages: Iterable[Stored],
    ends: Sequence[int],
    logs: Sequence[Log],
    *,
    told: Callable[[int], None] = lambda messages: None,
) -> Restored:
    """Store what a copy holds, in logs whose first message gets the copy's first sequence.

    `told` hears now and then how many messages are stored. Raises LogError, StorageFull and Unavailable; what was
    stored until then is of no use.
    """
    clock = ServerClock()  # by this their times run out, and not by that of whoever restores
    await correct(clock, logs[0])
    refills = [_Refill(log, clock) for log in logs]
    count = 0
    for stored in messages:
        await refills[stored.shard].put(stored)
        count += 1
        if count % (TOLD_EVERY * BATCH_MESSAGES) == 0:
            told(count)
    for refill, end in zip(refills, ends, strict=True):
        await refill.finish(end)
    expired = sum(refill.expired for refill in refills)
    if expired:  # nobody is to see what is over
        await asyncio.sleep(2 * LEAST_KEPT.total_seconds())
    told(count)
    return Restored(logs[0].domain, count, sum(refill.fillers for refill in refills), expired, tuple(ends))


class _Refill:
    """One shard that is being filled."""

    def __init__(self, log: Log, clock: ServerClock) -> None:
        self.fillers = 0
        self.expired = 0
        self._log = log
        self._clock = clock
        self._batch: list[Write] = []
        self._bytes = 0
        self._end: int | None = None
        """The last sequence with what is in hand."""

        self._filler = Write(f"{log.domain}.{log.shard}.gap", b"", ttl=FILLER_KEPT)

    async def put(self, stored: Stored) -> None:
        """Store a message at its sequence."""
        message = stored.message
        await self._fill(message.seq - 1)
        headers = {**message.headers, STORED: str(message.time_ns)}
        ttl = stored.ttl
        if ttl is not None:
            left_s = message.time_ns / 1e9 + ttl.total_seconds() - self._clock.now_s()
            ttl = max(LEAST_KEPT, timedelta(seconds=ceil(left_s)))
            if left_s <= 0:
                self.expired += 1
                if whose(message.subject).kind in ("evt", "cmd"):
                    # It has replaced nothing, so nothing comes back without it. A record may have.
                    await self._add(self._filler)
                    return
        await self._add(Write(message.subject, message.data, ttl=ttl, headers=headers))

    async def finish(self, end: int) -> None:
        """Store what is in hand; the next message will get the sequence behind `end`."""
        await self._fill(end)
        await self._flush()

    async def _fill(self, end: int) -> None:
        if self._end is None:
            self._end = int(await self._log.end())
        if end < self._end:
            raise LogError(f"shard {self._log.shard} ends with {self._end}, the copy goes on after {end}")
        while self._end < end:
            self.fillers += 1
            await self._add(self._filler)

    async def _add(self, write: Write) -> None:
        assert self._end is not None, "asked for before anything is put"
        self._batch.append(write)
        self._bytes += len(write.data) + len(write.subject)
        self._end += 1
        if len(self._batch) >= BATCH_MESSAGES or self._bytes >= BATCH_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        batch, self._batch, self._bytes = self._batch, [], 0
        if not batch:
            return
        assert self._end is not None
        try:
            last = int(await self._log.append(batch, timeout_s=APPEND_S))
        except OutcomeUnknown:
            last = int(await self._log.end())
        if last != self._end:
            raise LogError(f"shard {self._log.shard} ends with {last} instead of {self._end}: is anybody else writing?")


__all__ = ["Restored", "require_idle", "restore"]
