"""The journals of one tenure's runs, as they stand in the log: each entry behind the fence, in its order."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import orjson

from hocket.account import Amounts
from hocket.approval import SAID
from hocket.blob import Blob
from hocket.doors import Doors
from hocket.engine.answers import Answers
from hocket.engine.blobs import Blobs, Large
from hocket.engine.commit import Committer
from hocket.engine.dispatch import Work
from hocket.engine.handling import Handling
from hocket.engine.holding import Holding
from hocket.engine.live import LiveOutput
from hocket.engine.parts import Parts
from hocket.engine.recall import Recall
from hocket.engine.transition import Tenure, Transition
from hocket.errors import UsageError
from hocket.log.base import Message, Write
from hocket.policy import Limits
from hocket.run import PARKED, Entry
from hocket_schemas.budgets import Purse
from hocket_schemas.envelope import Envelope
from hocket_schemas.undoing import EffectDone


class Journals:
    """Reads and writes what runs remember."""

    def __init__(
        self,
        tenure: Tenure,
        committer: Committer,
        recall: Recall,
        handling: Handling,
        blobs: Blobs,
        limits: Limits,
    ) -> None:
        self._tenure = tenure
        self._committer = committer
        self._recall = recall
        self._handling = handling
        self._blobs = blobs
        self._limits = limits

    @property
    def agent(self) -> str:
        """Whose they are."""
        return self._tenure.agent

    def where(self, work: Work) -> str:
        """What the subjects of a run's entries begin with."""
        assert work.received is not None, "only an event that passed the gate has a journal"
        return self._tenure.names.journal(self._tenure.agent, work.key, work.received.cause)

    async def load(self, work: Work) -> list[tuple[int, Entry]]:
        """What the handling has done so far. Nobody can have begun a new event before us."""
        found = work.journal
        if found is None and work.head is None:
            return []
        if found is None:
            found = await self._recall.read(f"{self.where(work)}.*")
        return read(found)

    def writes(self, work: Work, entries: Sequence[tuple[int, Entry]]) -> list[Write]:
        """Entries as they will be stored, and after them what they only name."""
        return self._written(work, [(i, *self._blobs.apart(entry)) for i, entry in entries])

    def check(self, entry: Entry) -> None:
        """Raise UsageError for an entry that the log cannot take, ResultTooLarge for one that names too much."""
        self._blobs.check(entry)
        entry, most = self._blobs.without(entry), self._limits.event_bytes_max
        if entry.bytes_most is not None and entry.bytes_most <= most:
            return
        size = len(entry.to_json())
        if size > most:
            raise UsageError(f"{entry.name}: {size} bytes to remember, the limit is {most}")

    async def record(self, work: Work, entries: Sequence[tuple[int, Entry]], effect: EffectDone | None = None) -> Entry:
        """Put entries into the handling's journal; when they are in the log, return the last as it stands there.

        `effect` is told to the saga with the same append.
        """
        assert work.received is not None, "only an event that passed the gate has a journal"
        apart = [(i, *self._blobs.apart(entry)) for i, entry in entries]
        written = self._written(work, apart)
        stored_as = apart[-1][1]
        told = [self._handling.effect_done(work.received, _with(effect, stored_as))] if effect else []
        transition = Transition(self._tenure, None, told, records=written, single=len(written) == 1 and not told)
        await self._committer.fate_of(transition)
        return stored_as

    async def fetch(self, blob: Blob) -> bytes:
        """Read what an entry only names. Raises ResultLost."""
        return await self._blobs.fetch(blob)

    def _written(self, work: Work, apart: Sequence[tuple[int, Entry, Large]]) -> list[Write]:
        where, kept = self.where(work), self._limits.journal_kept
        written = [Write(f"{where}.{i}", entry.to_json(), ttl=kept) for i, entry, _ in apart]
        # The entries go first: what an append expects may stand on its first message, which must be in it once only.
        return written + [piece for _, _, large in apart for piece in self._blobs.writes(large)]


class Draws(Protocol):
    """Who draws from accounts for runs."""

    def draw(
        self, work: Work, number: int, entry: Entry, purse: Purse, amounts: Amounts, *, forced: bool
    ) -> "asyncio.Future[Entry]":
        """See `hocket.run.Memory.draw`."""
        ...


@dataclass(slots=True, eq=False)
class Memory:
    """What one handling remembers and hears: implements `hocket.run.Memory`."""

    journals: Journals
    replies: Answers
    live: LiveOutput
    holding: Holding
    parts: Parts
    doors: Doors
    accounts: Draws
    work: Work

    @property
    def agent(self) -> str:
        """See `hocket.run.Memory.agent`."""
        return self.journals.agent

    @property
    def key(self) -> str:
        """See `hocket.run.Memory.key`."""
        return self.work.key

    async def load(self) -> Sequence[tuple[int, Entry]]:
        """See `hocket.run.Memory.load`."""
        return await self.journals.load(self.work)

    async def record(self, entries: Sequence[tuple[int, Entry]], effect: EffectDone | None = None) -> Entry:
        """See `hocket.run.Memory.record`."""
        return await self.journals.record(self.work, entries, effect)

    def draw(
        self, number: int, entry: Entry, purse: Purse, amounts: Amounts, *, forced: bool
    ) -> "asyncio.Future[Entry]":
        """See `hocket.run.Memory.draw`."""
        return self.accounts.draw(self.work, number, entry, purse, amounts, forced=forced)

    async def fetch(self, blob: Blob) -> bytes:
        """See `hocket.run.Memory.fetch`."""
        return await self.journals.fetch(blob)

    def check(self, entry: Entry) -> None:
        """See `hocket.run.Memory.check`."""
        self.journals.check(entry)

    def held(self) -> bool:
        """See `hocket.run.Memory.held`."""
        return self.holding.stops(self.work)

    async def say(self, execution: int, text: str) -> None:
        """See `hocket.run.Memory.say`."""
        assert self.work.received is not None, "only an event that passed the gate is handled"
        await self.live.say(self.work.key, self.work.received.cause, execution, text)

    async def untold(self) -> Sequence[str]:
        """See `hocket.run.Memory.untold`."""
        return await self.parts.untold(self.work)

    async def answers(self, types: Sequence[str]) -> Sequence[tuple[int, Envelope]]:
        """See `hocket.run.Memory.answers`."""
        if self.work.decisions is not None and set(types) <= set(SAID):
            return self.work.decisions
        return await self.replies.for_handler(self.work.key, types, self.work.seq)


def _with(effect: EffectDone, outcome: Entry) -> EffectDone:
    """An effect as its saga learns of it: with its arguments and its outcome, or with the names of large ones."""
    told = {
        "arguments": as_told(outcome.arguments),
        "result": as_told(outcome.result),
        "large": isinstance(outcome.result, Blob),
    }
    return effect.model_copy(update=told)


def as_told(value: Any) -> Any:
    """JSON as a value; a blob by its name."""
    if isinstance(value, Blob):
        return asdict(value)
    return orjson.loads(value) if isinstance(value, bytes) else value


def read(messages: Sequence[Message]) -> list[tuple[int, Entry]]:
    """A journal: entries with their numbers, in order."""
    return sorted((int(m.subject.rpartition(".")[2]), _entry(m)) for m in messages)


def _entry(message: Message) -> Entry:
    """An entry. One that waits for a person takes no word for its own that came before it did."""
    entry = Entry.from_json(message.data)
    return replace(entry, heeded=max(entry.heeded, message.seq)) if entry.phase == PARKED else entry
