"""The life of one event: out of the log, through a handler, and back into the log in one append."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, assert_never

from hocket.agent import Agent
from hocket.clock import rfc3339
from hocket.engine.accounts import Accounts
from hocket.engine.answers import Answers
from hocket.engine.blobs import Blobs
from hocket.engine.cancelling import Cancelled, Cancelling
from hocket.engine.cancels import Cancels
from hocket.engine.commit import Committer
from hocket.engine.deadletter import letter_of
from hocket.engine.dispatch import Actor, Dispatcher, Work, delivered, going_on
from hocket.engine.doors import OwnDoors, SharedDoors
from hocket.engine.draining import drained, suspend
from hocket.engine.exhausted import Exhausted
from hocket.engine.failures import written_down
from hocket.engine.handling import Again, Dead, Done, Handling, Held, Received, Waits
from hocket.engine.holding import Holding
from hocket.engine.holds import Holds
from hocket.engine.journal import Journals, Memory
from hocket.engine.live import LiveOutput
from hocket.engine.opening import Opening
from hocket.engine.parts import Parts
from hocket.engine.recall import Recall
from hocket.engine.requests import listen
from hocket.engine.runs import Head, Parked, ending
from hocket.engine.states import States
from hocket.engine.transition import Cell, Tenure, Transition
from hocket.engine.trial import Trials
from hocket.errors import MalformedEvent, NotFound, OutcomeUnknown
from hocket.execution import Suspend
from hocket.log.base import Consumption, Log, Message, Seq, Write
from hocket.process import Process
from hocket.run import Run
from hocket.telemetry import note


class Worker:
    """Handles events for one tenure. All it knows came from the log, and it ends with the tenure."""

    def __init__(
        self,
        agent: Agent[Any],
        log: Log,
        committer: Committer,
        tenure: Tenure,
        cancels: Cancels,
        holds: Holds,
        doors: SharedDoors,
        *,
        process: Process,
        shards: int,
        in_hand: Seq | None,
    ) -> None:
        self.tenure = tenure
        self.cut_off = False
        """Whether handlers were stopped where they stood, because a stop in good order took too long."""

        self.handled = 0
        """Events whose handling came to an end, dead letters included."""

        self._agent = agent
        self._log = log
        self._committer = committer
        self._process = process
        self._handling = Handling(agent, log, shards, process, tenure.end)
        self._names = self._handling.names
        self._doors = OwnDoors(doors, self._handling.unless_interrupted)
        self.live = LiveOutput(log, agent.name, tenure.token)
        self._parked = Parked(process.clock)
        self._recall = Recall(log, tenure.fence)
        self._states = States(agent, self._handling, self._recall, lambda key: self._dispatcher.busy(key))
        caught_up = partial(committer.caught_up, tenure)
        self._answers = Answers(agent, log, self._handling, self._parked, self._recall, caught_up, cancels.ending)
        blobs = Blobs(agent.name, log, self._handling, agent.limits)
        self._journals = Journals(tenure, committer, self._recall, self._handling, blobs, agent.limits)
        self._accounts = Accounts(log, tenure, committer, self._journals, self._handling, process)
        self._cancelling = Cancelling(
            agent,
            tenure,
            cancels,
            self,
            process=process,
            handling=self._handling,
            journals=self._journals,
            parked=self._parked,
        )
        self._parts = Parts(agent, log, self._handling, caught_up)
        self._room = asyncio.Event()
        self._opening = Opening(agent, tenure, committer, process, self._room)
        self.holding = Holding(agent, holds, cancels, self._handling, self._answers, self._opening, self)
        self._exhausted = Exhausted(log, tenure, committer, self._handling, self.holding)
        self._dispatcher: Dispatcher
        self._trials = Trials(
            tenure, committer, agent.limits, process, in_hand=in_hand, aside=lambda: self._dispatcher.aside()
        )
        self._pending = 0

    @property
    def lag(self) -> int:
        """How many events wait for this agent: in the log, in hand, and because they are held."""
        return self._pending + self.tenure.cursor.in_hand + self.holding.waiting

    async def serve(
        self,
        runs: Sequence[tuple[str, Head]],
        consumption: Consumption,
        stop: asyncio.Event,
        ticking: Coroutine[Any, Any, None],
    ) -> None:
        """Take up the open runs, then deliveries, until `stop`; the first failure ends the tenure.

        At a stop, running handlers get `drain_s` to finish, and everything that is finished is committed.
        Raises what ended the tenure, or OutcomeUnknown when the last commits stay unanswered.
        """
        limits = self._agent.limits
        async with asyncio.TaskGroup() as tasks:
            self._dispatcher = Dispatcher(
                self._turn,
                tasks,
                limits.concurrency,
                steps_aside=self.holding.steps_aside,
                paused=self.holding.paused is not None,
            )
            self._resume(runs)
            ended = tasks.create_task(self.tenure.ended())
            # All tasks of the group are cancelled at once, this one with them.
            self._handling.leaving = lambda: self.cut_off or ended.done() or bool(ended.cancelling())
            inflow = [
                tasks.create_task(work)
                for work in (
                    self._pump(consumption),
                    self._wake(),
                    ticking,
                    self._cancelling.serve(),
                    listen(self._log, self.tenure, self._hear),
                )
            ]
            slow = self._opening.serve(self._dispatcher.running)
            beside = (slow, self._recall.serve(), self.live.serve(), self._accounts.serve())
            others = [tasks.create_task(work) for work in beside]
            await stop.wait()
            if not await drained(self._dispatcher, inflow, limits.drain_s, spent=self._process.spent()):
                self._note("drain suspends", running=len(self._dispatcher.running))
                self.cut_off = True
                suspend(self._dispatcher, self._opening)
            self._dispatcher.leave()
            try:
                await self._committer.flush(limits.append_s * 2)
            except TimeoutError:
                raise OutcomeUnknown("the last commits stay unanswered") from None
            for task in (*others, ended):
                task.cancel()

    def _resume(self, runs: Sequence[tuple[str, Head]]) -> None:
        """Take up the open runs: their events left the cursor's window, so nothing delivers them again."""
        running: list[Work] = []
        for run, head in runs:
            if head.waiting:
                self._cancelling.keep(run, head)
            else:
                running.append(going_on(run, head))
        for work in sorted(running, key=lambda work: work.seq):
            self._cancelling.expect(work)
            self._dispatcher.add(work)

    async def _wake(self) -> None:
        """Let each waiting run go on when its time has come."""
        while True:
            self._dispatcher.add(going_on(*await self._parked.next_due()))

    async def _pump(self, consumption: Consumption) -> None:
        """Take deliveries into the window, in log order."""
        limits, cursor = self._agent.limits, self.tenure.cursor
        acked = Seq(0)
        while True:
            while cursor.in_hand >= limits.window or cursor.bytes >= limits.window_bytes:
                self._room.clear()
                if self.holding.paused is not None:
                    await self._count(consumption)
                else:
                    await self._room.wait()
            for message in await consumption.take(max(1, limits.window - cursor.in_hand)):
                self._pending = message.pending
                new = cursor.begin(message.seq, len(message.data))
                if not new or self._cancelling.deliver(message) or self.holding.deliver(message):
                    continue
                work = delivered(message, suspect=message.seq < self.tenure.doubt)
                if work.suspect:
                    self._cancelling.expect(work)
                self._dispatcher.add(work)
            if cursor.floor > acked:
                acked = cursor.floor
                await consumption.ack(acked)

    def _hear(self, message: Message) -> None:
        """Take a request in, ahead of what waits before it. Raises MalformedEvent."""
        if not self.holding.hear(message):
            self._cancelling.hear(message)
            self.holding.review()
        self._dispatcher.rouse()

    async def _count(self, consumption: Consumption) -> None:
        """While a paused agent takes nothing more, say how its lag grows."""
        self._pending = await consumption.pending()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._agent.limits.heartbeat_s):
                await self._room.wait()

    async def _turn(self, actor: Actor, work: Work) -> None:
        await self._cancelling.turn(work, self.life(work))

    async def life(self, work: Work) -> None:
        """The life of one event. Nothing of it is in the log before the one append that finishes it."""
        message = work.message or await self._take_up(work)
        if message is None:
            return
        if work.head is None and self._answers.is_answer(message, work.where):
            await self._answer(work, message)
            return
        received = self._handling.receive(message, work.where)
        if isinstance(received, Dead):
            await self._bury(work, message, received)
            return
        if work.suspect and await self._is_done(work, received):
            self._void(work)
            return
        if self._handling.budgeted:
            received = await self._accounts.joining(received, self._handling.budgeted)
        work.received = received
        shared = (self._doors, self._accounts)
        memory = Memory(self._journals, self._answers, self.live, self.holding, self._parts, *shared, work)
        run = work.doing = Run(memory, *((work.head.emitted, work.head.again_from) if work.head else ()))
        if self._trials.concern(work):
            async with self._trials.of(work, received, run) as dead:
                await (self._bury(work, message, dead) if dead else self._handle(work, received, run))
        else:
            await self._handle(work, received, run)

    async def _handle(self, work: Work, received: Received, run: Run) -> None:
        """Call the handler, again if need be, and commit what comes of it."""
        message, attempts = received.message, 0
        cell = None if self._cancelling.stops(work) else await self._states.load(work.key)
        while work.cancel is None:
            attempts += 1
            self._process.reach("before handler")
            state = self._states.copy(cell) if run.emitted or work.head else cell and cell.value
            execution = self._handling.attempt(received, state, attempts, run, lambda: self._states.copy(cell))
            outcome = await self._cancelling.interruptible(work, execution)
            self._process.reach("after handler")
            match outcome:
                case Done():
                    self._exhausted.handled(received, outcome, run)
                    await self._commit(work, cell, outcome, run)
                    return
                case Waits(suspend, done):
                    if done is not None:
                        self._exhausted.handled(received, done, run)
                    await self._park(work, received, cell, done, run, suspend)
                    return
                case Held(until_s):
                    self._states.restore(cell)
                    rests_s = until_s - self._process.clock.now_s() if until_s is not None else 0.0
                    self._opening.stop(work, received, rests_s=rests_s)
                    return
                case Again(wait_s, error):
                    self._note("attempt failed", id=received.envelope.id, attempt=attempts, error=repr(error))
                    self._states.restore(cell)
                    await self._cancelling.interruptible(work, asyncio.sleep(wait_s))
                    if self.holding.stops(work):
                        self._opening.stop(work, received)
                        return
                case Dead():
                    self._states.restore(cell)
                    await self._bury(work, message, outcome)
                    return
                case Cancelled(error):
                    self._states.restore(cell)
                    await self._cancelling.end(work, error)
                    return
                case _:
                    assert_never(outcome)
        await self._cancelling.clean_up(work)

    async def _is_done(self, work: Work, received: Received) -> bool:
        """Whether an earlier owner has answered a suspect, with an append that its cursor did not go with.

        It is a suspect no more if not: since our claim nobody else can answer it. What was begun of it is read as well.
        """
        letter = letter_of(self._names, self._agent.name, work.key, received.envelope)
        emitted = self._names.emitted(work.key, self._agent.name, received.cause)
        journal = self._names.journal(self._agent.name, work.key, received.cause)
        found = await self._recall.read(letter, emitted, f"{journal}.*")
        work.journal = [message for message in found if message.subject.startswith(f"{journal}.")]
        work.suspect = len(found) > len(work.journal)
        return work.suspect

    async def _take_up(self, work: Work) -> Message | None:
        """Read a run's event and journal again. When the event has aged out of the log, the run's end says so.

        None: there is nothing more to do. A run that waited may have been cancelled before its turn came.
        """
        assert work.head is not None
        assert work.run is not None
        if not self._parked.take_out(work.run) and work.head.waiting and work.cancel is None:
            if work.answered is not None:
                self.finish(work.answered)
            return None
        subject = work.head.subject
        journal = self._names.journal(self._agent.name, work.key, work.run.rpartition(".")[2])
        found = await self._recall.read(subject, f"{journal}.*")
        work.journal = [m for m in found if m.subject != subject]
        message = next((m for m in found if m.subject == subject), None)
        if message is None:
            gone = Message(work.head.subject, work.seq, b"")
            await self._bury(work, gone, Dead(NotFound("the run's event has aged out of the log"), 0))
        return message

    async def scratch(self, key: str) -> Callable[[], Any]:
        """Gives copies of an actor's state, for an execution that must not change it."""
        cell = await self._states.look(key)
        return lambda: self._states.copy(cell)

    async def _answer(self, work: Work, message: Message) -> None:
        """Give an event to the runs that wait for it. It stays in the log for those that come to wait later."""
        try:
            answer = await self._answers.to(message)
        except (MalformedEvent, NotFound) as error:
            await self._bury(work, message, Dead(error, 0))
            return
        woken = [(run, head) for run, head in answer.runs if self._parked.wake(run)]
        if len(woken) == 1:
            # The append by which the run ends, or waits again, finishes the answer too. Until then a crash leaves
            # the run waiting and the answer open: it is delivered again and wakes the run again.
            self._dispatcher.running.pop(work, None)
            self.handled += 1
            (run, head) = woken[0]
            self._dispatcher.add(going_on(run, head, answer.decisions, answered=work.seq))
            return
        heads = [(run, head.woken) for run, head in woken]
        # The heads say that their answer has come, in the commit that finishes it, since no one run can answer for it.
        transition = Transition(self.tenure, work.seq, events=answer.events)
        transition.ahead += [Write(run, head.to_json()) for run, head in heads]
        await self.put(transition, work, ends=True)
        for run, head in heads:
            self._dispatcher.add(going_on(run, head, answer.decisions))

    async def _commit(self, work: Work, cell: Cell | None, done: Done, run: Run) -> None:
        """Hand the outcome to the committer."""
        if work.head is not None:
            await run.loaded()
        notice = run.notice(rfc3339(self._process.clock.now_s())) if run.entries else None
        if notice is not None:
            self._note("journal differs", run=self._journals.where(work), **notice.result)
            run.noted = (*run.noted, notice)
        if run.failures:
            run.noted = (*run.noted, *await written_down(run))
        transition = self._transition(work, cell, done)
        if run.noted:
            transition.records += self._journals.writes(work, run.of_end())
        if done.remind_s is not None:
            head = self._opening.reminder(work, done.remind_s, run.emitted + len(done.events))
            await self._leave(work, done, transition, head)
            return
        dismissed = self._dismissed(work, done, transition)
        transition.single = (
            done.home and len(done.events) == 1 and not (transition.cell or transition.records or dismissed)
        )
        await self.put(transition, work, ends=True)
        self._parked.forget(dismissed)

    async def _park(
        self, work: Work, received: Received, cell: Cell | None, done: Done | None, run: Run, suspend: Suspend
    ) -> None:
        """Commit what the run did before its wait, together with the wait, and let go of its memory."""
        head = replace(
            work.head or self._opening.head(received),
            suspect=False,
            until_s=suspend.until_s,
            waits=suspend.waits,
            approval=suspend.approval,
            parked=suspend.parked,
        )
        if done is None:
            assert work.run is not None
            if head != work.head:  # it was woken for nothing: the log has to say again what it waits for
                again = Transition(self.tenure, None, records=[Write(work.run, head.to_json())])
                await self.put(again, work, ends=False)
            elif work.answered is not None:
                self.finish(work.answered)
            self._cancelling.keep(work.run, head)
            return
        head = replace(head, emitted=run.emitted + len(done.events))
        transition = self._transition(work, cell, done)
        run.noted = (*run.noted, *await written_down(run))
        transition.records += self._journals.writes(work, run.of_wait(head.emitted))
        await self._leave(work, done, transition, head)

    async def _leave(self, work: Work, done: Done, transition: Transition, head: Head) -> None:
        """Commit what was done together with the head of the run, which goes on another time."""
        assert work.received is not None
        name = work.run or self._names.run(self._agent.name, work.key, work.received.cause)
        transition.records.append(Write(name, head.to_json()))
        dismissed = self._dismissed(work, done, transition)
        await self.put(transition, work, ends=False)
        self._parked.forget(dismissed)
        self._cancelling.keep(name, head)

    def _dismissed(self, work: Work, done: Done, transition: Transition) -> Sequence[str]:
        """The waiting runs that end with a transition. None of them can go on meanwhile: it is not its turn."""
        dismissed = self._parked.of_actor(work.key) if done.dismisses else ()
        transition.ahead += ending(self._names, *dismissed)
        return dismissed

    def _transition(self, work: Work, cell: Cell | None, done: Done) -> Transition:
        """What the handler's execution changed: its events, and the state if it is another one now."""
        changed = cell if cell is not None and done.state != cell.data else None
        if cell is not None:
            cell.value, cell.data = done.value, done.state
        parts = self._parts.note(work) if changed else []
        return Transition(self.tenure, work.finishes, done.events, changed, done.state, parts)

    async def _bury(self, work: Work, message: Message, dead: Dead) -> None:
        """Write the dead letter; the key goes on with its next event."""
        self._note("dead letter", subject=message.subject, error=repr(dead.error))
        self._process.reach("before dead letter")
        dead, events = self._exhausted.told(work, dead)
        transition = Transition(self.tenure, work.finishes, events)
        transition.records.append(self._handling.dead_letter(message, work.key, dead))
        transition.single = not events
        await self.put(transition, work, ends=True)
        await self._exhausted.take_effect(events)

    async def put(self, transition: Transition, work: Work, *, ends: bool) -> None:
        """Queue the transition. Only a run that waits stays for its fate: it must not wake before its head is in the
        log. Everything else goes on at once.
        """
        self._dispatcher.running.pop(work, None)
        if work.received is not None:
            self.live.forget(work.key, work.received.cause)
        self.handled += ends
        if transition.finishes is None:
            transition.finishes = work.answered
        cell = transition.cell
        if ends and work.run is not None:
            transition.records += ending(self._names, work.run)
        if not (transition.events or transition.records or transition.ahead or cell):
            self._committer.finish(self.tenure, work.seq)
            self._room.set()
            return
        fate = None if ends else asyncio.get_running_loop().create_future()
        transition.single = transition.single and ends and work.run is None
        if cell is not None:
            cell.pending += 1

        def settled(stored: bool) -> None:
            if cell is not None:
                cell.pending -= 1
            self._room.set()
            if fate is not None and not fate.done():
                fate.set_result(stored)

        transition.settled = settled
        for lot in transition.lots():
            self._committer.put(lot)
        if fate is not None:
            await fate

    def _void(self, work: Work) -> None:
        """An earlier owner's handling of this event is in the log: count it as done."""
        self._note("done before", seq=work.seq)
        if work.run is None:
            self._committer.finish(self.tenure, work.seq)
            self._room.set()
        else:
            self._committer.put(Transition(self.tenure, work.answered, records=ending(self._names, work.run)))

    def pause(self, *, paused: bool) -> None:
        """See `hocket.engine.holding.Turns.pause`."""
        self._dispatcher.pause(paused=paused)
        self._room.set()

    def go_on(self, work: Work) -> None:
        """See `hocket.engine.holding.Turns.go_on`."""
        self._dispatcher.put_back(work)

    def finish(self, seq: Seq) -> None:
        """Let the cursor count an event as finished, after all that was put so far."""
        self._committer.put(Transition(self.tenure, seq, settled=lambda stored: self._room.set()))

    def _note(self, event: str, **fields: Any) -> None:
        note(logging.INFO, event, agent=self._agent.name, shard=self._log.shard, **fields)
