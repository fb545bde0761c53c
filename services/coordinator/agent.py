"""The coordinator follows every saga to its end, and has undone what must be undone. It watches; it never routes."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from hocket import Agent, Context, Event, Saga
from hocket.errors import WaitExpired
from hocket.saga.record import COORDINATOR, Asked, Record
from hocket_schemas import catalog
from hocket_schemas.cancels import CancelRequested, RunCancelled
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
from hocket_schemas.sagas import declared
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
    *(CancelRequested, UndoRequested),
]

E = TypeVar("E", bound=Event)

coordinator = Agent(COORDINATOR, state=Record, version="3", state_kept=RECORD_KEPT, heeds_cancels=False)


def hear(event: type[E], take: Callable[[Record, E, Context[Record]], Sequence[Event | Asked]]) -> None:
    """Have the saga's record take an event, and say what follows."""

    async def handle(event: E, ctx: Context[Record]) -> None:
        if at_home(event, ctx):
            running = ctx.state.phase == "running"
            say(ctx, take(ctx.state, event, ctx))
            if running and ctx.state.phase != "running":
                ctx.dismiss()  # the deadline does not matter any more

    coordinator.on(event, emits=SAYS)(handle)


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
        ctx.state.saga, ctx.state.parent = saga, ctx.envelope.hkparent or ""
    return True


def say(ctx: Context[Record], facts: Sequence[Event | Asked]) -> None:
    """Publish what follows; a request for an undo goes to the agent that did the effect, and to nobody else."""
    for fact in facts:
        if isinstance(fact, Asked):
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


def follow(policy: Saga) -> None:
    """Handle the events that mean something to one policy."""

    async def watch(event: Event, ctx: Context[Record]) -> None:
        """Note the start, and look again when the deadline has passed."""
        if not at_home(event, ctx) or not ctx.state.starts(policy, ctx.envelope.id):
            return
        if ctx.reminded:
            say(ctx, ctx.state.expires(policy))
        else:
            ctx.remind(policy.deadline)

    coordinator.on(policy.starts, emits=SAYS)(watch)
    hear(policy.done, lambda record, _, ctx: record.done(policy, ctx.envelope.id))
    for failure in policy.fails:
        hear(failure, lambda record, _, ctx: record.fails(policy, ctx.envelope.id, ctx.envelope.type))


catalog.discover()
for _policy in declared():
    follow(_policy)
coordinator.on(UndoAwaited, emits=SAYS, waits=[SagaCompensated, SagaStuck])(look_after)
hear(EffectDone, lambda record, event, _: record.effect_done(event))
hear(EffectUndone, lambda record, event, _: record.effect_undone(event))
hear(UndoFailed, lambda record, event, _: record.undo_failed(event))
hear(UndoDecided, lambda record, event, _: record.decided(event))
hear(RunCancelled, lambda record, event, _: record.run_cancelled(event))
hear(LimitExceeded, lambda record, event, ctx: record.over_budget(event, ctx.envelope.id))
hear(CancelRequested, lambda record, event, _: record.cancelled(event))
hear(HandlingExhausted, lambda record, event, ctx: record.exhausted(event, ctx.envelope.id))
