"""The end of handlings that somebody wants no more: out of turn, with time to clean up, and told by one event."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from hocket.agent import Agent
from hocket.clock import rfc3339
from hocket.engine.cancels import REQUESTED, Cancel, Cancels, Extent
from hocket.engine.dispatch import Work, going_on
from hocket.engine.handling import Again, Dead, Handling, Held, Waits, read
from hocket.engine.journal import Journals, as_told
from hocket.engine.runs import Head, Parked
from hocket.engine.transition import Tenure, Transition
from hocket.errors import BadReturn, MalformedEvent
from hocket.ids import cause_of
from hocket.log.base import Message, Seq
from hocket.process import Process
from hocket.run import CANCEL, DONE, EFFECT, UNDONE, VOID, Entry, Run
from hocket.subjects import address
from hocket.telemetry import note
from hocket_schemas.cancels import EffectStatus, RunCancelled

T = TypeVar("T")

LANES = 32
"""How many waiting runs are ended at once, beside what their actors are busy with."""

INSIST_S = 1.0
"""How often a handler is cancelled again that has used up its time for cleanup."""

EFFECTS_TOLD_MAX = 1000
"""Most effects that one event tells of."""

ERROR_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The handler was executed, and its end is that it was cancelled, whatever it made of that."""

    error: str
    """What its cleanup failed with; empty: it did not."""


class Turns(Protocol):
    """What the worker does with one event, also when that is cancelled."""

    async def life(self, work: Work) -> None:
        """Its life, from where it is now."""
        ...

    async def put(self, transition: Transition, work: Work, *, ends: bool) -> None:
        """Queue what it changes."""
        ...

    def finish(self, seq: Seq) -> None:
        """Let the cursor count an event as finished, after all that was put so far."""
        ...

    async def scratch(self, key: str) -> Callable[[], Any]:
        """Gives copies of the actor's state, for an execution that must not change it."""
        ...


