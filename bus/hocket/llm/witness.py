"""Who sees the calls that an agent makes: each has a span, and that of a model leaves a record beside its answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from pydantic_ai.durable_exec import (
    DurableOperation,
    ModelRequestId,
    ModelRequestParams,
    ToolsetCallToolId,
    ToolsetCallToolParams,
)
from pydantic_ai.messages import ModelResponse

from hocket.blob import Left
from hocket.llm import spans
from hocket.llm.inquiry import Inquiry
from hocket.llm.lineage import Keep, record_of
from hocket.redaction import Redaction, redacting

P = TypeVar("P")
W = TypeVar("W")
R = TypeVar("R")


@dataclass(slots=True)
class Seen:
    """A step of an inquiry that is being made, and what it leaves."""

    inquiry: Inquiry
    left: Left | None = None

    def leaves(self) -> Left | None:
        """What stands beside its result in the journal."""
        return self.left


_SEEN: ContextVar[Seen | None] = ContextVar("_SEEN", default=None)


@contextmanager
def seeing(seen: Seen) -> Iterator[None]:
    """Make a step's call."""
    token = _SEEN.set(seen)
    try:
        yield
    finally:
        _SEEN.reset(token)


@dataclass(frozen=True, slots=True)
class Witness:
    """What is kept and told of one agent's calls."""

    agent: str
    keep: Keep = Keep.CONTENTS
    redaction: Redaction | None = None

    def of(self, operation: DurableOperation[P, W, R]) -> DurableOperation[P, W, R]:
        """The same operation, seen."""
        asked, call = operation.operation_id, operation.handler

        async def request(params: P) -> R:
            assert isinstance(asked, ModelRequestId), "it is bound to that"
            given = cast(ModelRequestParams, params)  # what such an operation is called with
            # The failure is redacted within the span, which tells it.
            with spans.requesting(self.agent, asked, given), redacting(self.redaction):
                result = await call(params)
                if isinstance(result, ModelResponse):
                    spans.answered(given, result, self.redact)
                    self._record(asked, given, result)
                return result

        async def call_tool(params: P) -> R:
            given = cast(ToolsetCallToolParams, params)  # likewise
            with spans.calling(self.agent, given, self.redact), redacting(self.redaction):
                return await call(params)

        match asked:
            case ModelRequestId():
                return replace(operation, handler=request)
            case ToolsetCallToolId():
                return replace(operation, handler=call_tool)
            case _:
                return operation

    def redact(self, told: Any) -> Any:
        """JSON as it may be stored and told."""
        return told if self.redaction is None else self.redaction.value(told)

    def _record(self, asked: ModelRequestId, params: ModelRequestParams, response: ModelResponse) -> None:
        seen = _SEEN.get()
        if seen is not None and self.keep is not Keep.NOTHING:
            seen.left = record_of(
                inquiry=seen.inquiry.id,
                agent=self.agent,
                model=asked.model_name,
                params=params,
                response=response,
                keep=self.keep,
                redact=self.redact,
            )
