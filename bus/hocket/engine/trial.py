"""Events that may have ended their process: each is tried with that written down first, and not for ever.

A process that ended without leaving may have been ended by what it handled, and nobody can ask it. So its next owner
writes down which of the events that it had left unfinished it begins. The first time that is all: they are handled
side by side like any others, and most have finished by the time that the process ends again. Those that have not are
tried one at a time from then on, beside all that is not under suspicion; those that have ended the fewest processes
come first. Whoever is innocent finishes at the first such try. Whoever ends its process each time becomes a dead
letter, after as many attempts as its handler allows.

Where another instance stood by, they are not begun before one does again, but for a moment only: whoever ends the
process once more is followed at once. All others go on meanwhile.

A clean start, and every event that came after a claim, costs nothing of this.
"""

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress

from hocket.clock import rfc3339
from hocket.engine.commit import Committer
from hocket.engine.cursor import Tried
from hocket.engine.dispatch import Work
from hocket.engine.failures import take_note
from hocket.engine.handling import Dead, Received
from hocket.engine.transition import Tenure, Transition
from hocket.errors import ProcessEnded
from hocket.failures import told
from hocket.policy import Limits
from hocket.process import Process
from hocket.run import Run
from hocket.telemetry import note

ENDS_MIN = 2
"""How often a process has to end before its event is given up: the first time others were handled beside it."""

COMPANY_S = 0.5
"""How long after a takeover by a standby those under suspicion wait for another one to stand by: if they end this
process too, nobody else has to wait until one has started."""

COURTESY_S = 0.3
"""How long an event that has ended two processes waits for others to come before it that have ended only one."""


class Trials:
    """Who is under suspicion in one tenure, and whose turn it is."""

    def __init__(
        self,
        tenure: Tenure,
        committer: Committer,
        limits: Limits,
        process: Process,
        *,
        unclean: bool,
        aside: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._tenure = tenure
        self._committer = committer
        self._alone_s = limits.slow_s
        """How long an event is tried alone; then the next one is begun beside it, so that one that waits for something
        outside holds up no other. What blocks the event loop stays alone for as long as it does."""

        self._process = process
        self._aside = aside
        self._claimed_s = process.clock.now_s()
        self._company_until = asyncio.get_running_loop().time() + COMPANY_S
        self._left = limits.window if unclean else 0
        """How many more may have been in hand when the process before ended: it took no more than that."""

        self._tried = tenure.cursor.tried
        self._line = _Line()
        process.trying(None)

    def concern(self, work: Work) -> bool:
        """Whether an event whose handler is about to be called may have ended a process."""
        return bool(self._tried or self._left) and (work.seq in self._tried or (self._left > 0 and self._left_by(work)))

    def _left_by(self, work: Work) -> bool:
        """Whether an event, or what woke its run, was in the log before this tenure began."""
        token, head = self._tenure.token, work.head
        if head is None:
            return work.seq < token
        if not head.waiting or work.cancel is not None:
            return True
        if work.answered is not None:
            return work.answered < token
        return head.until_s is not None and head.until_s <= self._claimed_s

    @asynccontextmanager
    async def of(self, work: Work, received: Received, run: Run) -> AsyncIterator[Dead | None]:
        """Write an attempt down for as long as the block lasts; gives why there is none any more.

        An attempt that is cut off stays as it was written. Whoever owns the agent next knows what that means.
        """
        known = self._tried.get(work.seq)
        if known is None or not known.ends:
            self._left -= 1
            with self._aside():
                await self._be_followed()
            await self._write(Tried(work.seq, 0, begun=True))
            yield None
        else:
            async with self._turn(known):
                yield await self._next(known, received, run)
            self._process.trying(None)
        self._tried.pop(work.seq, None)
        self._committer.put(Transition(self._tenure, None))  # so that the log says it even if nothing else happens

    async def _next(self, known: Tried, received: Received, run: Run) -> Dead | None:
        """Begin another attempt, or say why there is none."""
        await run.loaded()
        ends, entries = known.ends, run.recorded
        if known.entries < entries and ends > 1:
            ends = 1  # it remembers more than it did: it comes to its end in pieces, whoever ends its process
        most = max(ENDS_MIN, received.handler.retry.attempts_max)
        ended = ProcessEnded(f"its process ended {ends} times while it was handled")
        if ends >= most:
            return Dead(ended, ends)
        take_note(run, rfc3339(self._process.clock.now_s()), told(ended))
        note(logging.WARNING, "tried alone", agent=self._tenure.agent, id=received.envelope.id, ends=ends)
        self._process.trying(received.envelope.id)
        await self._write(Tried(known.seq, ends, begun=True, entries=entries))
        return None

    async def _write(self, tried: Tried) -> None:
        """Have the log say that an attempt begins, together with whatever else is to be written."""
        self._tried[tried.seq] = tried
        await self._committer.caught_up(self._tenure)

    async def _be_followed(self) -> None:
        """Wait for somebody who would follow if the process ended now, but not for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._company_until):
                await self._tenure.followed.wait()

    @asynccontextmanager
    async def _turn(self, known: Tried) -> AsyncIterator[None]:
        """Be the only one under suspicion, but for those that take very long."""
        with self._aside():
            await self._be_followed()
            if known.ends > 1:
                await asyncio.sleep(COURTESY_S)
            await self._line.come_first(known.ends, known.seq)
        holds = True

        def release() -> None:
            nonlocal holds
            if holds:
                holds = False
                self._line.go()

        end = asyncio.get_running_loop().call_later(self._alone_s, release)
        try:
            yield
        finally:
            end.cancel()
            release()


class _Line:
    """Those that wait to be tried alone: whoever has ended the fewest processes comes first, then log order."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    async def come_first(self, ends: int, seq: int) -> None:
        """Wait for one's turn; `go` ends it."""
        if self._taken:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (ends, seq, turn))
            await turn
        self._taken = True

    def go(self) -> None:
        """Let the next one have its turn."""
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False


__all__ = ["Trials"]
