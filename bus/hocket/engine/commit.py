"""Group commit: finished transitions become atomic appends, one in flight, and everything that waits goes next.

Unless that is a few plain publishes: those go one after the other, since a batch has a fixed price.

The order here is the correctness argument. Every append carries the fence of each tenure in it, so a worker
that lost ownership cannot write. The cursor rides in the same batch, so a crash leaves both or neither. Only a
single event or dead letter goes without its cursor, and a later owner finds it by its subject.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from hocket.crashpoints import Reach
from hocket.engine.transition import Cell, Tenure, Transition
from hocket.errors import AppendTooLarge, Conflict, Fenced, LogError, StorageFull, Unavailable
from hocket.log.base import APPEND_MESSAGES_MAX, Expect, Log, Seq, Write
from hocket.policy import Limits
from hocket.telemetry import ATTRIBUTE_COUNT, SPAN_COMMIT, note, span, tracing

GROUP_BYTES_MAX = 4 << 20
"""A group is closed when it holds this much; one transition alone may be larger."""

LARGE_BYTES_PER_S = 1 << 20
"""An append gets more time by its size, for lines no faster than this."""

HALVED_MIN = 16
"""From so many on, those who wait for one append are told in two halves."""

REFUSED_WAIT_S = (0.05, 1.0)
"""First and longest wait before sending again what was surely not stored."""


@dataclass(slots=True)
class _Group:
    """The next append, as it is put together."""

    transitions: list[Transition] = field(default_factory=list)
    messages: int = 0
    size: int = 0
    tenures: dict[Tenure, list[int]] = field(default_factory=dict)
    """Whose cursors ride along, and which events each of them finishes."""

    carried: dict[Tenure, int] = field(default_factory=dict)
    """How many earlier finished events each of those cursors says so of for the first time."""

    contested: set[str] = field(default_factory=set)
    """Records with conditions of their own, which one append can write only once."""

    def take(self, transition: Transition) -> bool:
        """Put one more transition in, if it still fits; the first always does."""
        messages = self.messages + _messages(transition)
        size = self.size + _bytes(transition)
        if self.transitions and (
            messages + len(self.tenures) >= APPEND_MESSAGES_MAX
            or size > GROUP_BYTES_MAX
            or not self.contested.isdisjoint(transition.contested)
        ):
            return False
        self.transitions.append(transition)
        self.messages, self.size = messages, size
        if transition.contested:
            self.contested |= transition.contested
        finishing = self.tenures.get(transition.tenure)
        if finishing is None:
            finishing = self.tenures[transition.tenure] = []
        if transition.finishes is not None:
            finishing.append(transition.finishes)
        return True

    @property
    def plain(self) -> bool:
        """Whether a plain fenced publish can carry it."""
        return len(self.transitions) == 1 and self.transitions[0].single


class Committer:
    """The only writer of one (process, shard)."""

    def __init__(self, log: Log, limits: Limits, reach: Reach) -> None:
        self.commits = 0
        """Appends stored so far, plain ones included."""

        self._log = log
        self._limits = limits
        self._reach = reach
        self._tracing = tracing()  # once: it looks into the environment
        self._queue: deque[Transition] = deque()
        self._untold: deque[tuple[Transition, bool]] = deque()
        """Whose fate is known, and what it is: whether it is stored."""

        self._lagging: dict[Tenure, None] = {}
        self._work = asyncio.Event()
        self._busy = False
        self._idle = asyncio.Event()

    def put(self, transition: Transition) -> None:
        """Queue a transition; `settled` is called when its fate is known, unless its tenure ends first.

        The queue is bounded by the windows of the workers that fill it.
        """
        self._queue.append(transition)
        self._work.set()

    async def caught_up(self, tenure: Tenure) -> None:
        """Wait until what was put so far is in the log; for as long as the tenure lasts."""
        await self.fate_of(Transition(tenure, None))

    async def fate_of(self, transition: Transition) -> bool:
        """Queue a transition and wait until its fate is known, which it is given; for as long as its tenure lasts."""
        fate: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        # Whoever waits may be gone by then: an attempt has its timeout, and a task ends before its tenure does.
        transition.settled = lambda stored: None if fate.done() else fate.set_result(stored)
        self.put(transition)
        return await fate

    def finish(self, tenure: Tenure, seq: Seq) -> None:
        """An event is done that changes nothing: only the cursor has to follow."""
        tenure.finish([seq], asyncio.get_running_loop().time())
        self._lag(tenure)

    async def flush(self, deadline_s: float) -> None:
        """Wait until all that was put is settled and no cursor lags. Raises TimeoutError."""
        async with asyncio.timeout(deadline_s):
            while self._queue or self._busy or self._untold or any(not tenure.over for tenure in self._lagging):
                self._idle.clear()
                for tenure in self._lagging:
                    tenure.lagging_since_s = float("-inf")  # due at once
                self._work.set()
                await self._idle.wait()

    async def run(self) -> None:
        """Commit for as long as the process lives; the owner of the process cancels it."""
        while True:
            if not self._queue:
                await self._tell()
            if not self._queue:
                await self._wait()
            group = self._take()
            self._busy = True
            # Those who are told go on while this append is under way, not before it is sent.
            asyncio.get_running_loop().call_soon(self._tell_all)
            if group.tenures:
                await self._commit(group)
            self._busy = False
            self._idle.set()

    async def _tell(self) -> None:
        """Tell everybody with nothing to commit: one half first, and if that puts something, the other half after it.

        Many that wait for the same append go on at the same time. Told at once, they and the log would take turns,
        each idle while the other works.
        """
        if len(self._untold) >= HALVED_MIN:
            for _ in range(len(self._untold) // 2):
                _settle(*self._untold.popleft())
            await asyncio.sleep(0)
        if not self._queue:
            self._tell_all()

    def _tell_all(self) -> None:
        while self._untold:
            _settle(*self._untold.popleft())
        self._idle.set()

    async def _wait(self) -> None:
        """Until there is a transition, or a cursor has lagged for long enough."""
        self._work.clear()
        due_s = min((t.lagging_since_s for t in self._lagging), default=None)
        now_s = asyncio.get_running_loop().time()
        wait_s = None if due_s is None else due_s + self._limits.cursor_lag_s - now_s
        if wait_s is None or wait_s > 0:
            alarm = asyncio.get_running_loop().call_later(wait_s, self._work.set) if wait_s else None
            await self._work.wait()
            if alarm:
                alarm.cancel()

    def _take(self) -> _Group:
        """All that waits and fits. What is little goes one by one, and so do cursors, which it does not carry."""
        group = _Group()
        few = len(self._queue) <= self._log.singly_max and all(transition.single for transition in self._queue)
        due = self._due() if few else []
        while self._queue and not (few and (due or group.transitions)):
            if not self._queue[0].tenure.over and not group.take(self._queue[0]):
                break
            self._queue.popleft()
        if not group.transitions:
            group.tenures = {tenure: [] for tenure in (due if len(due) > self._log.singly_max else due[:1])}
        return group

    def _due(self) -> list[Tenure]:
        """Whose cursors have lagged for long enough."""
        self._lagging = {tenure: None for tenure in self._lagging if not tenure.over}
        lagged_s = asyncio.get_running_loop().time() - self._limits.cursor_lag_s
        return [tenure for tenure in self._lagging if tenure.lagging_since_s <= lagged_s]

    async def _commit(self, group: _Group) -> None:
        """Append a group; when an expectation fails, or it is too much, each transition on its own."""
        flush = not group.transitions
        writes, cells = ([_fenced_single(group.transitions[0])], []) if group.plain else _writes(group)
        self._reach("before cursor flush" if flush else "before append")
        try:
            with span(SPAN_COMMIT, {ATTRIBUTE_COUNT: len(writes)}) if self._tracing else nullcontext():
                last = await self._append(group, writes)
        except (Conflict, AppendTooLarge) as error:
            if len(group.transitions) + flush * len(group.tenures) > 1:
                await self._commit_singly(group)
            elif group.transitions and isinstance(error, Conflict):
                await self._refused(group.transitions[0], error)
            else:
                _end(group, error)
            return
        except LogError as error:
            _end(group, error)
            return
        self._reach("after cursor flush" if flush else "after append")
        self.commits += 1
        for position, cell in cells:
            cell.seq = last - len(writes) + 1 + position
        self._finish(group)

    async def _append(self, group: _Group, writes: Sequence[Write]) -> Seq:
        """Append, and send again what was surely not stored for as long as somebody still wants it."""
        wait_s, longest_s = REFUSED_WAIT_S
        deadline_s = self._limits.append_s + group.size / LARGE_BYTES_PER_S
        while True:
            try:
                return await self._log.append(writes, timeout_s=deadline_s)
            except (Unavailable, StorageFull) as error:
                if all(tenure.over for tenure in group.tenures):
                    raise
                note(logging.WARNING, "commit waits", cause=str(error), error=type(error).__name__)
                await asyncio.sleep(wait_s)
                wait_s = min(longest_s, wait_s * 2)

    async def _commit_singly(self, group: _Group) -> None:
        """Somebody's expectation failed: find whose, and do not let the others pay for it."""
        for transition in group.transitions:
            if not transition.tenure.over:
                alone = _Group()
                alone.take(transition)
                await self._commit(alone)
        if not group.transitions:
            for tenure in group.tenures:
                await self._commit(_Group(tenures={tenure: []}))

    async def _refused(self, transition: Transition, error: Conflict) -> None:
        """A transition was refused on its own account: find out whether by the fence, or by a check of its own."""
        tenure = transition.tenure
        try:
            claim = await self._log.last(tenure.fence.subject)
        except LogError as unreadable:
            tenure.end(unreadable)
            return
        if claim is None or claim.seq != tenure.token:
            tenure.end(Fenced(f"{tenure.agent}: claim {tenure.token} is over, {claim and claim.seq} came after"))
        elif not transition.contested:
            tenure.end(error)
        else:
            # Still the owner, so somebody else was faster: what was decided by what was read has to be decided anew.
            self._untold.append((transition, False))

    def _finish(self, group: _Group) -> None:
        """The append is stored: move the cursors; everybody is told soon."""
        now_s = asyncio.get_running_loop().time()
        for tenure, finishing in group.tenures.items():
            if group.plain:
                if finishing:
                    tenure.finish(finishing, now_s)
                    self._lag(tenure)
            else:
                tenure.cursor.finish(finishing)
                tenure.tally.advance()
                tenure.unwritten -= group.carried[tenure]
                tenure.lagging_since_s = now_s
                if not tenure.unwritten:
                    self._lagging.pop(tenure, None)
        self._untold.extend((transition, True) for transition in group.transitions)

    def _lag(self, tenure: Tenure) -> None:
        if tenure not in self._lagging:
            self._lagging[tenure] = None
            self._work.set()