class Cancelling:
    """Ends what requests are about, for one tenure.

    Nothing is stored about a request being under way: what it is about follows from the log alone, so the next owner
    finds what is left to end.
    """

    def __init__(
        self,
        agent: Agent[Any],
        tenure: Tenure,
        cancels: Cancels,
        turns: Turns,
        *,
        process: Process,
        handling: Handling,
        journals: Journals,
        parked: Parked,
    ) -> None:
        self._agent = agent
        self._tenure = tenure
        self._requests = tenure.names.begins(REQUESTED)
        self._cancels = cancels
        self._worker = turns
        self._process = process
        self._handling = handling
        self._journals = journals
        self._parked = parked
        self._turns: dict[Work, None] = {}
        """What has its turn now."""

        self._ending: dict[Work, None] = {}
        """What was taken out of the waiting runs and has not ended yet."""

        self._left: dict[Work, None] = {}
        """What was begun, perhaps by an owner before, and has not ended, though it is not its turn now."""

        self._aside: asyncio.Queue[Work] = asyncio.Queue()
        """Those that are not begun. Bounded by the open runs."""

        self._unfinished: dict[int, set[Work]] = {}
        """The delivered requests that the cursor does not count as finished yet, and what they wait for."""

    async def serve(self) -> None:
        """End the waiting runs that requests are about."""
        async with asyncio.TaskGroup() as lanes:
            first = await self._aside.get()  # most tenures never get one
            for _ in range(LANES):
                lanes.create_task(self._lane())
            self._aside.put_nowait(first)

    async def _lane(self) -> None:
        while True:
            work = await self._aside.get()
            try:
                await self.turn(work, self._worker.life(work))
            finally:
                assert work.run is not None
                self._cancels.ending.pop(work.run, None)
                self._ending.pop(work, None)
                self._finish(work)

    def deliver(self, message: Message) -> bool:
        """Take a delivered event, if it is a request; False: it is to be handled like any other.

        The cursor counts it as finished once all that it is about has ended, so that whoever asked can see in the
        cursors when there is nothing more to come.
        """
        if not message.subject.startswith(self._requests):
            return False
        try:
            self.hear(message)
        except MalformedEvent:
            return False
        if REQUESTED in self._agent.handlers:
            return False
        self._review()
        concerned = (*self._turns, *self._ending, *self._left)
        self._unfinished[message.seq] = {work for work in concerned if work.cancel is not None}
        self._finish()
        return True

    def expect(self, work: Work) -> None:
        """Take note of what an owner before has perhaps begun: a request that is about it waits for its turn."""
        self._left[work] = None

    def _review(self) -> None:
        """See which of those that were perhaps begun are to end when it is their turn."""
        for work in self._left:
            if work.cancel is None:
                work.extent = work.extent or _extent(work) or self._read(work)
                work.cancel = self._cancels.covering(work.extent) if work.extent else None

    def _read(self, work: Work) -> Extent | None:
        """What a request can be about, of an event whose turn has yet to come; None: no handler will see it."""
        assert work.message is not None, "what has no head was delivered"
        try:
            envelope = read(work.message)
        except MalformedEvent:
            return None
        cause = cause_of(self._agent.name, envelope.source, envelope.id)
        return Extent(work.seq, envelope.type, work.key, envelope.correlationid or work.key, cause)

    def hear(self, message: Message) -> None:
        """End what a request is about; not the second time. Raises MalformedEvent."""
        cancel, new = self._cancels.hear(message)
        if not new:
            return
        for work in self._turns:
            extent = _extent(work) if work.cancel is None else None
            if extent is not None:
                work.cancel = self._cancels.covering(extent)
                if work.cancel is not None and work.doing is not None and work.doing.task is not None:
                    note(logging.INFO, "cancels", agent=self._agent.name, run=extent.run, request=cancel.id)
                    work.doing.cancel(self._entry(cancel))
                    self._stop(work.doing)
        for run, head in list(self._parked.within(*cancel.scope)):
            self.keep(run, head)

    def keep(self, run: str, head: Head) -> None:
        """Let a run wait, unless it has been cancelled."""
        cancel = self._cancels.covering(_extent_of_head(run, head)) if self._cancels else None
        if cancel is None:
            self._parked.park(run, head)
            return
        self._parked.take_out(run)
        work = going_on(run, head)
        work.cancel = self._cancels.ending[run] = cancel
        self._ending[work] = None
        self._aside.put_nowait(work)

    async def turn(self, work: Work, life: Coroutine[Any, Any, None]) -> None:
        """Live the life of an event, so that it can be cancelled."""
        self._turns[work] = None
        try:
            await life
        finally:
            del self._turns[work]
            work.doing = None  # it knows the work too: together they would stay until the garbage is looked through
            if work.stopped:
                self._left[work] = None
            else:
                self._left.pop(work, None)
                if self._unfinished:
                    self._finish(work)

    def _finish(self, ended: Work | None = None) -> None:
        """Finish the requests that wait for nothing more."""
        for seq, waits in list(self._unfinished.items()):
            waits.discard(ended)
            if not waits:
                del self._unfinished[seq]
                self._worker.finish(Seq(seq))

    def stops(self, work: Work) -> bool:
        """Whether a handling that is about to begin is to end instead."""
        if work.cancel is None and self._cancels:
            extent = _extent(work)
            work.cancel = self._cancels.covering(extent) if extent else None
        return work.cancel is not None

    async def interruptible(self, work: Work, execution: Awaitable[T]) -> T | Cancelled:
        """Await what a request may interrupt."""
        run, task = work.doing, asyncio.current_task()
        assert run is not None
        assert task is not None
        outcome: T | None = None
        before = run.cancellations = task.cancelling()
        run.task = task
        try:
            outcome = await execution
            if run.cancellations > before:
                await asyncio.sleep(0)  # a cancellation that has not come through ends here
        except asyncio.CancelledError:
            if task.cancelling() > run.cancellations or work.cancel is None:
                raise  # the tenure ends, or the process stops
        finally:
            run.task = None
        if work.cancel is None:
            return outcome  # type: ignore[return-value]  # it has come to its end, so it has an outcome
        for _ in range(run.cancellations - before):
            task.uncancel()
        return Cancelled(_error_of(outcome))

    def _entry(self, cancel: Cancel) -> Entry:
        """What the journal keeps of a request."""
        told = {"by": cancel.by, "reason": cancel.reason}
        return Entry(CANCEL, 0, CANCEL, rfc3339(self._process.clock.now_s()), key=cancel.id, result=told)

    def _stop(self, run: Run) -> None:
        """Interrupt a handler: at once, or when the effects that it is about have come to their ends, in bounds."""

        def interrupt() -> None:
            self._limit(run)
            _interrupt(run)

        run.interrupt = interrupt
        if run.outside:
            asyncio.get_running_loop().call_later(self._agent.limits.grace_s, run.stop)
        else:
            run.stop()

    def _limit(self, run: Run) -> None:
        """Give a handler its time for cleanup, and no more."""

        def insist() -> None:
            if run.task is not None:
                _interrupt(run)
                loop.call_later(INSIST_S, insist)

        loop = asyncio.get_running_loop()
        loop.call_later(self._agent.limits.cleanup_s, insist)

    async def clean_up(self, work: Work) -> None:
        """End a handling that is not being executed.

        If it has done something durably it is executed once more: it goes through that again, and is cancelled at the
        first thing after it.
        """
        received, run = work.received, work.doing
        assert received is not None
        assert run is not None
        assert work.cancel is not None
        entries = await run.loaded()
        if not entries and work.run is None:
            await self._worker.put(Transition(self._tenure, work.seq), work, ends=True)
            return
        error = ""
        if entries:
            fresh = await self._worker.scratch(work.key)
            run.interrupt = partial(_interrupt, run)
            run.cancel(self._entry(work.cancel))
            self._limit(run)
            if not run.unmet:
                asyncio.get_running_loop().call_soon(run.stop)
            outcome = await self.interruptible(work, self._handling.attempt(received, fresh(), 1, run, fresh))
            assert isinstance(outcome, Cancelled)
            error = outcome.error
        await self.end(work, error)

    async def end(self, work: Work, error: str) -> None:
        """Commit the end of a handling together with the event that tells of it."""
        received, run, cancel = work.received, work.doing, work.cancel
        assert received is not None
        assert run is not None
        assert cancel is not None
        entries = await run.loaded()
        found = [self._status(entry) for entry in entries.values() if entry.kind == EFFECT]
        effects = sorted(found, key=lambda effect: effect.status != "unknown")
        event = RunCancelled(
            request=cancel.id,
            agent=self._agent.name,
            key=work.key,
            run=received.cause,
            event=received.envelope.id,
            reason=cancel.reason,
            by=cancel.by,
            effects=effects[:EFFECTS_TOLD_MAX],
            effects_untold=max(0, len(effects) - EFFECTS_TOLD_MAX),
            error=error,
        )
        transition = Transition(self._tenure, work.finishes)
        try:
            told = self._handling.told(received, event, run.emitted)
        except BadReturn:  # too large: whoever wants to undo has to say so, and ask a person
            bare = [effect.model_copy(update={"arguments": None}) for effect in event.effects]
            told = self._handling.told(received, event.model_copy(update={"effects": bare}), run.emitted)
        transition.events.append(told)
        if entries:
            transition.records += self._journals.writes(work, run.of_end())
        self._process.reach("before cancelled")
        await self._worker.put(transition, work, ends=True)

    def _status(self, entry: Entry) -> EffectStatus:
        """What is known of an effect. One that failed for good is known not to have happened."""
        declared = self._agent.effects.get(entry.name)
        undoable = declared is not None and declared.undo_function is not None
        pivot = declared is not None and declared.final
        status: Literal["done", "undone", "not started", "unknown"] = "unknown"
        if entry.phase == UNDONE:
            status = "undone"
        elif entry.phase == VOID or entry.error:
            status = "not started"
        elif entry.phase == DONE:
            status = "done"
        return EffectStatus(
            name=entry.name,
            key=entry.key,
            digest=entry.digest,
            arguments=as_told(entry.arguments) if status == "unknown" and (undoable or pivot) else None,
            undoable=undoable,
            pivot=pivot,
            status=status,
        )


def _interrupt(run: Run) -> None:
    if run.task is not None:
        run.cancellations += 1
        run.task.cancel()


def _extent(work: Work) -> Extent | None:
    """What a request can be about, of an event in hand; None: nobody has read it yet."""
    if work.received is not None:
        received = work.received
        return Extent(work.seq, received.envelope.type, received.key, received.saga, received.cause)
    return _extent_of_head(work.run, work.head) if work.run is not None and work.head is not None else None


def _extent_of_head(run: str, head: Head) -> Extent:
    where = address(head.subject)
    return Extent(head.seq, where.type, where.key, head.saga or where.key, run.rpartition(".")[2])


def _error_of(outcome: object) -> str:
    """What a handler failed with that was cancelled."""
    match outcome:
        case Again(_, error) | Dead(error, _):
            return f"{type(error).__name__}: {error}"[:ERROR_LENGTH_MAX]
        case Held():
            return "it called what may not be called for now"
        case Waits():
            return "it waits, which cleanup cannot"
        case _:
            return ""
