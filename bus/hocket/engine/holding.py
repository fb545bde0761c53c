"""Handlings that somebody wants to wait: not begun, stopped at their next durable call, and let go on in order."""

import logging
from typing import Any, Protocol

from hocket.agent import Agent
from hocket.engine.answers import Answers
from hocket.engine.cancels import Cancels, Extent
from hocket.engine.dispatch import Work
from hocket.engine.handling import Dead, Handling, Received
from hocket.engine.holds import WORDS, Holds, Standing
from hocket.engine.opening import Opening
from hocket.errors import MalformedEvent
from hocket.log.base import Message, Seq
from hocket.subjects import address
from hocket.telemetry import note
from hocket_schemas.holds import HoldLifted
from hocket_schemas.letters import letter_of


class Turns(Protocol):
    """What the worker does with events that wait."""

    def finish(self, seq: Seq) -> None:
        """Let the cursor count an event as finished, after all that was put so far."""
        ...

    def pause(self, *, paused: bool) -> None:
        """Begin no turn, or begin them again."""
        ...

    def go_on(self, work: Work) -> None:
        """Let an event have its turn, before the newer ones of its key."""
        ...


class Holding:
    """Keeps what is held out of its turns, for one tenure.

    What is held follows from the log alone. An event that waits leaves the cursor's window as an open run, so that
    the window has room for the others, and a next owner finds it with the runs.
    """

    def __init__(
        self,
        agent: Agent[Any],
        holds: Holds,
        cancels: Cancels,
        handling: Handling,
        answers: Answers,
        opening: Opening,
        turns: Turns,
    ) -> None:
        self._agent = agent
        self._holds = holds
        self._cancels = cancels
        self._handling = handling
        self._answers = answers
        self._opening = opening
        self._turns = turns
        self._words = tuple(handling.names.begins(word) for word in WORDS)
        self._aside: dict[Work, None] = {}
        """What waits, out of its key's turns."""

    @property
    def paused(self) -> Standing | None:
        """By what the agent handles nothing at all."""
        return self._holds.paused

    @property
    def waiting(self) -> int:
        """How many events wait because their key or their saga is held."""
        return len(self._aside)

    def card(self) -> dict[str, Any]:
        """What a heartbeat says of holds."""
        paused = self.paused
        by = {"by": paused.word.by, "reason": paused.word.reason, "since": paused.since} if paused else None
        return {"paused": by, "held": self.waiting, "holds": self._holds.known}

    def hear(self, message: Message) -> bool:
        """Take a message in, if it is about a hold, and let go on what may. Raises MalformedEvent."""
        if not message.subject.startswith(self._words):
            return False
        before = self.paused
        if self._holds.hear(message):
            if (before is None) != (self.paused is None):
                self._turns.pause(paused=self.paused is not None)
            note(logging.INFO, "holds", agent=self._agent.name, subject=message.subject, paused=str(self.paused or ""))
            self.review()
        return True

    def deliver(self, message: Message) -> bool:
        """Take a delivered event, if it is about a hold; False: it is to be handled like any other.

        It was heard before, most of the time; but nothing that comes after it may be begun before it is known.
        """
        try:
            if not self.hear(message) or address(message.subject).type in self._agent.handlers:
                return False
        except MalformedEvent:
            return False  # it becomes a dead letter
        self._turns.finish(message.seq)
        return True

    def review(self) -> None:
        """Let go on what is not held any more, or has been cancelled meanwhile."""
        for work in sorted(self._aside, key=lambda work: work.seq):
            assert work.head is not None, "what waits has a head"
            if not self._covers(work, work.head.saga or work.key):
                del self._aside[work]
                self._turns.go_on(work)

    def steps_aside(self, work: Work) -> bool:
        """Whether an event whose turn it is has to wait; then it is taken care of."""
        if not self._holds:
            return False
        received: Received | None = None
        saga = work.head.saga or work.key if work.head is not None else ""
        if work.head is None:
            assert work.message is not None, "what has no head was delivered"
            if self._answers.is_answer(work.message, work.where):
                return False  # the run that it wakes waits
            found = self._handling.receive(work.message, work.where)
            if isinstance(found, Dead):
                return False  # no handler will see it
            received, saga = found, found.saga
        if not self._covers(work, saga, received):
            return False
        self._opening.put_aside(work, received)
        self._aside[work] = None
        return True

    def lifted_by(self, received: Received) -> HoldLifted | None:
        """What is to be said once an event was handled that was sent again while its key waited for that."""
        standing = self._holds.covering(received.key, received.saga) if self._holds else None
        if standing is None or not _sent_again_for(standing, letter_of(received.envelope)):
            return None
        word = standing.word
        return HoldLifted(agent=word.agent, key=word.key, letter=word.letter, by=word.by, reason="it was sent again")

    def stops(self, work: Work) -> bool:
        """Whether a handling that is under way goes no further than to its next durable call."""
        if not self._holds:
            return False
        assert work.received is not None, "only an event that passed the gate is handled"
        return self.paused is not None or self._covers(work, work.received.saga, work.received)

    def _covers(self, work: Work, saga: str, received: Received | None = None) -> bool:
        standing = self._holds.covering(work.key, saga)
        # A run says it too: whoever goes on with one after its process was killed has not read its event yet.
        letter = letter_of(received.envelope) if received is not None else work.head.letter if work.head else ""
        if standing is None or _sent_again_for(standing, letter):
            return False
        if not self._cancels:
            return True
        return self._cancels.covering(_extent(work, received, saga)) is None


def _sent_again_for(standing: Standing, letter: str) -> bool:
    """Whether what was sent again for a letter is what its key waits for."""
    return bool(letter) and standing.word.letter == letter


def _extent(work: Work, received: Received | None, saga: str) -> Extent:
    """What a request to cancel can be about."""
    if received is not None:
        return Extent(work.seq, received.envelope.type, work.key, saga, received.cause)
    assert work.run is not None
    assert work.head is not None
    return Extent(work.seq, address(work.head.subject).type, work.key, saga, work.run.rpartition(".")[2])


__all__ = ["Holding", "Turns"]
