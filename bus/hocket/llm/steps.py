"""What an agent does as steps of a run: each request to a model, and each call of a tool."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic_ai.durable_exec import (
    BoundDurableOperation,
    CallableOperationBackend,
    DurableOperation,
    DurableOperationConfig,
    DurableOperationId,
    JournalOperationNamer,
    ModelRequestId,
    ToolsetCallToolId,
    ToolsetValidateToolArgumentsId,
    record_durable_unit,
)
from pydantic_ai.exceptions import ContentFilterError, ModelHTTPError, UserError
from pydantic_ai.messages import ModelResponse

from hocket.account import Spends
from hocket.llm.errors import CutOff, Refused
from hocket.llm.inquiry import Inquiry, current, within
from hocket.llm.live import heard_by
from hocket.llm.outcomes import ended, is_ended, raise_if_ended
from hocket.llm.spending import Estimate, at_most, used_up
from hocket.llm.witness import Seen, Witness, seeing
from hocket.policy import Retry

P = TypeVar("P")
W = TypeVar("W")
R = TypeVar("R")

PASSING = frozenset({408, 409, 425, 429})
"""Of the refusals by HTTP status from 400 to 499, those that may not be repeated."""


class Steps(CallableOperationBackend[Retry | None]):
    """Makes every durable operation of an agent a step of the run that the agent is asked in.

    A tool's step bears the id that the model gave the call: of calls side by side it does not matter, then, which comes
    first when the handler runs again.
    """

    def __init__(self, *, witness: Witness, config: DurableOperationConfig[Retry | None], estimate: Estimate) -> None:
        super().__init__(namer=_Names(witness.agent), config=config)
        self._witness = witness
        self._estimate = estimate

    def bind(self, operation: DurableOperation[P, W, R]) -> BoundDurableOperation[P, W, R]:
        """Bind an operation; each call of a tool is told apart, and each turn of the model."""
        if isinstance(operation.operation_id, ToolsetCallToolId | ToolsetValidateToolArgumentsId):
            operation = replace(operation, invocation_label=_label)
        elif isinstance(operation.operation_id, ModelRequestId):
            operation = replace(operation, invocation_label=_turn)
        if isinstance(operation.operation_id, ModelRequestId | ToolsetCallToolId):
            operation = replace(operation, cache_identity=_Itself())
        return super().bind(self._witness.of(operation))

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: Retry | None,
    ) -> object:
        """Do it and remember what came of it, or read that from the journal. A failure is not remembered."""
        inquiry = current()
        assert inquiry is not None, "operations are durable only within an inquiry"
        executed = False
        seen = Seen(inquiry)
        is_request = isinstance(operation_id, ModelRequestId)

        async def once() -> Any:
            nonlocal executed
            executed = True
            try:
                with within(None), seeing(seen), heard_by(inquiry.live if is_request else None):
                    return await _patiently(inquiry, body, config)
            except CutOff as cut:
                return ended(cut)
            except ContentFilterError as refusal:
                return ended(Refused(f"{inquiry.asked}: {refusal.message}"))
            except Exception as failure:
                inquiry.failures.append(failure)
                raise

        spends, spent = self._costs(inquiry, operation_id, cache_key)
        # What it is called with says nothing of whether it is the same: messages bear the time of their making.
        result = await inquiry.context.step_with(
            once,
            step_name=f"{inquiry.name}: {name}",
            step_polls=True,
            step_spends=spends,
            step_spent=spent,
            step_leaves=seen.leaves,
        )
        record_durable_unit(executed=executed)
        if is_request and inquiry.live is not None and not executed:
            await inquiry.live.repeat(result.get("said", "") if is_ended(result) else _RESPONSE.validate_python(result))
        raise_if_ended(result)
        return result

    def _costs(
        self, inquiry: Inquiry, operation_id: DurableOperationId, called_with: tuple[Any, ...]
    ) -> tuple[Spends | None, Callable[[Any], Spends] | None]:
        """What a call may use up, and what tells from its outcome what it did."""
        if isinstance(operation_id, ToolsetCallToolId):
            return Spends(tool_calls=1, label=f"{inquiry.asked}: {called_with[0].name}"), None
        if not isinstance(operation_id, ModelRequestId):
            return None, None
        purse = inquiry.context.run.purse
        most = at_most(called_with[0], self._estimate, purse, f"{inquiry.asked}: {operation_id.model_name}")
        spent = used_up(most, self._estimate)
        return most, lambda outcome: most if is_ended(outcome) else spent(_RESPONSE.validate_python(outcome))


class _Itself:
    """What an operation is called with, as what tells calls apart: nothing does here, so it is free for looking at."""

    def project(self, params: object) -> tuple[object, ...]:
        return (params,)


_RESPONSE: TypeAdapter[ModelResponse] = TypeAdapter(ModelResponse)


class _Names(JournalOperationNamer):
    """Names as they stand in a journal: short, since they come after the inquiry's."""

    def __init__(self, agent_name: str) -> None:
        super().__init__(agent_name)
        self._prefix = f"{agent_name}__"

    def invocation_name(self, operation_id: DurableOperationId, *, label: str | None) -> Any:
        """A call of a tool goes by its label, a request by its turn, anything else by what is done.

        A request's name says neither which model it is for nor whether somebody listens: the code may have changed that
        when the handler runs again, and an answer that the journal has is the turn's answer all the same.
        """
        named = super().invocation_name(operation_id, label=label)
        if isinstance(operation_id, ModelRequestId):
            return replace(named, operation_name=f"model.request {label}")
        if label is None:
            return replace(named, operation_name=named.operation_name.removeprefix(self._prefix))
        checked = isinstance(operation_id, ToolsetValidateToolArgumentsId)
        return replace(named, operation_name=f"{label} (arguments)" if checked else label)


def is_final(failure: Exception) -> bool:
    """Whether asking again would be refused again, as far as one can tell."""
    if isinstance(failure, ModelHTTPError):
        return 400 <= failure.status_code < 500 and failure.status_code not in PASSING
    return isinstance(failure, UserError | ContentFilterError | CutOff)


async def _patiently(inquiry: Inquiry, body: Callable[[], Awaitable[object]], retry: Retry | None) -> object:
    """Try as often as the policy has it. What fails for good fails the handler, and that has a policy of its own."""
    attempts = 0
    while True:
        attempts += 1
        try:
            return await body()
        except Exception as failure:
            after_s = getattr(failure, "retry_after", None)
            if after_s is not None:
                failure.retry_after_s = after_s  # type: ignore[attr-defined]  # policies look for it on any error
            if retry is None or is_final(failure):
                raise
            wait_s = retry.wait_s(attempts, failure, inquiry.context.process.rng)
            if wait_s is None:
                raise
            await asyncio.sleep(wait_s)


def _label(params: Any) -> str:
    return f"{params.name} {params.ctx.tool_call_id}"


def _turn(params: Any) -> str:
    return str(params.run_context.run_step)
