"""A guard that is an agent on the bus: asked by an event, answered in time or taken to deny."""

from datetime import timedelta
from typing import Final

from hocket.errors import UsageError, WaitExpired
from hocket.llm.hooks import PROCEED, Call, ModelCall, Verdict, deny, newest
from hocket.llm.inquiry import current
from hocket_schemas.guards import CallJudged, CallProposed


class PolicyAgent:
    """Asks whichever agent handles CallProposed, and denies when no answer has come in time.

    The handler that asks the model declares both: `on(…, emits=[CallProposed], waits=[CallJudged])`. The policy agent
    returns a CallJudged. The run waits for it as for any event: its memory is released, and the answer is remembered.
    """

    remembers: Final = True
    """Its verdict is in the journal by the wait for it; it is no step besides."""

    def __init__(self, within: timedelta = timedelta(seconds=30), *, requests: bool = False) -> None:
        """Give the time for an answer. Requests to models are asked about only if told so, calls of tools always."""
        self._within = within
        self._requests = requests

    async def __call__(self, call: Call) -> Verdict:
        """Ask, and wait for the verdict."""
        if isinstance(call, ModelCall) and not self._requests:
            return PROCEED
        inquiry = current()
        if inquiry is None:
            raise UsageError("a policy agent is asked from a run; ask the agent by ask_model, in a handler")
        try:
            said = await inquiry.context.ask(_proposed(call), reply=CallJudged, timeout=self._within)
        except WaitExpired:
            return deny(f"no policy agent has answered within {self._within.total_seconds():g} s")
        return Verdict(said.verdict, result=said.result, arguments=said.arguments, reason=said.reason)


def _proposed(call: Call) -> CallProposed:
    if isinstance(call, ModelCall):
        return CallProposed(agent=call.agent, model=call.model, prompt=newest(call))
    return CallProposed(agent=call.agent, tool=call.tool, arguments=dict(call.arguments), approved=call.approved)


__all__ = ["PolicyAgent"]
