"""The coordinator follows every saga to its end, and has undone what must be undone. It watches; it never routes."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from hocket import Agent, Context, Event, Saga
from hocket.errors import WaitExpired
from hocket.saga.record import COORDINATOR, Asked, Record, Said, Sent
from hocket_schemas import catalog
from hocket_schemas.cancels import CancelRequested, RunCancelled
from hocket_schemas.children import AbortRequested, ChildEnded, ChildStarted
from hocket_schemas.limits import LimitExceeded
from hocket_schemas.runtime import (
    HandlingExhausted,
    SagaCancelled,
    SagaCompensated,
    SagaCompleted,
    SagaExpired,
    SagaFailed,
    SagaStuck,
)
from hocket_schemas.sagas import Link, declared
from hocket_schemas.undoing import (
    EffectDone,
    EffectUndone,
    UndoAwaited,
    UndoDecided,
    UndoFailed,
    UndoRequested,
)

RECORD_KEPT = timedelta(days=400)
"""How long a saga is remembered of which nothing more is heard."""

SAYS: list[type[Event]] = [
    *(SagaCompleted, SagaFailed, SagaCancelled, SagaExpired, SagaCompensated, SagaStuck),
    *(CancelRequested, UndoRequested, ChildEnded, LimitExceeded),
]

E = TypeVar("E", bound=Event)

coordinator = Agent(COORDINATOR, state=Record, version="3", state_kept=RECORD_KEPT, heeds_cancels=False)


def hear(event: type[E], take: Callable[[Record, E, Context[Record]], Sequence[Said]]) -> None:
    """Have the saga's record take an event, and say what follows."""

    async def handle(event: E, ctx: Context[Record]) -> None:
        if at_home(event, ctx):
            heed(ctx, lambda: take(ctx.state, event, ctx))

    coordinator.on(event, emits=SAYS)(handle)


def heed(ctx: Context[Record], take: Callable[[], Sequence[Said]]) -> None:
    """Let something be taken, and say what follows; with the end of a saga its deadline ends."""
    running = ctx.state.phase == "running"
    say(ctx, take())
    if running and ctx.state.phase != "running":
        ctx.dismiss()


def at_home(event: Event, ctx: Context[Record]) -> bool:
    """Whether this is the saga's own key, where its record is; an event of another key is sent on to it."""
    saga = event.saga if isinstance(event, CancelRequested) else ctx.saga
    if saga is None:
        return False  # only a key or a run is to be cancelled, no saga
    if ctx.key != saga:
        # A request that was published as part of its saga is a copy for another shard, and is at home as well.
        if not (isinstance(event, CancelRequested) and ctx.saga == saga):
            ctx.emit(event, key=saga, saga=saga, to=ctx.agent)
        return False
    if not ctx.state.saga:
        # What is heard first decides: a saga that somebody else started is nobody's child afterwards.
        parent = event.parent if isinstance(event, AbortRequested) else ctx.envelope.hkparent
        ctx.state.saga, ctx.state.parent = saga, parent or ""
    return True


def say(ctx: Context[Record], facts: Sequence[Said]) -> None:
    """Publish what follows; a request for an undo goes to the agent that did the effect, and to nobody else."""
    for fact in facts:
        if isinstance(fact, Sent):
            if ctx.name_at_home(fact.saga) == fact.saga:  # nobody's child can have a parent on another shard
                to = ctx.agent if isinstance(fact.event, AbortRequested) else None
                ctx.emit(fact.event, key=fact.saga, saga=fact.saga, to=to)
        elif isinstance(fact, Asked):
            ctx.state.awaits(fact, ctx.now().timestamp())
            ctx.emit(fact.event, to=fact.to)
        else:
            ctx.emit(fact)
    if ctx.state.due_s is not None and not ctx.state.watched:
        ctx.state.watched = True
        ctx.emit(UndoAwaited(due_s=ctx.state.due_s), to=ctx.agent)


