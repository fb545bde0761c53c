"""The journals of one tenure's runs, as they stand in the log: each entry behind the fence, in its order."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hocket.engine.answers import Answers
from hocket.engine.commit import Committer
from hocket.engine.dispatch import Work
from hocket.engine.live import LiveOutput
from hocket.engine.recall import Recall
from hocket.engine.transition import Tenure, Transition
from hocket.errors import UsageError
from hocket.log.base import Message, Write
from hocket.policy import Limits
from hocket.run import Entry
from hocket_schemas.envelope import Envelope


class Journals:
    """Reads and writes what runs remember."""

    def __init__(self, tenure: Tenure, committer: Committer, recall: Recall, limits: Limits) -> None:
        self._tenure = tenure
        self._committer = committer
        self._recall = recall
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

    def write(self, work: Work, i: int, entry: Entry) -> Write:
        """An entry as it will be stored. Raises UsageError for one that the log cannot take."""
        body, most = entry.to_json(), self._limits.event_bytes_max
        if len(body) > most:
            raise UsageError(f"{entry.name}: {len(body)} bytes to remember, the limit is {most}")
        return Write(f"{self.where(work)}.{i}", body, ttl=self._limits.journal_kept)

    async def record(self, work: Work, i: int, entry: Entry) -> None:
        """Put an entry into the handling's journal; returns when it is in the log. Raises what `write` raises."""
        written = self.write(work, i, entry)
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        transition = Transition(self._tenure, None, records=[written], single=True)
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

    async def record(self, i: int, entry: Entry) -> None:
        """See `hocket.run.Memory.record`."""
        await self.journals.record(self.work, i, entry)

    async def say(self, execution: int, text: str) -> None:
        """See `hocket.run.Memory.say`."""
        assert self.work.received is not None, "only an event that passed the gate is handled"
        await self.live.say(self.work.key, self.work.received.cause, execution, text)

    async def answers(self, types: Sequence[str]) -> Sequence[tuple[int, Envelope]]:
        """See `hocket.run.Memory.answers`."""
        return await self.replies.for_handler(self.work.key, types, self.work.seq)


def read(messages: Sequence[Message]) -> list[tuple[int, Entry]]:
    """A journal: entries with their numbers, in order."""
    return sorted((int(m.subject.rpartition(".")[2]), Entry.from_json(m.data)) for m in messages)
