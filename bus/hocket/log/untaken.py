"""Why an append is not answered: a write to the server's disk has failed, or another server leads the stream by now.

On one replica nats-server says nothing about that to whoever appends. When a single message finds no room it is dropped
without an answer; from then on the stream refuses all writes, as silently, until the server is restarted, though there
may be room again. A batch finds no room in one of two places: where the server gathers it, then it is called incomplete
and nothing of it is stored; or in the middle of the stream, then there is no answer either, readers see the first half,
and the server completes it at its next start.

Or it is the answer that got lost on its way.

On several replicas whoever led the stream may have died or stand still. What was sent to it is not answered any more
once another leads, which may have it or not: there is no use in waiting for longer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from hocket.errors import LogError, OutcomeUnknown, StorageFull, Unavailable
from hocket.log.base import Message, Write
from hocket.log.jetstream_link import Link
from hocket.log.wire import Frame

PROBE_S = 0.5
"""How long a healthy server may take to answer what it need not write down."""

INCOMPLETE_S = 1.5
INCOMPLETE_TIMES = 3
"""On one connection to one server no part of a batch is lost. So often and so long, and it is the disk."""

FULL = (
    "nats-server answers but stores nothing: a write to its disk has failed, most likely since it is full or the "
    "server may open no more files; make room, and restart it unless `hocket up` runs it"
)

_NEVER = Frame("", b"", b"NATS/1.0\r\nNats-Expected-Last-Sequence: 18446744073709551615\r\n\r\n")


class Standing(NamedTuple):
    """How a stream stands."""

    replicas: int
    led_s: float | None
    """For how long the server that leads it has done so, in seconds; None: it does not say."""


class Doubts:
    """What one append has seen of a server that does not take it."""

    def __init__(
        self,
        writes: Sequence[Write],
        link: Link,
        standing: Callable[[], Awaitable[Standing]],
        newest: Callable[[str], Awaitable[Message | None]],
    ) -> None:
        self._writes = writes
        self._link = link
        self._standing = standing
        self._newest = newest
        self._untaken = 0
        self._incomplete = 0
        self._since_s = 0.0

    async def unanswered(self, waited_s: float) -> LogError | None:
        """What it means that no answer has come for so many seconds; None: nobody knows, wait on.

        Unavailable: surely not stored, so it may be sent again. StorageFull: not stored, for the second time.
        OutcomeUnknown: no answer will come.
        """
        write = self._writes[-1]
        standing = await self._stands()
        if standing is not None and standing.led_s is not None and standing.led_s < waited_s:
            return OutcomeUnknown(f"another server leads the stream since {write.subject} was sent")
        if standing is None or standing.replicas > 1 or not await self._passed(write.subject):
            return None
        try:
            stored = await self._newest(write.subject)
        except LogError:
            return None
        if stored is not None and stored.data == write.data:  # now, or as it was said before
            return OutcomeUnknown(f"the answer for {write.subject} was lost")
        if len(self._writes) > 1:
            return OutcomeUnknown(f"no answer for {write.subject}: {FULL}")
        self._untaken += 1
        return StorageFull(FULL) if self._untaken > 1 else Unavailable(f"{write.subject} was not taken")

    async def incomplete(self) -> None:
        """Note that a batch came apart. Raises StorageFull when that is not by chance any more."""
        now_s = asyncio.get_running_loop().time()
        self._since_s = self._since_s or now_s
        self._incomplete += 1
        if self._incomplete >= INCOMPLETE_TIMES and now_s - self._since_s >= INCOMPLETE_S:
            standing = await self._stands()
            if standing is not None and standing.replicas == 1:
                raise StorageFull(FULL)

    async def _passed(self, subject: str) -> bool:
        """Whether the stream has been through what we sent before, without an answer to it.

        A stream on one replica takes what comes in one by one. We send something that it has to refuse, whatever it
        holds: when that is answered, our append was looked at before, and an answer to it would have been here first.
        """
        until = asyncio.get_running_loop().time() + PROBE_S
        try:
            await self._link.ask([_NEVER._replace(subject=subject)], until)
        except LogError:
            return False
        return True

    async def _stands(self) -> Standing | None:
        """How the stream stands; None: nobody says so in time.

        On several replicas an append waits for the others, and what follows it may be answered first.
        """
        try:
            async with asyncio.timeout(PROBE_S):
                return await self._standing()
        except (LogError, TimeoutError):
            return None


__all__ = ["FULL", "Doubts", "Standing"]