async def look_after(event: UndoAwaited, ctx: Context[Record]) -> None:
    """Wait until all that was asked for is answered, or has not been in time."""
    now_s = ctx.now().timestamp()
    with suppress(WaitExpired):
        await ctx.wait(SagaCompensated, SagaStuck, timeout=max(0.0, event.due_s - now_s))
    ctx.state.watched = False
    say(ctx, ctx.state.overdue(ctx.now().timestamp()))


async def watch(policy: Saga, ctx: Context[Record]) -> None:
    """Look whether the time is up, or whether nothing was heard for too long; and when to look again."""
    now_s = ctx.now().timestamp()
    quiet_s = policy.quiet.total_seconds() if policy.quiet else math.inf
    next_s = now_s + quiet_s
    if not ctx.reminded:
        ctx.state.deadline_s = now_s + policy.deadline.total_seconds()
    elif now_s >= ctx.state.deadline_s:
        say(ctx, ctx.state.expires(policy))
    elif (pulse := await ctx.pulse()) is not None:
        since_s = pulse.at.timestamp()
        say(ctx, ctx.state.silent(policy, since_s, pulse.what, now_s))
        if now_s - since_s < quiet_s:
            next_s = since_s + quiet_s
    if ctx.state.phase == "running":
        ctx.remind(min(next_s, ctx.state.deadline_s) - now_s)


def link_of(started: ChildStarted) -> Link:
    """What a child has to do with its parent. For one that no policy ends nobody waits."""
    policy = next((policy for policy in _policies if policy.starts.event_type == started.starts), None)
    link = started.link or (policy.link if policy else "cascade")
    return "cascade" if policy is None and link == "wait" else link


def follow(event_type: type[Event], policies: Sequence[Saga]) -> None:
    """Handle an event that means something to some policies: a start to one, an end to any."""
    begun = next((policy for policy in policies if policy.starts is event_type), None)

    def end(record: Record, ctx: Context[Record]) -> list[Said]:
        facts: list[Said] = []
        for policy in policies:
            if policy.done is event_type:
                facts += record.done(policy, ctx.envelope.id)
            elif event_type in policy.fails:
                facts += record.fails(policy, ctx.envelope.id, ctx.envelope.type)
        return facts

    async def handle(event: Event, ctx: Context[Record]) -> None:
        """Note a start or an end; of a start, look again when the deadline has passed."""
        if not at_home(event, ctx):
            return
        if not ctx.reminded:
            heed(ctx, lambda: end(ctx.state, ctx))
        if begun is None or not ctx.state.starts(begun, ctx.envelope.id):
            return
        # What was begun with a watch goes on with it, also without `quiet`: its reminders come before its deadline.
        if ctx.state.deadline_s if ctx.reminded else begun.quiet is not None:
            await watch(begun, ctx)
        elif ctx.reminded:
            say(ctx, ctx.state.expires(begun))
        else:
            ctx.remind(begun.deadline)

    coordinator.on(event_type, emits=SAYS)(handle)


catalog.discover()
_policies = declared()
for _event in dict.fromkeys(event for policy in _policies for event in (policy.starts, policy.done, *policy.fails)):
    follow(_event, _policies)
coordinator.on(UndoAwaited, emits=SAYS, waits=[SagaCompensated, SagaStuck])(look_after)
hear(EffectDone, lambda record, event, _: record.effect_done(event))
hear(EffectUndone, lambda record, event, _: record.effect_undone(event))
hear(UndoFailed, lambda record, event, _: record.undo_failed(event))
hear(UndoDecided, lambda record, event, _: record.decided(event))
hear(ChildStarted, lambda record, event, _: record.child_started(event, link_of(event)))
hear(ChildEnded, lambda record, event, ctx: record.child_ended(event, ctx.envelope.id))
hear(AbortRequested, lambda record, event, _: record.abort_requested(event))
hear(RunCancelled, lambda record, event, _: record.run_cancelled(event))
hear(LimitExceeded, lambda record, event, ctx: record.over_budget(event, ctx.envelope.id))
hear(CancelRequested, lambda record, event, _: record.cancelled(event))
hear(HandlingExhausted, lambda record, event, ctx: record.exhausted(event, ctx.envelope.id))
