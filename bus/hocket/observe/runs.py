"""What open runs wait for, what they asked people, and what effects did: read from heads and journals."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from hocket.approval import judge
from hocket.client import Bus
from hocket.engine.cancels import told
from hocket.engine.runs import Head
from hocket.errors import DecisionRefused, MalformedEvent, NotFound
from hocket.run import BEGUN, CANCEL, DONE, EFFECT, PARKED, UNDONE, VOID, Entry
from hocket.subjects import Names, tokens_of
from hocket_schemas import gate
from hocket_schemas.approvals import ApprovalDecided, ApprovalEscalated, ApprovalRequested
from hocket_schemas.envelope import Envelope

STATES = {BEGUN: "unknown", PARKED: "parked", VOID: "not done", DONE: "done", UNDONE: "undone"}


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has not ended."""

    run: str
    agent: str
    key: str
    shard: int
    head: Head

    @property
    def request(self) -> ApprovalRequested | None:
        """What it asks people; None: nothing."""
        return ApprovalRequested.model_validate(self.head.approval) if self.head.approval else None


@dataclass(frozen=True, slots=True)
class EffectDone:
    """One effect of one run, as its journal has it last."""

    name: str
    agent: str
    key: str
    """The actor's."""

    saga: str
    run: str
    state: str
    """`unknown` (its intent is in the log, its outcome is not), `parked`, `not done`, `failed`, `done` or `undone`."""

    at: str
    idempotency_key: str
    arguments: Any
    result: Any
    error: str


async def open_runs(bus: Bus) -> AsyncIterator[OpenRun]:
    """Every run that has not ended, in the order of its last change."""
    for shard, log in enumerate(bus.logs):
        async with aclosing(log.scan([Names(bus.domain, shard).all_runs])) as messages:
            async for message in messages:
                if message.data:
                    _, agent, key, run = tokens_of(message.subject)
                    yield OpenRun(run, agent, key, shard, Head.from_json(message.data))


async def asking(bus: Bus, approval: str) -> OpenRun:
    """The run that waits for a decision. Raises NotFound, and DecisionRefused when the run was cancelled."""
    async for run in open_runs(bus):
        if run.request is not None and run.request.approval == approval:
            return run
    token = approval.rpartition(".")[0]
    for shard, log in enumerate(bus.logs if token else ()):
        async with aclosing(log.scan([Names(bus.domain, shard).journals_of_run(token)])) as messages:
            async for message in messages:
                entry = Entry.from_json(message.data)
                if entry.kind == CANCEL:
                    raise DecisionRefused(f"its run was {told(entry.result['by'], entry.result['reason'])}")
    raise NotFound(f"nothing waits for a decision on {approval!r}")


async def decide(bus: Bus, run: OpenRun, decision: ApprovalDecided, *, event_id: str | None = None) -> None:
    """Send a decision to the agent that waits for it, as an answer to the event that asked.

    Raises DecisionRefused when it would count for nothing. Another one may still come first: then the agent
    says so with an event. With an `event_id` of your own, sending it again is harmless.
    """
    request = run.request
    assert request is not None, "the run asks nobody"
    names = Names(bus.domain, run.shard)
    asked = names.events_of_key(run.key, ApprovalRequested.event_type)
    escalated = names.events_of_key(run.key, ApprovalEscalated.event_type)
    answered = names.commands_of_key(run.agent, run.key, ApprovalDecided.event_type)
    said: list[ApprovalDecided | ApprovalEscalated] = []
    question: Envelope | None = None
    async with aclosing(bus.logs[run.shard].scan([asked, escalated, answered], start=run.head.seq)) as messages:
        async for message in messages:
            try:
                envelope = gate.read(message.data, None, message.headers)
                match gate.event_of(envelope):
                    case ApprovalRequested(approval=request.approval):
                        question = envelope
                    case (
                        ApprovalDecided(approval=request.approval) | ApprovalEscalated(approval=request.approval)
                    ) as earlier:
                        said.append(earlier)
            except MalformedEvent:
                continue
    refusal = judge(request, [*said, decision])[1][-1]
    if refusal is not None:
        raise DecisionRefused(refusal)
    saga, cause = (question.correlationid, question.id) if question else (None, None)
    await bus.command(decision, to=run.agent, key=run.key, saga=saga, cause=cause, event_id=event_id)


async def effects(bus: Bus, saga: str | None = None) -> list[EffectDone]:
    """Every effect that journals hold, of one saga or of all, in the order of their first entry."""
    found: dict[tuple[str, str, str, str, int], EffectDone] = {}
    for shard, log in enumerate(bus.logs):
        async with aclosing(log.scan([Names(bus.domain, shard).all_journals])) as messages:
            async for message in messages:
                entry = Entry.from_json(message.data)
                if entry.kind == EFFECT and saga in (None, entry.saga):
                    _, agent, key, run, _ = tokens_of(message.subject)
                    place = (agent, key, run, entry.name, entry.occurrence)
                    found[place] = _effect(entry, agent, key, run)
    return list(found.values())


def _effect(entry: Entry, agent: str, key: str, run: str) -> EffectDone:
    return EffectDone(
        name=entry.name,
        agent=agent,
        key=key,
        saga=entry.saga,
        run=run,
        state="failed" if entry.error else STATES[entry.phase],
        at=entry.at,
        idempotency_key=entry.key,
        arguments=entry.arguments,
        result=entry.result,
        error=": ".join(entry.error) if entry.error else "",
    )


__all__ = ["EffectDone", "OpenRun", "asking", "decide", "effects", "open_runs"]
