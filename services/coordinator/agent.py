"""The coordinator follows every saga from its start to its end, or to its deadline. It watches; it never routes."""

from collections.abc import Awaitable, Callable
from typing import Literal

from pydantic import BaseModel

from hocket import Agent, Context, Event, Saga
from hocket_schemas import catalog
from hocket_schemas.runtime import SagaCompleted, SagaExpired, SagaFailed
from hocket_schemas.sagas import declared


class Following(BaseModel):
    """What is known of the sagas of one key."""

    sagas: dict[str, Literal["running", "completed", "failed", "expired"]] = {}
    """By saga id and policy, `{id}/{policy}`."""


coordinator = Agent("coordinator", state=Following, version="1")


def follow(policy: Saga) -> None:
    """Handle the events that mean something to one policy."""
    coordinator.on(policy.starts, emits=[SagaExpired])(_starts(policy))
    coordinator.on(policy.done, emits=[SagaCompleted])(_ends(policy, failed=False))
    for failure in policy.fails:
        coordinator.on(failure, emits=[SagaFailed])(_ends(policy, failed=True))


def _starts(policy: Saga) -> Callable[..., Awaitable[None]]:
    async def watch(event: Event, ctx: Context[Following]) -> None:
        """Note the start, and look again when the deadline has passed."""
        name = f"{ctx.saga}/{policy.name}"
        ctx.state.sagas.setdefault(name, "running")
        await ctx.sleep(policy.deadline)
        if ctx.state.sagas.get(name) == "running":
            ctx.state.sagas[name] = "expired"
            missing = [wanted.event_type for wanted in (policy.done, *policy.fails)]
            deadline_s = policy.deadline.total_seconds()
            ctx.emit(SagaExpired(name=policy.name, saga=ctx.saga, deadline_s=deadline_s, missing=missing))

    return watch


def _ends(policy: Saga, *, failed: bool) -> Callable[..., Awaitable[None]]:
    async def end(event: Event, ctx: Context[Following]) -> None:
        """Note the end. Only the first end counts, and one without a start is none of ours."""
        name = f"{ctx.saga}/{policy.name}"
        if ctx.state.sagas.get(name) != "running":
            return
        ctx.state.sagas[name] = "failed" if failed else "completed"
        if failed:
            ctx.emit(SagaFailed(name=policy.name, saga=ctx.saga, ended_by=ctx.envelope.id, failure=ctx.envelope.type))
        else:
            ctx.emit(SagaCompleted(name=policy.name, saga=ctx.saga, ended_by=ctx.envelope.id))

    return end


catalog.discover()
for _policy in declared():
    follow(_policy)
