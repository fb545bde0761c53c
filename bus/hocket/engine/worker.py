"""The life of one event: out of the log, through a handler, and back into the log in one append."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, assert_never

import orjson

from hocket.agent import Agent
from hocket.clock import rfc3339
from hocket.engine.commit import Committer
from hocket.engine.dispatch import Actor, Cells, Dispatcher, Work
from hocket.engine.handling import Again, Dead, Done, Handling, Received
from hocket.engine.transition import Cell, Tenure, Transition
from hocket.errors import NotFound, OutcomeUnknown
from hocket.log.base import Consumption, Log, Message, Seq, Write
from hocket.process import Process
from hocket.subjects import address
from hocket.telemetry import note

TOMBSTONE_KEPT = timedelta(hours=1)
"""How long the empty record of an ended run stays; it only has to outlive the append that wrote it."""


class Worker:
    """Handles events for one tenure. All it knows came from the log, and it ends with the tenure."""

    def __init__(
        self,
        agent: Agent[Any],
        log: Log,
        committer: Committer,
        tenure: Tenure,
        *,
        process: Process,
        shards: int,
    ) -> None:
        self.tenure = tenure
        self.handled = 0
        """Events whose handling came to an end, dead letters included."""

        self._agent = agent
        self._log = log
        self._committer = committer
        self._process = process
        self._handling = Handling(agent, log, shards, process)
        self._names = self._handling.names
        self._cells = Cells(agent.limits.actors_cached)
        self._dispatcher: Dispatcher
        self._room = asyncio.Event()
        self._pending = 0

    @property
    def lag(self) -> int:
        """How many events wait for this agent: in the log, and in hand."""
        return self._pending + self.tenure.cursor.in_hand

    async def serve(self, heads: Sequence[Message], consumption: Consumption, stop: asyncio.Event) -> None:
        """Take up the open runs, then deliveries, until `stop`; the first failure ends the tenure.

        At a stop, running handlers get `drain_s` to finish, and everything that is finished is committed.
        Raises what ended the tenure, or OutcomeUnknown when the last commits stay unanswered.
        """
        limits = self._agent.limits
        async with asyncio.TaskGroup() as tasks:
            self._dispatcher = Dispatcher(self._turn, tasks, limits.concurrency)
            await self._resume(heads)
            ended = tasks.create_task(self.tenure.ended())
            pump = tasks.create_task(self._pump(consumption))
            mover = tasks.create_task(self._move_out_slow())
            await stop.wait()
            pump.cancel()
            try:
                await self._dispatcher.quiet(limits.drain_s)
            except TimeoutError:
                self._note("drain cuts off", running=len(self._dispatcher.running))
                self._dispatcher.cancel()
            try:
                await self._committer.flush(limits.append_s * 2)
            except TimeoutError:
                raise OutcomeUnknown("the last commits stay unanswered") from None
            mover.cancel()
            ended.cancel()

    async def _resume(self, heads: Sequence[Message]) -> None:
        """Take up the open runs: their events left the cursor's window, so nothing delivers them again."""
        runs: list[Work] = []
        for head in heads:
            fields = orjson.loads(head.data)
            message = await self._log.last(fields["subject"])
            if message is None:
                self._note("run without its event", subject=fields["subject"])
            else:
                key = address(message.subject).key
                runs.append(Work(message, key, suspect=fields["suspect"], run=head.subject))
        for work in sorted(runs, key=lambda work: work.message.seq):
            self._dispatcher.add(work)

    async def _pump(self, consumption: Consumption) -> None:
        """Take deliveries into the window, in log order."""
        window, cursor = self._agent.limits.window, self.tenure.cursor
        acked = Seq(0)
        while True:
            while cursor.in_hand >= window:
                self._room.clear()
                await self._room.wait()
            for message in await consumption.take(max(1, window - cursor.in_hand)):
                self._pending = message.pending
                if cursor.begin(message.seq):
                    suspect = message.seq < self.tenure.doubt
                    self._dispatcher.add(Work(message, _key_of(message), suspect))
            if cursor.floor > acked:
                acked = cursor.floor
                await consumption.ack(acked)

    async def _turn(self, actor: Actor, work: Work) -> None:
        """The life of one event. Nothing of it is in the log before the one append that finishes it."""
        received = self._handling.receive(work.message)
        if isinstance(received, Dead):
            await self._bury(work, received)
            return
        work.cause = received.cause
        work.handler = received.handler.function.__qualname__
        cell = await self._load(actor.key)
        attempts = 0
        while True:
            attempts += 1
            self._process.reach("before handler")
            outcome = await self._handling.attempt(received, cell.value if cell else None, attempts)
            self._process.reach("after handler")
            match outcome:
                case Done():
                    await self._commit(work, cell, outcome)
                    return
                case Again(wait_s, error):
                    self._note("attempt failed", id=received.envelope.id, attempt=attempts, error=repr(error))
                    self._restore(cell)
                    await asyncio.sleep(wait_s)
                case Dead():
                    self._restore(cell)
                    await self._bury(work, outcome, received)
                    return
                case _:
                    assert_never(outcome)

    async def _load(self, key: str) -> Cell | None:
        """The actor's state: from memory, or from its record."""
        if self._agent.state_type is None:
            return None
        cell = self._cells.get(key)
        if cell is None:
            subject = self._names.actor(self._agent.name, key)
            message = await self._log.last(subject)
            if message is None:
                value = self._handling.fresh_state()
                cell = Cell(subject, 0, value.__pydantic_serializer__.to_json(value), value)
            else:
                cell = Cell(subject, message.seq, message.data, self._handling.read_state(message.data))
            self._cells.put(key, cell, self._dispatcher.busy)
        return cell

    def _restore(self, cell: Cell | None) -> None:
        """Undo what a failed attempt did to the state."""
        if cell is not None:
            cell.value = self._handling.read_state(cell.data)

    async def _commit(self, work: Work, cell: Cell | None, done: Done) -> None:
        """Hand the outcome to the committer."""
        changed = cell if cell is not None and done.state != cell.data else None
        if cell is not None:
            cell.value, cell.data = done.value, done.state
        transition = Transition(self.tenure, self._finishes(work), done.events, changed, done.state)
        transition.single = done.home and len(done.events) == 1 and changed is None
        await self._put(transition, work)

    async def _bury(self, work: Work, dead: Dead, received: Received | None = None) -> None:
        """Write the dead letter; the key goes on with its next event."""
        event_id = received.letter_id if received else f"seq-{work.message.seq}"
        self._note("dead letter", subject=work.message.subject, error=repr(dead.error))
        self._process.reach("before dead letter")
        transition = Transition(self.tenure, self._finishes(work))
        transition.records.append(self._handling.dead_letter(work.message, work.key, event_id, dead))
        await self._put(transition, work)

    async def _put(self, transition: Transition, work: Work) -> None:
        """Queue the transition. A suspect's successor waits for its fate: its state may turn out to be void."""
        self._dispatcher.running.pop(work, None)
        self.handled += 1
        cell = transition.cell
        if work.run is not None:
            transition.records.append(_tombstone(work.run))
        if not (transition.events or transition.records or cell):
            self._committer.finish(self.tenure, work.message.seq)
            self._room.set()
            return
        fate: asyncio.Future[bool] | None = None
        if work.suspect and work.cause is not None:
            fate = asyncio.get_running_loop().create_future()
            transition.unless = self._names.emitted(work.key, self._agent.name, work.cause)
        transition.single = transition.single and fate is None and work.run is None
        if cell is not None:
            cell.pending += 1

        def settled(stored: bool) -> None:
            if cell is not None:
                cell.pending -= 1
            self._room.set()
            if fate is not None and not fate.done():
                fate.set_result(stored)

        transition.settled = settled
        self._committer.put(transition)
        if fate is not None and not await fate:
            self._void(work)

    def _void(self, work: Work) -> None:
        """An earlier owner's handling of this event is in the log: count it as done, and forget ours."""
        self._note("done before", seq=work.message.seq)
        self._cells.drop(work.key)
        if work.run is None:
            self._committer.finish(self.tenure, work.message.seq)
            self._room.set()
        else:
            self._committer.put(Transition(self.tenure, None, records=[_tombstone(work.run)]))

    async def _move_out_slow(self) -> None:
        """Give each event that takes long a run head, so that the cursor's floor can go on without it."""
        slow_s = self._agent.limits.slow_s
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(slow_s / 4)
            for work in list(self._dispatcher.running):
                if work.started_s is not None and work.started_s > loop.time() - slow_s:
                    break
                if work.run is None and work.cause is not None:
                    self._move_out(work, work.cause)

    def _move_out(self, work: Work, cause: str) -> None:
        """Open a run for the event. Its handling goes on; its end will be the run's end."""
        self._process.reach("before run head")
        head = {
            "subject": work.message.subject,
            "seq": work.message.seq,
            "handler": work.handler,
            "version": self._agent.version,
            "since": rfc3339(self._process.clock.now_s()),
            "suspect": work.suspect,
        }
        work.run = self._names.run(self._agent.name, work.key, cause)
        opening = Transition(self.tenure, work.message.seq, records=[Write(work.run, orjson.dumps(head))])
        opening.settled = lambda stored: self._opened()
        self._committer.put(opening)

    def _opened(self) -> None:
        self._process.reach("after run head")
        self._room.set()

    def _finishes(self, work: Work) -> Seq | None:
        """The event that the transition finishes; a run's event was finished when its head was written."""
        return work.message.seq if work.run is None else None

    def _note(self, event: str, **fields: Any) -> None:
        note(logging.INFO, event, agent=self._agent.name, shard=self._log.shard, **fields)


def _key_of(message: Message) -> str:
    """The key by which a delivery is put in order; what has no proper subject is ordered by itself."""
    try:
        return address(message.subject).key
    except NotFound:
        return f"seq-{message.seq}"


def _tombstone(run: str) -> Write:
    """The end of a run head: an empty body, kept no longer than needed."""
    return Write(run, b"", ttl=TOMBSTONE_KEPT)
