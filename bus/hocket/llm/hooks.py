"""Guards: who is asked before, and after, a model or a tool is called, and what their verdicts do.

A verdict is a step of the run: when the handler runs again it is read from the journal, and so decides the same.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic_ai import RunContext, ToolDefinition
from pydantic_ai.capabilities import AbstractCapability, WrapModelRequestHandler
from pydantic_ai.exceptions import ApprovalRequired, SkipToolExecution, ToolFailed
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import AgentDepsT

from hocket.errors import UsageError
from hocket.llm.durability import ANYBODY, ARGUMENTS, Approvals, decided
from hocket.llm.errors import Denied
from hocket.llm.inquiry import current

Word = Literal["proceed", "skip", "change", "deny", "approve"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a guard has decided about a call. Made by `PROCEED`, `skip`, `change`, `deny` and `ask_people`."""

    word: Word
    result: Any = None
    """Of `skip`: takes the place of what the call would have returned. JSON."""

    arguments: dict[str, Any] | None = None
    """Of `change`, before a tool: what it is called with instead."""

    messages: list[ModelMessage] | None = None
    """Of `change`, before a request: what the model is sent instead, this time."""

    reason: str = ""
    """Of `deny`: the model sees it. Of `approve`: people do."""


PROCEED = Verdict("proceed")


def skip(result: Any) -> Verdict:
    """Do not call; this is the result. Of a request: what the model is taken to have said. After a call: instead."""
    return Verdict("skip", result=result)


def change(*, arguments: dict[str, Any] | None = None, messages: list[ModelMessage] | None = None) -> Verdict:
    """Call, but with other arguments, or send the model other messages."""
    return Verdict("change", arguments=arguments, messages=messages)


def deny(reason: str) -> Verdict:
    """Do not call. Of a tool the model is told why, and goes on; a request that is denied ends with `Denied`."""
    return Verdict("deny", reason=reason)


def ask_people(reason: str = "") -> Verdict:
    """Have people decide, as for a tool with `requires_approval`; once they have agreed it means to proceed."""
    return Verdict("approve", reason=reason)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that a model wants, or has had."""

    agent: str
    tool: str
    arguments: Mapping[str, Any]
    """As the model has written them."""

    call_id: str
    approved: bool = False
    """Whether people have agreed to it."""

    result: Any = None
    """After it: what it has returned."""


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A request to a model that is to be made, or was."""

    agent: str
    model: str
    messages: Sequence[ModelMessage]
    response: ModelResponse | None = None
    """After it: the answer."""


Call = ToolCall | ModelCall
Guard = Callable[[Call], Awaitable[Verdict]]
"""Looks at a call and decides. It is asked once; a failure of it is the handler's, and nothing is called."""


