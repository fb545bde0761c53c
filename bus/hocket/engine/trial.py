"""Events that may have ended their process: each is tried with that written down first, and not for ever.

A process that ended without leaving may have been ended by what it handled, and nobody can ask it. So its next owner
writes down which of the events that it had left unfinished it begins. The first time that is all: they are handled
side by side like any others, and most have finished by the time that the process ends again. Those that have not are
tried in parts from then on, beside all that is not under suspicion, and in smaller parts the more processes they have
ended; how small is decided in `hocket.engine.line`. Whoever ends its process each time becomes a dead letter, after as
many attempts as its handler allows, the last of which nobody else under suspicion stood beside.

Where another instance stood by, they are not begun before one does again, but for a moment only: whoever ends the
process once more is followed at once. All others go on meanwhile.

What the process was never given is under no suspicion. The server knows how far that was, unless it has ended itself.

A clean start, and every event that came after a claim, costs nothing of this.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress

from hocket.clock import rfc3339
from hocket.engine.commit import Committer
from hocket.engine.cursor import Tried
from hocket.engine.dispatch import Work
from hocket.engine.failures import take_note
from hocket.engine.handling import Dead, Received
from hocket.engine.line import Line, Place, placed
from hocket.engine.transition import Tenure, Transition
from hocket.errors import ProcessEnded
from hocket.failures import told
from hocket.log.base import Seq
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
"""How long events that have ended two processes, or have one attempt left, wait for others to come before them."""


class Trials:
    """Who is under suspicion in one tenure, and whose turn it is."""

    def __init__(
        self,
        tenure: Tenure,
        committer: Committer,
        limits: Limits,
        process: Process,
        *,
        in_hand: Seq | None,
        aside: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._tenure = tenure
        self._committer = committer
        self._slow_s = limits.slow_s
        """After how long an event that is tried does not count any more among those that are tried at once, so that
        one that waits for something outside holds up no other. What blocks the event loop counts for as long as it
        does, and whoever is at its last attempt is alone until it comes to its end."""

        self._width_max = limits.concurrency
        self._process = process
        self._aside = aside
        self._claimed_s = process.clock.now_s()
        self._company_until = asyncio.get_running_loop().time() + COMPANY_S
        self._in_hand = in_hand or Seq(0)
        """The last that the process before was given."""

        self._left = 0 if in_hand is None else limits.window
        """How many more may have been in hand when the process before ended: it took no more than that."""

        self._tried = tenure.cursor.tried
        self._peers = Counter(each.ends for each in self._tried.values())
        """How many have ended so many processes, as this tenure found them."""

        self._line = Line()
        self._turns: dict[int, asyncio.Future[None]] = {}
        """Of those that wait in the line."""

        self._courteous_until: float | None = None
        self._trying: dict[int, str] = {}
        """The ids of those that are tried, the first that was begun before the others."""

        process.trying(None)

    def concern(self, work: Work) -> bool:
        """Whether an event whose handler is about to be called may have ended a process."""
        return bool(self._tried or self._left) and (work.seq in self._tried or (self._left > 0 and self._left_by(work)))

    def _left_by(self, work: Work) -> bool:
        """Whether an event, or what woke its run, may have been in hand when the process before ended."""
        head = work.head
        if head is None:
            return work.seq <= self._in_hand
        if not head.waiting or work.cancel is not None:
            return True
        if work.answered is not None:
            return work.answered <= self._in_hand
        return head.until_s is not None and head.until_s <= self._claimed_s

    @asynccontextmanager
    async def of(self, work: Work, received: Received, run: Run) -> AsyncIterator[Dead | None]:
        """Write an attempt down for as long as the block lasts; gives why there is none any more.

        An attempt that is cut off stays as it was written. Whoever owns the agent next knows what that means.
        """
        known = self._tried.get(work.seq) or Tried(work.seq, 0, begun=False)
        if known.ends:
            with self._aside():
                known = await self._seen(known, run)
        else:
            self._left -= 1
        most = max(ENDS_MIN, received.handler.retry.attempts_max)
        if known.ends >= most:
            yield Dead(_ended(known), known.ends)
        else:
            async with self._turn(self._place(known, most - known.ends)):
                await self._begin(known, received, run)
                yield None
        self._tried.pop(work.seq, None)
        self._committer.put(Transition(self._tenure, None))  # so that the log says it even if nothing else happens

    async def _seen(self, known: Tried, run: Run) -> Tried:
        """What is known of an event by now. The ends before do not count where it remembers more than it did."""
        await run.loaded()
        # It comes to its end in pieces, whoever ends its process.
        further = known.entries < run.recorded and known.ends > 1
        return known._replace(ends=1 if further else known.ends, entries=run.recorded)

    def _place(self, known: Tried, attempts_left: int) -> Place:
        found = self._tried.get(known.seq, known).ends  # before it was seen to have come further
        peers, most = max(1, self._peers[found]), self._width_max
        return placed(known.seq, ends=known.ends, attempts_left=attempts_left, peers=peers, width_max=most)

    async def _begin(self, known: Tried, received: Received, run: Run) -> None:
        """Begin another attempt."""
        event_id = received.envelope.id
        if known.ends:
            ended = _ended(known)
            take_note(run, rfc3339(self._process.clock.now_s()), told(ended))
            beside = self._line.at_work - 1
            note(logging.WARNING, "tried again", agent=self._tenure.agent, id=event_id, ends=known.ends, beside=beside)
        self._trying[known.seq] = event_id
        self._tell()
        await self._write(known._replace(begun=True))

    def _tell(self) -> None:
        """Say what this process would be ended by."""
        self._process.trying(next(iter(self._trying.values()), None))

    async def _write(self, tried: Tried) -> None:
        """Have the log say that an attempt begins, together with whatever else is to be written."""
        self._tried[tried.seq] = tried
        await self._committer.caught_up(self._tenure)

    async def _be_followed(self) -> None:
        """Wait for somebody who would follow if the process ended now, but not for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._company_until):
                await self._tenure.followed.wait()

    async def _be_courteous(self) -> None:
        """Wait for those that come first to have come, but not for long."""
        loop = asyncio.get_running_loop()
        if self._courteous_until is None:
            self._courteous_until = loop.time() + COURTESY_S
        await asyncio.sleep(self._courteous_until - loop.time())

    @asynccontextmanager
    async def _turn(self, place: Place) -> AsyncIterator[None]:
        """Wait for one's turn without a slot, then count among those that are tried until one has come to one's end.

        Who is cut off has not: the process ends with it, or the tenure.
        """
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        with self._aside():
            await self._be_followed()
            if place.last or place.ends > 1:
                await self._be_courteous()
            self._turns[place.seq] = turn
            self._line.join(place)
            self._call()
            await turn
        late = loop.call_later(self._slow_s, self._be_late, place.seq)
        try:
            yield
        finally:
            late.cancel()
        self._leave(place.seq)

    def _be_late(self, seq: int) -> None:
        self._line.late(seq)
        self._call()

    def _leave(self, seq: int) -> None:
        self._line.leave(seq)
        if self._trying.pop(seq, None) is not None:
            self._tell()
        self._call()

    def _call(self) -> None:
        """Let everybody go on whose turn has come."""
        for place in self._line.begin():
            turn = self._turns.pop(place.seq)
            if turn.cancelled():
                self._line.leave(place.seq)
            else:
                turn.set_result(None)


def _ended(known: Tried) -> ProcessEnded:
    return ProcessEnded(f"its process ended {known.ends} times while it was handled")


__all__ = ["Trials"]
