"""The sagas in the log: what started each, where it stands, and how it ended."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pydantic import ValidationError

from hocket.client import Bus
from hocket.clock import rfc3339, utc
from hocket.observe.fact import Fact, fact_of
from hocket.saga.record import COORDINATOR, Record
from hocket.subjects import Names, shard_of
from hocket_schemas.children import ChildEnded, ChildStarted
from hocket_schemas.limits import LimitExceeded
from hocket_schemas.moment import datetime_of
from hocket_schemas.runtime import SagaCancelled, SagaCompensated, SagaCompleted, SagaExpired, SagaFailed, SagaStuck
from hocket_schemas.sagas import Saga


class SagaState(StrEnum):
    """How a saga stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    """Not undone yet; so for the next two."""

    EXPIRED = "expired"
    """Its deadline passed before it ended."""

    CANCELLED = "cancelled"
    COMPENSATED = "compensated"
    """Whatever it did outside is undone."""

    STUCK = "stuck"
    """A person has to decide."""

    OPEN = "open"
    """No policy says when it ends."""


_SAID = {
    SagaCompleted.event_type: SagaState.COMPLETED,
    SagaFailed.event_type: SagaState.FAILED,
    SagaExpired.event_type: SagaState.EXPIRED,
    SagaCancelled.event_type: SagaState.CANCELLED,
}

_THEN = {
    SagaCompensated.event_type: SagaState.COMPENSATED,
    SagaStuck.event_type: SagaState.STUCK,
    SagaCompleted.event_type: SagaState.COMPLETED,
}
"""What becomes of one in the end; the newest word counts. One that is stuck at a pivot may still complete."""


@dataclass(frozen=True, slots=True)
class SagaLine:
    """One saga, in one line."""

    id: str
    name: str | None
    """Of its policy; None when no policy starts with any of its events."""

    state: SagaState
    started: str
    """When its first event was stored, RFC 3339."""

    deadline: str | None
    last: str
    """When its newest event was stored."""

    last_type: str
    last_id: str
    events: int
    ended_by: str | None
    """The id of the event that ended it."""

    reason: str = ""
    """Why it was undone, or is stuck."""

    quiet_since: str | None = None
    """Since when nothing was heard of it, if that is longer than its policy allows, and it runs."""

    last_heard: str = ""
    """Then: what was heard last."""

    parent: str | None = None
    """The saga that started it."""

    children: tuple["Child", ...] = ()
    """The sagas that it has started, in log order."""


@dataclass(frozen=True, slots=True)
class Child:
    """A saga that another one has started, as that one knows it."""

    id: str
    starts: str
    """The type of its first event."""

    state: str = "started"
    """The newest that it has told: `completed`, `compensated` or `stuck`."""

    reason: str = ""


@dataclass(slots=True)
class _Fold:
    """What is known of one saga after some of its events."""

    started: str
    newest: Fact
    events: int = 0
    ends: list[Fact] = field(default_factory=list)
    then: Fact | None = None
    quiet: Fact | None = None
    parent: str | None = None
    children: dict[str, Child] = field(default_factory=dict)
    policy: Saga | None = None


def fold(policies: Sequence[Saga], facts: Iterable[Fact], now_s: float) -> list[SagaLine]:
    """Every saga that the facts speak of, the one that started last first.

    Facts come in log order, shard after shard. What the runtime says about a saga counts as much as the
    event that its policy names; the first of them decides, and later ones change nothing.
    """
    by_start = {policy.starts.event_type: policy for policy in policies}
    ends = {event.event_type for policy in policies for event in (policy.done, *policy.fails)} | set(_SAID)
    folds: dict[str, _Fold] = {}
    for fact in facts:
        known = folds.setdefault(fact.saga, _Fold(fact.stored, fact))
        known.events += 1
        known.started = min(known.started, fact.stored)
        if fact.stored >= known.newest.stored:
            known.newest = fact
        known.parent = known.parent or fact.parent
        _hear_of_children(known.children, fact)
        known.policy = known.policy or by_start.get(fact.type)
        if fact.type in ends:
            known.ends.append(fact)
        if fact.type in _THEN:
            known.then = fact
        if fact.publisher != COORDINATOR or _is_quiet(fact):
            known.quiet = fact if fact.publisher == COORDINATOR else None
    lines = [_line(saga, known, now_s) for saga, known in folds.items()]
    return sorted(lines, key=lambda line: (line.started, line.id), reverse=True)


