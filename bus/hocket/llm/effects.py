"""Effects as tools: what a model has done outside is done once, and can be undone."""

import inspect
import typing
from typing import Any

from pydantic_ai import Tool

from hocket.effect import Effect
from hocket.errors import UsageError
from hocket.llm.durability import METADATA, POLLS
from hocket.llm.errors import UnguardedTool
from hocket.llm.inquiry import current

CLEARED = "hocket_cleared_before"
"""The key of a tool's metadata that names its effect, where something has to clear it before: `hocket check` looks."""


def effect_tool(
    effect: Effect[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    requires_approval: bool = False,
    cleared_before: bool = False,
) -> Tool[Any]:
    """A tool that does an effect, as `ctx.step` would: intent before the call, verified after a crash, undone at need.

    The model is shown the effect's signature without `key`, and its docstring. Effects that a model asks for together
    happen one after the other, in its order, so that they are undone in the reverse of it. Calling the tool raises
    UsageError where the agent is not asked by `ask_model`.

    A model does what it is told, by whomever. So an irreversible effect has each call approved, or says that an
    approval or a pivot is `cleared_before` the agent is asked, which the runtime sees to; otherwise UnguardedTool.
    """
    if effect.irreversible and not (requires_approval or cleared_before):
        raise UnguardedTool(effect.name)

    async def call(**arguments: Any) -> Any:
        inquiry = current()
        if inquiry is None:
            raise UsageError(f"effect {effect.name} belongs to a run; ask the agent by ask_model, in a handler")
        return await inquiry.context.step(effect, **arguments)

    irreversible = effect.name if effect.irreversible else None
    signature = inspect.signature(effect.function)
    hints = typing.get_type_hints(effect.function, include_extras=True)
    shown = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints.get(parameter.name, Any))
        for parameter in signature.parameters.values()
        if parameter.name != "key"
    ]
    call.__name__ = effect.function.__name__
    call.__qualname__ = effect.name
    call.__doc__ = effect.function.__doc__
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    call.__annotations__["return"] = hints.get("return", Any)
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]  # functions may have one
        parameters=shown, return_annotation=hints.get("return", Any)
    )
    return Tool(
        call,
        takes_ctx=False,
        name=name,
        description=description,
        sequential=True,
        requires_approval=requires_approval,
        metadata={METADATA: False, POLLS: effect.polls, CLEARED: None if requires_approval else irreversible},
    )
