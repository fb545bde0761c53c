"""How an event becomes an open run: its head takes the place that the event had in the cursor's window."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from hocket.agent import Agent
from hocket.clock import rfc3339
from hocket.engine.commit import Committer
from hocket.engine.dispatch import Work
from hocket.engine.handling import Received
from hocket.engine.runs import Head
from hocket.engine.transition import Tenure, Transition
from hocket.log.base import Write
from hocket.process import Process
from hocket_schemas.letters import letter_of


class Opening:
    """Writes the heads of runs that do not wait by themselves, for one tenure."""

    def __init__(
        self, agent: Agent[Any], tenure: Tenure, committer: Committer, process: Process, room: asyncio.Event
    ) -> None:
        self._agent = agent
        self._tenure = tenure
        self._committer = committer
        self._process = process
        self._room = room

    async def serve(self, running: Collection[Work]) -> None:
        """Give each event that takes long a run head, so that the cursor's floor can go on without it; likewise
        each run that an answer has woken.
        """
        slow_s = self._agent.limits.slow_s
        loop = asyncio.get_running_loop()
        wait_s = slow_s
        while True:
            await asyncio.sleep(wait_s)
            wait_s = slow_s  # what begins from here on is not slow before that
            for work in list(running):
                left_s = work.started_s + slow_s - loop.time()
                if left_s > 0:
                    wait_s = min(wait_s, max(left_s, slow_s / 4))
                    break
                if work.run is None and work.received is not None:
                    self.open(work, work.received)
                elif work.run is None:
                    wait_s = slow_s / 4  # it is not read yet
                elif work.head is not None and work.answered is not None:
                    self.keep_woken(work, work.head)

    def stop(self, work: Work, received: Received, *, rests_s: float = 0.0) -> None:
        """Let an execution that goes no further have been none: another begins from its journal, after a rest."""
        self._leave(work, received)
        work.message, work.journal, work.stopped, work.rests_s = received.message, None, True, rests_s

    def put_aside(self, work: Work, received: Received | None) -> None:
        """Let an event that may not begin wait in the log, and keep no more of it in memory than its head."""
        self._leave(work, received)
        work.message = work.received = None

    def _leave(self, work: Work, received: Received | None) -> None:
        """Leave the window for good, if it is still there."""
        if work.head is not None:
            if work.answered is not None:
                self.keep_woken(work, work.head)
            return
        assert received is not None, "an event is read before a run is opened for it"
        work.head = self.open(work, received) if work.run is None else self.head(received, suspect=work.suspect)

    def keep_woken(self, work: Work, head: Head) -> None:
        """Write down that a run's answer has come; whoever recovers after that goes on with the run."""
        assert work.run is not None
        work.head = head.woken
        waking = Transition(self._tenure, work.answered, records=[Write(work.run, work.head.to_json())])
        waking.settled = lambda stored: self._room.set()
        self._committer.put(waking)
        work.answered = None

    def open(self, work: Work, received: Received) -> Head:
        """Open a run for the event. If it is being handled that goes on; its end will be the run's end."""
        self._process.reach("before run head")
        work.run = self._tenure.names.run(self._agent.name, work.key, received.cause)
        head = self.head(received, suspect=work.suspect)
        opening = Transition(self._tenure, work.seq, records=[Write(work.run, head.to_json())])
        opening.settled = lambda stored: self._opened()
        self._committer.put(opening)
        return head

    def head(self, received: Received, *, suspect: bool = False) -> Head:
        """The head of a run that is not open yet."""
        return Head(
            subject=received.message.subject,
            seq=received.message.seq,
            handler=received.handler.function.__qualname__,
            version=self._agent.version,
            since=rfc3339(self._process.clock.now_s()),
            suspect=suspect,
            saga=received.saga if received.saga != received.key else "",
            letter=letter_of(received.envelope),
        )

    def reminder(self, work: Work, after_s: float, emitted: int) -> Head:
        """The head of an event whose handling has ended, and is made again after a time."""
        assert work.received is not None
        until_s = self._process.clock.after(after_s)
        return replace(self.head(work.received), until_s=until_s, emitted=emitted, again_from=emitted)

    def _opened(self) -> None:
        self._process.reach("after run head")
        self._room.set()


__all__ = ["Opening"]