async def facts_in(bus: Bus, saga: str | None = None) -> AsyncIterator[Fact]:
    """The events of a domain, or those of one saga, in log order, shard after shard."""
    async for delivery in bus.read():
        fact = fact_of(delivery)
        if saga is None or fact.saga == saga:
            yield fact


async def record_of(bus: Bus, saga: str) -> Record | None:
    """What the coordinator knows of a saga; None: nothing, or no coordinator was ever there."""
    shard = shard_of(saga, bus.shards)
    message = await bus.logs[shard].last(Names(bus.domain, shard).actor(COORDINATOR, saga))
    try:
        return Record.model_validate_json(message.data) if message else None
    except ValidationError:
        return None  # of another version


def _line(saga: str, known: _Fold, now_s: float) -> SagaLine:
    policy = known.policy
    state, ended_by = SagaState.OPEN, None
    deadline = datetime_of(known.started) + policy.deadline if policy else None
    # With children the coordinator alone can tell: the end may have to wait for theirs.
    ends = [fact for fact in known.ends if fact.type in _SAID or not known.children]
    for fact in sorted(ends, key=lambda fact: fact.stored):
        said = _SAID.get(fact.type) or (_meaning(policy, fact.type) if policy else None)
        if said:
            state, ended_by = said, fact.id
            break
    else:
        if deadline is not None:
            state = SagaState.EXPIRED if utc(now_s) > deadline else SagaState.RUNNING
    if known.then is not None:
        state = _THEN[known.then.type]
    return SagaLine(
        id=saga,
        name=policy.name if policy else None,
        state=state,
        started=known.started,
        deadline=deadline.isoformat(timespec="milliseconds").replace("+00:00", "Z") if deadline else None,
        last=known.newest.stored,
        last_type=known.newest.type,
        last_id=known.newest.id,
        events=known.events,
        ended_by=ended_by,
        reason=str(known.then.data.get("reason", "")) if known.then and isinstance(known.then.data, dict) else "",
        **(_silence(known.quiet) if known.quiet and state is SagaState.RUNNING else {}),
        parent=known.parent,
        children=tuple(known.children.values()),
    )


def _is_quiet(fact: Fact) -> bool:
    """Whether the coordinator says that nothing is heard of a saga."""
    return fact.type == LimitExceeded.event_type and isinstance(fact.data, dict) and fact.data.get("limit") == "quiet"


def _silence(fact: Fact) -> dict[str, str]:
    """Since when nothing is heard, and what was the last."""
    since_s = datetime_of(fact.stored).timestamp() - float(fact.data.get("count", 0.0))
    return {"quiet_since": rfc3339(since_s), "last_heard": str(fact.data.get("what", ""))}


def _hear_of_children(children: dict[str, Child], fact: Fact) -> None:
    """Take note of a child that began, or of how one stands."""
    if fact.type not in (ChildStarted.event_type, ChildEnded.event_type) or not isinstance(fact.data, dict):
        return
    child = str(fact.data.get("child"))
    if fact.type == ChildStarted.event_type:
        children.setdefault(child, Child(child, str(fact.data.get("starts"))))
    elif child in children:
        told = {"state": str(fact.data.get("state")), "reason": str(fact.data.get("reason", ""))}
        children[child] = replace(children[child], **told)


def _meaning(policy: Saga, event_type: str) -> SagaState | None:
    """What an event type means to a policy, as an end."""
    if event_type == policy.done.event_type:
        return SagaState.COMPLETED
    if event_type in {event.event_type for event in policy.fails}:
        return SagaState.FAILED
    return None


__all__ = ["Child", "SagaLine", "SagaState", "facts_in", "fold", "record_of"]
