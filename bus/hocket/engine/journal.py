"""The journals of one tenure's runs, as they stand in the log: each entry behind the fence, in its order."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hocket.engine.answers import Answers
from hocket.engine.commit import Committer
from hocket.engine.dispatch import Work
from hocket.engine.handling import Handling
from hocket.engine.live import LiveOutput
from hocket.engine.recall import Recall
from hocket.engine.transition import Tenure, Transition
from hocket.errors import UsageError
from hocket.log.base import Message, Write
from hocket.policy import Limits
from hocket.run import Entry
from hocket_schemas.approvals import ApprovalDecided
from hocket_schemas.envelope import Envelope
from hocket_schemas.undoing import EffectDone


class Journals:
    """Reads and writes what runs remember."""

    def __init__(
        self, tenure: Tenure, committer: Committer, recall: Recall, handling: Handling, limits: Limits
    ) -> None:
        self._tenure = tenure
        self._committer = committer
        self._recall = recall
        self._handling = handling
        self._limits = limits

    def where(self, work: Work) -> str:
        """What the subjects of a run's entries begin with."""
        assert work.received is not None, "only an event that passed the gate has a journal"
        return self._tenure.names.journal(self._tenure.agent, work.key, work.received.cause)

    async def load(self, work: Work) -> list[tuple[int, Entry]]:
        """What the handling has done so far. Nobody can have begun a new event before us."""
        if work.head is None and not work.suspect:
            return []
        found = work.journal
        if found is None:
            found = await self._recall.read(f"{self.where(work)}.*")
        return read(found)

    def writes(self, work: Work, entries: Sequence[tuple[int, Entry]]) -> list[Write]:
        """Entries as they will be stored."""
        where, kept = self.where(work), self._limits.journal_kept
        return [Write(f"{where}.{i}", entry.to_json(), ttl=kept) for i, entry in entries]

    def check(self, body: bytes, name: str) -> None:
        """Raise UsageError for an entry that the log cannot take."""
        most = self._limits.event_bytes_max
        if len(body) > most:
            raise UsageError(f"{name}: {len(body)} bytes to remember, the limit is {most}")

    async def record(self, work: Work, entries: Sequence[tuple[int, Entry]], effect: EffectDone | None = None) -> None:
        """Put entries into the handling's journal; returns when they are in the log. Raises UsageError as `check`.

        `effect` is told to the saga with the same append.
        """
        assert work.received is not None, "only an event that passed the gate has a journal"
        written = self.writes(work, entries)
        self.check(written[-1].data, entries[-1][1].name)  # those before were noted, and checked then
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        told = [self._handling.effect_done(work.received, effect)] if effect else []
        transition = Transition(self._tenure, None, told, records=written, single=len(written) == 1 and not told)
        # Whoever asked may be gone by then: an attempt has its timeout.
        transition.settled = lambda known: None if stored.done() else stored.set_result(known)
        self._committer.put(transition)
        await stored


@dataclass(frozen=True, slots=True)
class Memory:
    """What one handling remembers and hears: implements `hocket.run.Memory`."""

    journals: Journals
    replies: Answers
    live: LiveOutput
    work: Work

    async def load(self) -> Sequence[tuple[int, Entry]]:
        """See `hocket.run.Memory.load`."""
        return await self.journals.load(self.work)

    async def record(self, entries: Sequence[tuple[int, Entry]], effect: EffectDone | None = None) -> None:
        """See `hocket.run.Memory.record`."""
        await self.journals.record(self.work, entries, effect)

    def check(self, entry: Entry) -> None:
        """See `hocket.run.Memory.check`."""
        self.journals.check(entry.to_json(), entry.name)

    async def say(self, execution: int, text: str) -> None:
        """See `hocket.run.Memory.say`."""
        assert self.work.received is not None, "only an event that passed the gate is handled"
        await self.live.say(self.work.key, self.work.received.cause, execution, text)

    async def answers(self, types: Sequence[str]) -> Sequence[tuple[int, Envelope]]:
        """See `hocket.run.Memory.answers`."""
        if self.work.decisions is not None and list(types) == [ApprovalDecided.event_type]:
            return self.work.decisions
        return await self.replies.for_handler(self.work.key, types, self.work.seq)


def read(messages: Sequence[Message]) -> list[tuple[int, Entry]]:
    """A journal: entries with their numbers, in order."""
    return sorted((int(m.subject.rpartition(".")[2]), Entry.from_json(m.data)) for m in messages)