@dataclass(init=False)
class Guarded(AbstractCapability[AgentDepsT]):
    """Asks guards about whatever an agent's models and tools are to do; the first that has an objection decides.

    Tools are called one after the other then, in the model's order. What changes a call is asked before what comes
    after it. Works outside of handlers too, where nothing is remembered and approvals are up to who runs the agent.
    """

    guards: Sequence[Guard]
    after: Sequence[Guard]
    approvals: Approvals = field(default=ANYBODY)

    def __init__(self, *guards: Guard, after: Sequence[Guard] = (), approvals: Approvals = ANYBODY) -> None:
        """Name who is asked before a call and who after it; and who approves of requests to models.

        Of tools `Durable(approvals=…)` says that.
        """
        self.guards = guards
        self.after = after
        self.approvals = approvals

    async def prepare_tools(self, ctx: RunContext[AgentDepsT], tool_defs: list[ToolDefinition]) -> list[ToolDefinition]:
        """One after the other: approvals and policies are told apart by their order."""
        return [replace(tool, sequential=True) for tool in tool_defs]

    async def before_tool_execute(
        self, ctx: RunContext[AgentDepsT], *, call: ToolCallPart, tool_def: ToolDefinition, args: dict[str, Any]
    ) -> dict[str, Any]:
        """Ask about a call that a model wants."""
        wanted = ToolCall(_name(ctx), call.tool_name, call.args_as_dict(), call.tool_call_id, ctx.tool_call_approved)
        for guard in self.guards:
            verdict = await _verdict(guard, wanted, f"verdict on {call.tool_name} {call.tool_call_id}")
            match verdict.word:
                case "skip":
                    raise SkipToolExecution(verdict.result)
                case "deny":
                    raise ToolFailed(f"The call was denied: {verdict.reason}")
                case "approve" if not ctx.tool_call_approved:
                    raise ApprovalRequired({"reason": verdict.reason, ARGUMENTS: dict(wanted.arguments)})
                case "change" if verdict.arguments is not None:
                    wanted = replace(wanted, arguments=verdict.arguments)
                    args = _validated(ctx, call.tool_name, verdict.arguments)
                case "change":
                    raise UsageError("a call of a tool is changed by change(arguments=…)")
        return args

    async def after_tool_execute(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
        result: Any,
    ) -> Any:
        """Ask about what a tool has returned."""
        done = ToolCall(
            _name(ctx), call.tool_name, call.args_as_dict(), call.tool_call_id, ctx.tool_call_approved, result
        )
        for guard in self.after:
            verdict = await _verdict(guard, done, f"verdict after {call.tool_name} {call.tool_call_id}")
            if verdict.word == "deny":
                raise ToolFailed(f"The result is withheld: {verdict.reason}")
            if verdict.word == "skip":
                done = replace(done, result=verdict.result)
            _only_after(verdict)
        return done.result

    async def wrap_model_request(
        self, ctx: RunContext[AgentDepsT], *, request_context: ModelRequestContext, handler: WrapModelRequestHandler
    ) -> ModelResponse:
        """Ask about a request to a model, and about its answer."""
        wanted = ModelCall(_name(ctx), request_context.model.model_name, request_context.messages)
        for guard in self.guards:
            verdict = await _verdict(guard, wanted, "verdict on request")
            match verdict.word:
                case "skip":
                    return ModelResponse(parts=[TextPart(str(verdict.result))], model_name=wanted.model)
                case "deny":
                    raise Denied(f"{wanted.agent}: the request was denied: {verdict.reason}")
                case "approve":
                    await self._approve(wanted, verdict.reason)
                case "change" if verdict.messages is not None:
                    wanted = replace(wanted, messages=verdict.messages)
                    request_context.messages = verdict.messages
                case "change":
                    raise UsageError("a request is changed by change(messages=…)")
        done = replace(wanted, response=await handler(request_context))
        for guard in self.after:
            verdict = await _verdict(guard, done, "verdict after request")
            if verdict.word == "deny":
                raise Denied(f"{wanted.agent}: the answer was denied: {verdict.reason}")
            if verdict.word == "skip":
                done = replace(done, response=ModelResponse(parts=[TextPart(str(verdict.result))]))
            _only_after(verdict)
        assert done.response is not None, "it was made"
        return done.response

    async def _approve(self, wanted: ModelCall, reason: str) -> None:
        inquiry = current()
        if inquiry is None:
            raise Denied(f"{wanted.agent}: the request wants an approval, and it is not asked in a handler")
        question = f"May {wanted.agent} ask {wanted.model}?"
        decision = await decided(inquiry, self.approvals, question, {"reason": reason, "prompt": newest(wanted)})
        if not decision.approved:
            raise Denied(f"{wanted.agent}: the request was not approved: {decision.reason or decision.option}")


async def _verdict(guard: Guard, call: Call, step: str) -> Verdict:
    """What a guard says, or has said."""
    inquiry = current()
    if inquiry is None or getattr(guard, "remembers", False):
        return await guard(call)

    async def judged() -> Any:
        return _VERDICT.dump_python(await guard(call), mode="json")

    said = await inquiry.context.step_with(judged, step_name=f"{inquiry.name}: {step}", step_polls=True)
    return _VERDICT.validate_python(said)


def _only_after(verdict: Verdict) -> None:
    """What is done cannot be changed or approved any more: a guard that says so is mistaken, and is not ignored."""
    if verdict.word in ("change", "approve"):
        raise UsageError(f"after a call a guard may skip or deny, not {verdict.word}")


def _validated(ctx: RunContext[Any], tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as the tool's function takes them; what does not fit is up to the model, as its own mistakes are."""
    assert ctx.tool_manager is not None, "a tool is called by its agent"
    assert ctx.tool_manager.tools is not None, "a tool is called within a step of its agent"
    validated: dict[str, Any] = ctx.tool_manager.tools[tool].args_validator.validate_python(arguments)
    return validated


def _name(ctx: RunContext[Any]) -> str:
    inquiry = current()
    return inquiry.asked if inquiry is not None else (ctx.agent and ctx.agent.name) or ""


def newest(call: ModelCall) -> str:
    """What is sent newly, as people are shown it."""
    contents = [getattr(part, "content", "") for part in call.messages[-1].parts] if call.messages else []
    return "\n".join(content if isinstance(content, str) else str(content) for content in contents)


_VERDICT: TypeAdapter[Verdict] = TypeAdapter(Verdict)

__all__ = [
    "PROCEED",
    "Call",
    "Guard",
    "Guarded",
    "ModelCall",
    "ToolCall",
    "Verdict",
    "ask_people",
    "change",
    "deny",
    "newest",
    "skip",
]
