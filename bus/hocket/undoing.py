"""How an agent undoes an effect of its own that an aborted saga wants undone."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from hocket.blob import Blob
from hocket.calls import typed, typed_arguments, within
from hocket.context import Context
from hocket.effect import Effect, takes_key
from hocket.errors import ResultLost, StepFailed, UsageError
from hocket.guarding import guarded
from hocket_schemas.undoing import EffectUndone, UndoFailed, UndoRequested


def undoing(
    effects: Mapping[str, Effect[Any, Any]],
) -> Callable[[UndoRequested, Context[Any]], Awaitable[EffectUndone | UndoFailed]]:
    """The handler of such requests, for an agent with these effects."""

    async def undo(asked: UndoRequested, ctx: Context[Any]) -> EffectUndone | UndoFailed:
        return await _answer(effects, asked, ctx)

    return undo


async def _answer(
    effects: Mapping[str, Effect[Any, Any]], asked: UndoRequested, ctx: Context[Any]
) -> EffectUndone | UndoFailed:
    """Find out whether the effect happened where nobody knows, then undo it, with retries.

    What the undo gets is what the effect was called with, and its real outcome. A failure for good is an answer too.
    """
    declared = effects.get(asked.effect)

    def failed(error: object) -> UndoFailed:
        return UndoFailed(effect=asked.effect, effect_key=asked.effect_key, agent=ctx.agent, error=str(error))

    def undone(*, happened: bool) -> EffectUndone:
        return EffectUndone(effect=asked.effect, effect_key=asked.effect_key, agent=ctx.agent, happened=happened)

    if declared is None:
        return failed(f"agent {ctx.agent} does not declare it any more")
    try:
        named = isinstance(asked.arguments, dict)
        given = orjson.loads(await _fetched(asked.arguments, ctx)) if named else asked.arguments
        arguments, keywords = typed_arguments(declared.function, given)
        if asked.unknown:
            outcome = await _find(declared, asked, ctx, arguments, keywords)
            if outcome is None and not declared.undoes_unseen:
                return undone(happened=False)
        else:
            outcome = typed(declared.function, await _fetched(asked.result, ctx) if asked.large else asked.result)
        if declared.undo_function is None:
            return failed("it happened, and it has no undo")
        await _undo(declared, asked, ctx, [*arguments, outcome], keywords)
    except (ResultLost, StepFailed, UsageError) as error:
        return failed(error)
    return undone(happened=not asked.unknown or outcome is not None)


async def _fetched(name: dict[str, Any], ctx: Context[Any]) -> bytes:
    """What was too large to be told. Raises ResultLost."""
    return await ctx.run.memory.fetch(Blob(**name))


async def _find(
    declared: Effect[Any, Any], asked: UndoRequested, ctx: Context[Any], arguments: list[Any], keywords: dict[str, Any]
) -> Any:
    """The outcome of a call that nobody saw the end of; None: it has not happened, or nobody can tell."""
    verify = declared.verify_function
    if verify is None and declared.undoes_unseen:
        return None
    if verify is None:
        raise UsageError("it is not known whether it happened, and it has no verify")
    given = keywords | ({"key": asked.effect_key} if takes_key(verify) else {})

    async def find() -> Any:
        async with guarded(ctx.run, ctx.process, declared, patient=True):
            return await within(declared.timeout_s, f"verify {declared.name}", verify(*arguments, **given))

    found = await ctx.step_with(find, step_name=f"verify {declared.name}", step_retry=declared.undo_retry)
    return None if found is None else typed(declared.function, found)


async def _undo(
    declared: Effect[Any, Any], asked: UndoRequested, ctx: Context[Any], arguments: list[Any], keywords: dict[str, Any]
) -> None:
    function = declared.undo_function
    assert function is not None, "whoever calls has looked"
    given = keywords | ({"key": asked.effect_key} if takes_key(function) else {})

    async def take_back() -> None:
        async with guarded(ctx.run, ctx.process, declared, patient=True):
            await within(declared.timeout_s, f"undo {declared.name}", function(*arguments, **given))

    await ctx.step_with(take_back, step_name=f"undo {declared.name}", step_retry=declared.undo_retry)
