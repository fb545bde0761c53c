"""How events from outside come into the log: each once, together with whatever else waits, and within its time."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hocket.errors import AppendTooLarge, Conflict, HocketError, LogError, OutcomeUnknown, Unavailable, UsageError
from hocket.log.base import Log, Seq, Write

WAITING_MAX = 10_000
"""Most publishes that wait for their turn, per shard; one more waits before it joins."""

GROUP_MAX = 500
"""Most events in one append of publishes."""

GROUP_BYTES_MAX = 4 << 20

ATTEMPT_S = (0.05, 0.5, 5.0)
"""How long one append is given: never less than the first, not less than the second if some of its events have that
much time, and the third if all of them do."""

RETRY_WAIT_S = (0.05, 1.0)
"""First and longest wait before the next append after one that was not answered, or not taken."""

LATE_S = 0.25
"""An append that ends with an event's time says most exactly what became of it: so much longer that is waited for."""


class Stored(NamedTuple):
    """Where an event is in the log."""

    seq: Seq
    duplicate: bool
    """Whether it was there before."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """An event to store."""

    write: Write
    due_s: float
    """When whoever publishes it has to be answered, in the loop's time."""

    answer: asyncio.Future[Stored]
    under_way: bool = False
    doubt: OutcomeUnknown | None = None
    """Of the last append that may have stored it, though nobody knows."""

    def refuse(self, error: HocketError) -> None:
        """Answer with an error of its own, since whoever raises one adds to it."""
        if not self.answer.done():
            self.answer.set_exception(type(error)(*error.args))

    def out_of_time(self, given_s: float) -> LogError:
        """What is known of it when its time is over."""
        if self.doubt or self.under_way:
            return OutcomeUnknown(*self.doubt.args if self.doubt else (f"no answer within {given_s:g} s",))
        return Unavailable(f"its turn did not come within {given_s:g} s")


class Ingress:
    """Publishes to one shard: one append in flight, everything that waits goes into the next, unless it is little.

    An event's subject holds its id, so "expected 0" makes each publish exactly-once, and sending again after
    an unknown outcome is safe here: the second copy is refused.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._queue: deque[_Waiting] = deque()
        self._work = asyncio.Event()
        self._room = asyncio.Semaphore(WAITING_MAX)

    async def publish(self, write: Write, deadline_s: float) -> Stored:
        """Store one event.

        Raises what `Log.append` raises, but no Conflict; after `deadline_s` Unavailable when no attempt can have stored
        it, else OutcomeUnknown.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(write, loop.time() + deadline_s, loop.create_future())
        try:
            async with asyncio.timeout_at(waiting.due_s + LATE_S), self._room:
                self._queue.append(waiting)
                self._work.set()
                return await waiting.answer
        except TimeoutError:
            raise waiting.out_of_time(deadline_s) from None

    async def run(self) -> None:
        """Append for as long as the bus is open."""
        while True:
            self._work.clear()
            if not self._queue:
                await self._work.wait()
            await self._append(self._take())

    def _take(self) -> list[_Waiting]:
        """What goes next. The same event again waits for the append after it, which then finds the first."""
        group: list[_Waiting] = []
        subjects: set[str] = set()
        size = 0
        most = GROUP_MAX if len(self._queue) > self._log.singly_max else 1
        while self._queue and len(group) < most and size < GROUP_BYTES_MAX:
            waiting = self._queue[0]
            if waiting.write.subject in subjects:
                break
            self._queue.popleft()
            if not waiting.answer.done():  # else nobody waits for it any more
                subjects.add(waiting.write.subject)
                size += len(waiting.write.data)
                group.append(waiting)
        return group

    async def _append(self, group: Sequence[_Waiting]) -> None:
        """Store a group, again while the log is away or silent, without those whose time is over.

        What one attempt has left open no later one closes by being refused: that it was not stored is said only
        when no attempt can have stored it.
        """
        loop = asyncio.get_running_loop()
        wait_s, longest_s = RETRY_WAIT_S
        while group:
            try:
                last = await self._attempt(group)
            except (Unavailable, OutcomeUnknown) as error:
                again_s = loop.time() + wait_s
                for each in group:
                    if each.due_s <= again_s:
                        each.refuse(each.doubt or error)
                group = [each for each in group if not each.answer.done()]
                if group:
                    await asyncio.sleep(wait_s)
                    wait_s = min(longest_s, wait_s * 2)
            except (Conflict, AppendTooLarge, UsageError) as error:
                await self._divide(group, error)
                return
            except LogError as error:
                for each in group:
                    each.refuse(error)
                return
            else:
                for i, each in enumerate(group):
                    if not each.answer.done():
                        each.answer.set_result(Stored(Seq(last - len(group) + 1 + i), duplicate=False))
                return

    async def _attempt(self, group: Sequence[_Waiting]) -> Seq:
        """Append once, for as long as all of the group have time, or a moment longer."""
        now_s = asyncio.get_running_loop().time()
        soonest_s = min(each.due_s for each in group) - now_s
        latest_s = max(each.due_s for each in group) - now_s
        least_s, usual_s, most_s = ATTEMPT_S
        timeout_s = max(least_s, min(usual_s, latest_s), min(most_s, soonest_s))
        for each in group:
            each.under_way = True
        try:
            return await self._log.append([each.write for each in group], timeout_s=timeout_s)
        except OutcomeUnknown as error:
            for each in group:
                each.doubt = error
            raise
        finally:
            for each in group:
                each.under_way = False

    async def _divide(self, group: Sequence[_Waiting], error: HocketError) -> None:
        """One of a group is to blame, and the others must not pay for it: find out one by one."""
        if len(group) > 1:
            for one in group:
                await self._append([] if one.answer.done() else [one])
        elif isinstance(error, Conflict):
            await self._was_there(group[0])
        else:
            group[0].refuse(error)

    async def _was_there(self, waiting: _Waiting) -> None:
        try:
            there = await self._log.last(waiting.write.subject)
        except LogError as error:
            waiting.refuse(OutcomeUnknown(f"it is in the log, and where could not be read: {error}"))
            return
        if not waiting.answer.done():
            waiting.answer.set_result(Stored(there.seq if there else Seq(0), duplicate=True))


__all__ = ["GROUP_MAX", "WAITING_MAX", "Ingress", "Stored"]
