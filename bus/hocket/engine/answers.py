"""Which runs an event is an answer to, and what a decision is worth when it comes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from hocket.agent import Agent
from hocket.approval import EXPIRED, SAID, judge
from hocket.asking import said_on
from hocket.engine.cancels import REQUESTED, Cancel, told
from hocket.engine.handling import Handling, read
from hocket.engine.holds import WORDS, read_word
from hocket.engine.recall import Recall
from hocket.engine.runs import Head, Parked
from hocket.errors import BadKey, MalformedEvent
from hocket.forgotten import is_tombstone
from hocket.log.base import Log, Message, Write
from hocket.run import CANCEL, DONE, Entry
from hocket.subjects import Address, Names, address, type_of
from hocket_schemas import gate
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested
from hocket_schemas.cancels import CancelRequested
from hocket_schemas.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Answer:
    """What an event that starts nothing by itself brings about."""

    runs: list[tuple[str, Head]] = field(default_factory=list)
    """The runs that go on."""

    decisions: Sequence[tuple[int, Envelope]] = ()
    """What was said of an approval until it was decided: all that counts, since nothing after it does."""

    events: list[Write] = field(default_factory=list)
    """What is said about it."""


class Answers:
    """Looks from events to the runs that wait for them, for one tenure."""

    def __init__(
        self,
        agent: Agent[Any],
        log: Log,
        handling: Handling,
        parked: Parked,
        recall: Recall,
        caught_up: Callable[[], Awaitable[None]],
        ending: Mapping[str, Cancel],
    ) -> None:
        self._agent = agent.name
        self._handled = agent.handled
        self._log = log
        self._handling = handling
        self._parked = parked
        self._recall = recall
        self._caught_up = caught_up
        self._ending = ending
        self._names = Names(log.domain, log.shard)

    def is_answer(self, message: Message, where: Address | None) -> bool:
        """Whether an event starts nothing by itself: no handler takes its type, so it came for runs that wait.

        `where` is what its subject says, if it is that of an event.
        """
        named = where.type if where is not None else type_of(message.subject)
        return named not in self._handled or is_tombstone(message)

    async def to(self, message: Message) -> Answer:
        """The runs of the key that wait for the event. Raises MalformedEvent and NotFound for what is no event."""
        if is_tombstone(message):
            return Answer()
        where = address(message.subject)
        envelope = read(message)
        if envelope.type != where.type:
            raise MalformedEvent(f"type {envelope.type!r} does not belong under {message.subject!r}")
        if envelope.type == REQUESTED:
            gate.event_of(envelope, CancelRequested)
        if envelope.type in WORDS:
            read_word(message)
        if envelope.type != ApprovalDecided.event_type:
            return Answer(self._parked.of_key(where.key, envelope.type))
        decided = gate.event_of(envelope, ApprovalDecided)
        run = self._run(where.key, decided.approval)
        head = self._parked.asking(run, decided.approval) if run else None
        if run is None or head is None:
            refusal = await self._why_nothing_asks(where.key, decided.approval, message.seq)
            if refusal is None:
                return Answer()
        else:
            made: list[tuple[int, Envelope]] = [(message.seq, envelope)]
            wider = bool(head.approval.escalate_to)
            if head.approval.quorum > 1 or wider or self._parked.woken(run):
                found = await self.since(where.key, SAID if wider else SAID[:1], head.seq)
                made = [(seq, other) for seq, other in found if seq <= message.seq]
            outcome, refusals = judge(head.approval, said_on(decided.approval, made))
            if refusals[-1] is None:
                return Answer([(run, head)] if outcome else [], decisions=made)
            refusal = refusals[-1]
        return Answer(events=[self._handling.refused(message, envelope, decided, refusal)])

    async def since(self, key: str, types: Sequence[str], seq: int) -> list[tuple[int, Envelope]]:
        """The key's events and the agent's commands of some types from a sequence on; what is no event is left out."""
        filters = [self._names.events_of_key(key, name) for name in types]
        filters += [self._names.commands_of_key(self._agent, key, name) for name in types]
        found: list[tuple[int, Envelope]] = []
        async with aclosing(self._log.scan(filters, start=seq)) as messages:
            async for message in messages:
                try:
                    found.append((message.seq, read(message)))
                except MalformedEvent:
                    continue
        return found

    async def for_handler(self, key: str, types: Sequence[str], seq: int) -> list[tuple[int, Envelope]]:
        """The same on a handler's behalf: a log that does not answer is no failure of the handler's."""
        return await self._handling.unless_interrupted(self.since(key, types, seq))

    def _run(self, key: str, approval: str) -> str | None:
        """The subject of the head of the run that an approval belongs to; None when no run can be called so."""
        try:
            return self._names.run(self._agent, key, approval.rpartition(".")[0])
        except BadKey:
            return None

    async def _why_nothing_asks(self, key: str, approval: str, seq: int) -> str | None:
        """Why a decision counts for nothing on which no run waits; None: it did count, and is delivered again."""
        run = approval.rpartition(".")[0]
        head = self._run(key, approval)
        if head is not None:
            if head in self._ending:
                return f"its run is {self._ending[head]}"
            await self._caught_up()  # the run may have ended just now
            found = await self._recall.read(f"{self._names.journal(self._agent, key, run)}.*")
            entries = [Entry.from_json(message.data) for message in found]
            for entry in entries:
                if entry.key == approval and entry.phase == DONE:
                    if entry.result["option"] != EXPIRED and await self._counted(key, entry, seq):
                        return None
                    by = f" by {', '.join(entry.result['by'])}" if entry.result["by"] else ""
                    return f"it was decided before: {entry.result['option']}{by}"
            for entry in entries:
                if entry.kind == CANCEL:
                    return f"its run was {told(entry.result['by'], entry.result['reason'])}"
        return f"nothing waits for a decision on {approval!r}"

    async def _counted(self, key: str, decided: Entry, seq: int) -> bool:
        """Whether a decision was one of those that an approval was decided by.

        A run whose time comes right after a crash finds it in the log before it is delivered again.
        """
        asked = ApprovalRequested.model_validate(decided.arguments)
        found = await self.since(key, SAID, 1)
        _, refusals = judge(asked, said_on(decided.key, [made for made in found if made[0] <= seq]))
        return refusals[-1:] == [None]
