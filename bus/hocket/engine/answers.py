"""Which runs an event is an answer to, and what a decision is worth when it comes."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from hocket.agent import Agent
from hocket.approval import judge
from hocket.engine.handling import Handling, read
from hocket.engine.recall import Recall
from hocket.engine.runs import Head, Parked
from hocket.errors import BadKey, MalformedEvent
from hocket.log.base import Log, Message, Write
from hocket.run import DONE, Entry
from hocket.subjects import Names, address
from hocket_schemas import gate
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested
from hocket_schemas.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Answer:
    """What an event that starts nothing by itself brings about."""

    runs: list[tuple[str, Head]] = field(default_factory=list)
    """The runs that go on."""

    events: list[Write] = field(default_factory=list)
    """What is said about it."""


class Answers:
    """Looks from events to the runs that wait for them, for one tenure."""

    def __init__(self, agent: Agent[Any], log: Log, handling: Handling, parked: Parked, recall: Recall) -> None:
        self._agent = agent.name
        self._handled = frozenset(agent.handlers)
        self._log = log
        self._handling = handling
        self._parked = parked
        self._recall = recall
        self._names = Names(log.domain, log.shard)

    def is_answer(self, message: Message) -> bool:
        """Whether an event starts nothing by itself: no handler takes its type, so it came for runs that wait."""
        return message.subject.split(".", 7)[-1] not in self._handled

    async def to(self, message: Message) -> Answer:
        """The runs of the key that wait for the event. Raises MalformedEvent and NotFound for what is no event."""
        where = address(message.subject)
        envelope = read(message)
        if envelope.type != where.type:
            raise MalformedEvent(f"type {envelope.type!r} does not belong under {message.subject!r}")
        waiting = self._parked.of_key(where.key, envelope.type)
        if envelope.type != ApprovalDecided.event_type:
            return Answer(waiting)
        decided = gate.event_of(envelope, ApprovalDecided)
        about = [(run, head) for run, head in waiting if _asks(head, decided.approval)]
        refusal = await self._refusal(message, where.key, decided, [head for _, head in about])
        if refusal is None:
            return Answer(about)
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

    async def _refusal(
        self, message: Message, key: str, decided: ApprovalDecided, asking: Sequence[Head]
    ) -> str | None:
        """Why a decision counts for nothing; None when it counts."""
        for head in asking:
            request = ApprovalRequested.model_validate(head.approval)
            found = await self.since(key, [ApprovalDecided.event_type], head.seq)
            earlier = [_decided(envelope) for seq, envelope in found if seq <= message.seq]
            return judge(request, [d for d in earlier if d and d.approval == decided.approval])[1][-1]
        try:
            journal = self._names.journal(self._agent, key, decided.approval.rpartition(".")[0])
        except BadKey:  # no run of ours is called so
            return f"nothing waits for a decision on {decided.approval!r}"
        for entry in map(Entry.from_json, [m.data for m in await self._recall.read(f"{journal}.*")]):
            if entry.key == decided.approval and entry.phase == DONE:
                by = f" by {', '.join(entry.result['by'])}" if entry.result["by"] else ""
                return f"it was decided before: {entry.result['option']}{by}"
        return f"nothing waits for a decision on {decided.approval!r}"


def _asks(head: Head, approval: str) -> bool:
    return head.approval is not None and head.approval["approval"] == approval


def _decided(envelope: Envelope) -> ApprovalDecided | None:
    try:
        return gate.event_of(envelope, ApprovalDecided)
    except MalformedEvent:
        return None
