"""What may not be handled for the time being: read from the log alone, so that every owner knows the same."""

import asyncio
from dataclasses import dataclass

from hocket.clock import rfc3339
from hocket.engine.handling import read
from hocket.log.base import Message, Seq
from hocket_schemas import gate
from hocket_schemas.holds import Hold, HoldLifted, HoldPlaced

WORDS = (HoldPlaced.event_type, HoldLifted.event_type)
"""The types of the facts about holds."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest word about an agent, a key or a saga."""

    seq: Seq
    word: Hold
    since: str
    """When it was said, RFC 3339."""

    @property
    def placed(self) -> bool:
        """Whether it is held, rather than let go."""
        return isinstance(self.word, HoldPlaced)

    def __str__(self) -> str:
        return told(self.word)


class Holds:
    """Every hold that the log knows, for one agent on one shard."""

    def __init__(self, agent: str, *, heeds: bool) -> None:
        self._agent = agent
        self._heeds = heeds
        self.known = 0
        """The sequence of the newest word that was heard, whomever it concerns."""

        self._newest: dict[tuple[str, str], Standing] = {}
        self._standing: dict[tuple[str, str], Standing] = {}
        """Those of the newest that hold something."""

        self._going = asyncio.Event()
        self._going.set()

    def __bool__(self) -> bool:
        return bool(self._standing)

    def hear(self, message: Message) -> bool:
        """Take a word in; whether it changes something for this agent. Raises MalformedEvent."""
        said = read_word(message)
        place = said.word.scope
        self.known = max(self.known, said.seq)
        before = self._newest.get(place)
        if not self._concerns(said.word) or (before is not None and before.seq >= said.seq):
            return False
        letter = said.word.letter
        if letter is not None and not said.placed and (before is None or before.word.letter != letter):
            return False  # a person's hold, or one for another letter, stays
        self._newest[place] = said
        self._standing.pop(place, None)
        if said.placed:
            self._standing[place] = said
        if self.paused is None:
            self._going.set()
        else:
            self._going.clear()
        return True

    @property
    def paused(self) -> Standing | None:
        """By what the agent handles nothing at all."""
        return self._standing.get(("agent", self._agent))

    async def going(self) -> None:
        """Wait until the agent is not paused."""
        await self._going.wait()

    def covering(self, key: str, saga: str) -> Standing | None:
        """By what an event may not be handled while others of the agent's are."""
        return self._standing.get(("key", key)) or self._standing.get(("saga", saga))

    def _concerns(self, word: Hold) -> bool:
        """Whether it is said of this agent. One that looks after sagas goes on unless it is named."""
        return word.agent == self._agent or (word.agent is None and self._heeds)


def read_word(message: Message) -> Standing:
    """What a message says of a hold. Raises MalformedEvent."""
    envelope = read(message)
    kind = HoldPlaced if envelope.type == HoldPlaced.event_type else HoldLifted
    return Standing(message.seq, gate.event_of(envelope, kind), rfc3339(message.time_ns / 1e9))


def told(word: Hold) -> str:
    """By whom something is held, and why."""
    return f"by {word.by} because {word.reason}" if word.reason else f"by {word.by}"
