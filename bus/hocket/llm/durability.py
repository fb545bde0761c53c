"""The capability that makes a pydantic-ai agent durable in hocket's runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic_ai import (
    AgentRunResult,
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    ToolApproved,
    ToolDefinition,
    ToolDenied,
)
from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.capabilities import WrapRunHandler
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    DurableOperationId,
    RoleBasedOperationConfig,
    conversation_id_from_run_id,
    replay_scope,
)
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.tools import AgentDepsT

from hocket.approval import Decision
from hocket.calls import digest_of
from hocket.errors import UsageError
from hocket.llm.errors import RepeatedCall
from hocket.llm.inquiry import Inquiry, current
from hocket.llm.lineage import Keep
from hocket.llm.live import listening
from hocket.llm.spending import Estimate, bounded, limited
from hocket.llm.steps import Steps
from hocket.llm.witness import Witness
from hocket.policy import Retry
from hocket.redaction import Redaction

METADATA = "hocket"
"""The key of a tool's metadata that is about its step: a Retry, or False for a tool that is no step."""

ARGUMENTS = "hocket_arguments"
"""The key of an approval's metadata for what a tool is to be called with, where that is not what the model wrote."""

POLLS = "hocket_polls"
"""The key of a tool's metadata that lets a model call it with the same arguments as often as it likes."""


@dataclass(frozen=True, slots=True)
class Approvals:
    """How people are asked about the tools that require an approval; see `Context.approve`."""

    approvers: tuple[str, ...] = ()
    """Who may decide; nobody named: anybody."""

    quorum: int = 1
    timeout: timedelta | None = None
    """After it the call counts as refused; None: it waits for as long as it takes."""

    escalate_after: timedelta | None = None
    escalate_to: tuple[str, ...] = ()


ANYBODY = Approvals()


async def decided(inquiry: Inquiry, terms: Approvals, question: str, details: Any) -> Decision:
    """What people decide."""
    return await inquiry.context.approve(
        question,
        details=details,
        approvers=terms.approvers,
        quorum=terms.quorum,
        timeout=terms.timeout,
        escalate_after=terms.escalate_after,
        escalate_to=terms.escalate_to,
    )


