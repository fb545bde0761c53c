"""Spans of agents, models and tools, by the conventions for generative AI. Without an SDK each costs a check."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from pydantic_ai.durable_exec import ModelRequestId, ModelRequestParams, ToolsetCallToolParams
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.models import Model

from hocket import conventions as names
from hocket.context import Context
from hocket.llm.lineage import Redact
from hocket.telemetry import span, tracing

_SETTINGS = {
    "max_tokens": names.REQUEST_MAX_TOKENS,
    "temperature": names.REQUEST_TEMPERATURE,
    "top_p": names.REQUEST_TOP_P,
    "top_k": names.REQUEST_TOP_K,
    "seed": names.REQUEST_SEED,
    "frequency_penalty": names.REQUEST_FREQUENCY_PENALTY,
}


@contextmanager
def asking(ctx: Context[Any], agent: str) -> Iterator[None]:
    """An execution of an inquiry: what it only reads from the journal has no span below."""
    about = {names.OPERATION_NAME: names.INVOKE_AGENT, names.AGENT_NAME: agent, names.CONVERSATION_ID: ctx.saga}
    with span(f"{names.INVOKE_AGENT} {agent}", about):
        yield


@contextmanager
def requesting(agent: str, asked: ModelRequestId, params: ModelRequestParams) -> Iterator[None]:
    """A request to a model."""
    if not tracing():
        yield
        return
    model = params.run_context.model
    about = {
        names.OPERATION_NAME: names.CHAT,
        names.AGENT_NAME: agent,
        names.REQUEST_MODEL: asked.model_name,
        names.PROVIDER_NAME: model.system if isinstance(model, Model) else "",
        **{_SETTINGS[name]: said for name, said in (params.model_settings or {}).items() if name in _SETTINGS},
    }
    if asked.streaming:
        about[names.REQUEST_STREAM] = True
    with span(f"{names.CHAT} {asked.model_name}", _said(about), kind=SpanKind.CLIENT):
        yield


def answered(params: ModelRequestParams, response: ModelResponse, redact: Redact) -> None:
    """Tell the request's span what came of it."""
    if not tracing():
        return
    usage = response.usage
    about: dict[str, Any] = {
        names.RESPONSE_ID: response.provider_response_id,
        names.RESPONSE_MODEL: response.model_name,
        names.RESPONSE_FINISH_REASONS: [response.finish_reason] if response.finish_reason else None,
        names.USAGE_INPUT_TOKENS: usage.input_tokens,
        names.USAGE_OUTPUT_TOKENS: usage.output_tokens,
        names.USAGE_CACHE_READ_INPUT_TOKENS: usage.cache_read_tokens or None,
    }
    if _captures():
        told = ModelMessagesTypeAdapter.dump_python([*params.messages, response], mode="json")
        about[names.INPUT_MESSAGES] = _json(redact(told[:-1]))
        about[names.OUTPUT_MESSAGES] = _json(redact(told[-1:]))
    trace.get_current_span().set_attributes(_said(about))


@contextmanager
def calling(agent: str, params: ToolsetCallToolParams, redact: Redact) -> Iterator[None]:
    """A call of a tool."""
    if not tracing():
        yield
        return
    about = {
        names.OPERATION_NAME: names.EXECUTE_TOOL,
        names.AGENT_NAME: agent,
        names.TOOL_NAME: params.name,
        names.TOOL_TYPE: names.FUNCTION,
        names.TOOL_CALL_ID: params.ctx.tool_call_id,
    }
    if _captures():
        about[names.TOOL_CALL_ARGUMENTS] = _json(redact(params.tool_args))
    with span(f"{names.EXECUTE_TOOL} {params.name}", _said(about)):
        yield


def _captures() -> bool:
    return os.environ.get(names.CAPTURE_CONTENT, "").lower() == "true"


def _said(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: said for name, said in about.items() if said not in (None, "")}


def _json(told: Any) -> str:
    return orjson.dumps(told, default=str).decode()