def _writes(group: _Group) -> tuple[list[Write], list[tuple[int, Cell]]]:
    """The messages of a batch, and which of them are state records whose sequence must be kept."""
    writes: list[Write] = []
    states: dict[Cell, Write] = {}
    records: dict[str, Write] = {}
    for transition in group.transitions:
        writes += transition.events
        if (cell := transition.cell) is not None:
            # Several transitions of one actor in a group make one write: the newest state.
            states[cell] = Write(cell.subject, transition.state, Expect(cell.subject, cell.seq), cell.kept)
        for record in transition.records:
            records[record.subject] = record
    cells = [(len(writes) + position, cell) for position, cell in enumerate(states)]
    writes += states.values()
    writes += records.values()
    for tenure, finishing in group.tenures.items():
        mark = replace(tenure.cursor.mark(set(finishing)), runs=tenure.tally.after(records.values()))
        group.carried[tenure] = tenure.unwritten
        writes.append(Write(tenure.names.cursor(tenure.agent), mark.to_json(), tenure.fence))
    return writes, cells


def _fenced_single(transition: Transition) -> Write:
    (write,) = (*transition.events, *transition.records)
    return write._replace(expect=transition.tenure.fence)


def _settle(transition: Transition, stored: bool) -> None:
    if transition.settled is not None and not transition.tenure.over:
        transition.settled(stored)


def _end(group: _Group, error: LogError) -> None:
    for tenure in group.tenures:
        tenure.end(error)


def _messages(transition: Transition) -> int:
    return len(transition.events) + (transition.cell is not None) + len(transition.records)


def _bytes(transition: Transition) -> int:
    size = len(transition.state)
    for writes in (transition.events, transition.records):
        for write in writes:
            size += len(write.data)
    return size