class Durable(BaseDurabilityCapability[AgentDepsT]):
    """Makes an agent durable wherever it is asked by `ask_model`, and changes nothing elsewhere.

    `ask_model` adds one to an agent that has none; give the agent its own to say how.
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="hocket",
        durable_unit_noun="step",
        durable_container_noun="handler",
        codec=JSON_CODEC,
        toolset_lifecycles={"function": "enter-always", "mcp": "enter-in-durable-unit", "dynamic": "enter-never"},
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
        tool_config_key=METADATA,
    )

    def __init__(
        self,
        *,
        model_retry: Retry | None = None,
        tool_retry: Retry | None = None,
        approvals: Approvals = ANYBODY,
        estimate: Estimate | None = None,
        keep: Keep = Keep.CONTENTS,
        redaction: Redaction | None = None,
        repeats_max: int | None = 20,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
    ) -> None:
        """Say how often a request to a model, and a call of a tool, is tried before the handler fails.

        None: once, and the rest is up to the handler's own retry; what was answered before is not asked again. A tool's
        metadata may name another policy, `{"hocket": Retry(…)}`. `estimate` says what a request is taken to use up,
        where a saga has a budget for that; `keep`, how much of each call of a model stands in the log beside its
        answer; `redaction`, what is taken out of all that is remembered of an inquiry, and of its failures. A model
        that calls a tool with the same arguments more than `repeats_max` times in one inquiry ends it with
        RepeatedCall; a tool with the metadata `{"hocket_polls": True}` may be called so. `models`,
        `event_stream_handler` and `name` are as in the other engines of pydantic-ai.
        """
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        self._model_retry = model_retry
        self._tool_retry = tool_retry
        self._approvals = approvals
        self._estimate = estimate or Estimate()
        self._keep = keep
        self.redaction = redaction
        """What takes out of the log what nobody is to read there; None: nothing does."""
        self._repeats_max = repeats_max

    @property
    def in_durable_context(self) -> bool:
        """Whether the running code is part of an inquiry, and not of one of its steps."""
        return current() is not None

    @property
    def has_wrap_run_event_stream(self) -> bool:
        """Whether requests are streamed: where somebody hears them."""
        inquiry = current()
        return super().has_wrap_run_event_stream or (inquiry is not None and inquiry.live is not None)

    def _model_stream_event_handler(self) -> EventStreamHandler[AgentDepsT] | None:
        # Meant for engines to say who hears a request within its step.
        own, live = super()._model_stream_event_handler(), listening()
        return own if live is None else live.handler(own)

    def get_durable_operation_backend(self) -> Steps:
        """What makes steps of this agent's operations."""
        config = RoleBasedOperationConfig[Retry | None](
            model=self._model_retry,
            event=None,
            capability=None,
            tool=self._tool_retry,
            resolve_tool=self._retry_of,
        )
        return Steps(witness=Witness(self.name, self._keep, self.redaction), config=config, estimate=self._estimate)

    def get_default_run_id(self) -> str | None:
        """The inquiry's id, so that a run has the same whenever the handler runs again."""
        inquiry = current()
        return inquiry.id if inquiry else None

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """Derived from the run's id."""
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    async def get_run_start_time(self, run_id: str) -> datetime | None:
        """When the inquiry was first made: a run's timeout counts from there."""
        inquiry = current()
        return inquiry.began if inquiry else None

    def get_run_clock(self) -> Callable[[], datetime] | None:
        """The log's clock: by it a run's timeout passes."""
        inquiry = current()
        return inquiry.context.now if inquiry else None

    async def wrap_run(self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        """Run the agent; what is only replayed is not traced again."""
        inquiry = current()
        if inquiry is not None:
            inquiry.begin(self.name)
        with replay_scope():
            return await super().wrap_run(ctx, handler=handler)

    async def prepare_model_request(
        self, ctx: RunContext[AgentDepsT], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Bound the answer where a saga has a budget for it: what is reserved is then enough."""
        inquiry = current()
        if inquiry is not None and limited(inquiry.context.run.purse):
            request_context.model_settings = bounded(request_context.model_settings, self._estimate)
        return await super().prepare_model_request(ctx, request_context)

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[AgentDepsT], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Have people decide about the calls that require an approval, one after the other."""
        inquiry = current()
        if inquiry is None or not requests.approvals:
            return None
        results = DeferredToolResults()
        for call in requests.approvals:
            told = requests.metadata.get(call.tool_call_id) or {}
            why, shown = told.get("reason"), told.get(ARGUMENTS, call.args_as_dict())
            question = f"May {self.name} call {call.tool_name}?" + (f" {why}" if why else "")
            results.approvals[call.tool_call_id] = await self._decided(inquiry, question, shown)
        return results

    async def before_tool_execute(
        self, ctx: RunContext[AgentDepsT], *, call: ToolCallPart, tool_def: ToolDefinition, args: dict[str, Any]
    ) -> dict[str, Any]:
        """Count a call, so that a model that goes round in circles comes to an end."""
        inquiry = current()
        if inquiry is not None and self._repeats_max is not None and not (tool_def.metadata or {}).get(POLLS):
            called = (call.tool_name, digest_of((), args))
            count = inquiry.calls[called] = inquiry.calls[called] + 1
            if count > self._repeats_max:
                told = f"{inquiry.asked}: {call.tool_name} was called {count} times with the same arguments"
                raise RepeatedCall(told, tool=call.tool_name, count=count)
        return args

    async def _decided(self, inquiry: Inquiry, question: str, arguments: dict[str, Any]) -> ToolApproved | ToolDenied:
        decision = await decided(inquiry, self._approvals, question, arguments)
        if decision.approved:
            return ToolApproved(override_args=decision.details if decision.edited else None)
        return ToolDenied(f"The call was not approved: {decision.reason or decision.option}.")

    def _retry_of(
        self, operation_id: DurableOperationId, tool: object | None, tool_name: str
    ) -> Retry | Literal[False] | None:
        metadata = getattr(getattr(tool, "tool_def", None), "metadata", None) or {}
        retry = metadata.get(METADATA, self._tool_retry)
        if retry is None or retry is False or isinstance(retry, Retry):
            return retry
        raise UsageError(f"tool {tool_name!r}: metadata {METADATA!r} is {retry!r}, wants a Retry, or False for no step")
