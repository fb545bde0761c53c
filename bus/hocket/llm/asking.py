"""Asking a pydantic-ai agent within a handler."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from pydantic_ai import AgentRun, AgentRunResult, TextContent, UserContent, capture_run_messages
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.models import Model
from pydantic_ai.result import StreamedRunResult

from hocket.clock import utc
from hocket.context import Context
from hocket.errors import UsageError
from hocket.ids import fresh
from hocket.llm.durability import Durable
from hocket.llm.errors import ModelOutcome
from hocket.llm.hooks import Guard, Guarded
from hocket.llm.inquiry import Inquiry, within
from hocket.llm.live import Live, Moderator
from hocket.llm.outcomes import named

D = TypeVar("D")
O = TypeVar("O")  # noqa: E741 - an output


Prompt = str | TextContent | Sequence[UserContent] | None
"""What an agent is asked: a text, a filled `Template`, or several contents; None: whatever its history says."""


class _Begun(NamedTuple):
    id: str
    at_s: float


async def ask_model(
    ctx: Context[Any],
    agent: AbstractAgent[D, O],
    prompt: Prompt,
    *,
    name: str | None = None,
    guards: Sequence[Guard] = (),
    again: Mapping[type[ModelOutcome], int] | None = None,
    live: bool = False,
    moderator: Moderator | None = None,
    **options: Any,
) -> AgentRunResult[O]:
    """Run a pydantic-ai agent as part of a handler; what its models and tools have answered survives the process.

    Every request to a model is a step, every call of a tool a step or an effect, every tool that requires an approval
    waits as `ctx.approve` does, for as long as it takes. When the handler runs again all that is read from the journal.
    The prompt may be a filled `Template`: then the record of each call says of which template, passages and memories.
    `options` are those of `Agent.run`: `deps`, `message_history`, `usage_limits` and so on.

    Steps are named after `name`, the agent's unless given. Two chains of inquiries side by side, as in
    `asyncio.gather`, need different ones, since inquiries of one name are told apart by their order.

    `guards` are asked before each request and each call of a tool, see `Guarded`. Raises a ModelOutcome, such as
    Refused or InvalidAnswer, where it comes to no answer; `again` says how often it is asked anew after which of them.

    With `live` the text of each answer is streamed as `ctx.stream` does, while it comes; the model has to be one that
    streams. A `moderator` is shown what was said so far, and may cut the answer off: CutOff.
    """
    capabilities = [*(options.pop("capabilities", None) or ()), *([Guarded(*guards)] if guards else ())]
    if moderator is not None and not live:
        raise UsageError("a moderator hears what is live: ask_model(…, live=True)")
    ended = Counter[type[ModelOutcome]]()
    while True:
        given = {**options, "capabilities": capabilities}
        inquiry = await _begin(ctx, agent, name, given)
        if live:
            inquiry = replace(inquiry, live=Live(ctx, inquiry.asked, moderator))
        try:
            with _asking(inquiry):
                result: AgentRunResult[O] = await agent.run(_given(prompt), **given)
            return result
        except ModelOutcome as outcome:
            kind = next((kind for kind in again or {} if isinstance(outcome, kind)), None)
            if again is None or kind is None or ended[kind] == again[kind]:
                raise
            ended[kind] += 1


@asynccontextmanager
async def iter_model(
    ctx: Context[Any],
    agent: AbstractAgent[D, O],
    prompt: Prompt,
    *,
    name: str | None = None,
    **options: Any,
) -> AsyncIterator[AgentRun[D, O]]:
    """The same as `ask_model`, one node of the run after the other, as `Agent.iter` does: `async with`, `async for`."""
    inquiry = await _begin(ctx, agent, name, options)
    with _asking(inquiry):
        async with agent.iter(_given(prompt), **options) as run:
            yield run


@asynccontextmanager
async def stream_model(
    ctx: Context[Any],
    agent: AbstractAgent[D, O],
    prompt: Prompt,
    *,
    name: str | None = None,
    **options: Any,
) -> AsyncIterator[StreamedRunResult[D, O]]:
    """The same as `ask_model`, read as `Agent.run_stream` has it.

    What is streamed has been answered in full before, so that it is the same when the handler runs again. What is to be
    seen while the model still speaks goes through the `event_stream_handler` of `Durable`.
    """
    inquiry = await _begin(ctx, agent, name, options)
    with _asking(inquiry):
        async with agent.run_stream(_given(prompt), **options) as result:
            yield result


@contextmanager
def _asking(inquiry: Inquiry) -> Iterator[None]:
    """Run a block as part of an inquiry; where it comes to no answer, that has a name."""
    with capture_run_messages() as messages, within(inquiry), named(inquiry, messages):
        yield


async def _begin(ctx: Context[Any], agent: AbstractAgent[D, O], name: str | None, options: dict[str, Any]) -> Inquiry:
    """The inquiry, the same whenever the handler runs again; and, among the options, what makes the agent durable."""
    known_as = name or agent.name
    if not known_as:
        raise UsageError("an agent that is asked needs a name: Agent(…, name=…), or ask_model(…, name=…)")

    async def begin() -> _Begun:
        return _Begun(fresh(), ctx.process.clock.now_s())

    begun = await ctx.step_with(begin, step_name=f"{known_as}: asked", step_polls=True)
    capabilities = list(options.pop("capabilities", None) or ())
    durable = Durable.from_agent(agent) or next((each for each in capabilities if isinstance(each, Durable)), None)
    if durable is None:
        model = options.get("model")
        durable = Durable(name=known_as, models={"given": model} if isinstance(model, Model) else None)
        capabilities.append(durable)
    options["capabilities"] = capabilities
    return Inquiry(ctx, f"{known_as} {begun.id[:6]}", known_as, begun.id, utc(begun.at_s), durable.redaction)


def _given(prompt: Prompt) -> str | Sequence[UserContent] | None:
    """A prompt as pydantic-ai takes it: a filled template is one content among others."""
    return [prompt] if isinstance(prompt, TextContent) else prompt
