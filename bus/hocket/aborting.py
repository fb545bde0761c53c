"""How an agent learns that a saga was undone that its state knows of: once for each of its actors that took part."""

from typing import Any

from hocket.context import Context
from hocket_schemas.runtime import SagaAborted, SagaCompensated

TOLD_MAX = 500
"""So many actors are told in one append; the rest in further ones."""


async def spread(ended: SagaCompensated, ctx: Context[Any]) -> None:
    """Tell each actor of this agent whose state has taken part, and was not told before."""
    keys = await ctx.run.memory.untold()
    for key in keys[:TOLD_MAX]:
        told = SagaAborted(
            name=ended.name, saga=ended.saga, reason=ended.reason, undone=ended.undone, skipped=ended.skipped
        )
        ctx.emit(told, key=key, to=ctx.agent)
    if len(keys) > TOLD_MAX:
        ctx.emit(ended, to=ctx.agent)
