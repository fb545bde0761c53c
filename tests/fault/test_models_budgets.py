"""Tokens of models while processes die: reserved once, settled once, whatever dies in between."""

import asyncio

import pytest
from pydantic_ai import Agent as Asked
from pydantic_ai import RequestUsage
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.fault.test_budgets import CALLS, TOKENS, Delegated, Done, World
from tests.fault.test_budgets import policy as policy  # a fixture: the saga has a budget here too

from hocket.agent import Agent, Context
from hocket.llm import Durable, Estimate, ask_model
from hocket.policy import Limits, Retry

USED = 80
MOST = 100
"""What a request reserves is less than that."""


class Models(World):
    """Two agents that ask models, and whose processes die."""

    def worker(self, name: str, limits: Limits) -> Agent:
        agent = Agent(name, limits=limits)

        async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            self.calls.add(f"{name} {len(self.calls)}")
            await asyncio.sleep(0.1)
            return ModelResponse(parts=[TextPart("so")], usage=RequestUsage(input_tokens=10, output_tokens=70))

        durable = Durable[None](estimate=Estimate(answer_tokens=80))
        asked = Asked(FunctionModel(respond), name="asked", capabilities=[durable])

        @agent.on(Delegated, emits=[Done], retry=Retry(attempts_max=1000, first_s=0.1, factor=1.0), timeout_s=0.5)
        async def work(event: Delegated, ctx: Context) -> None:
            for _ in range(CALLS):
                await ask_model(ctx, asked, "?")

        return agent

    @property
    def violations(self) -> list[str]:
        reservations = [draw for draw in self.reserved if draw.name.startswith("spend ")]
        settled = [draw for draw in self.reserved if draw.name.startswith("settle ")]
        drawn = sum(draw.result["amounts"].get("tokens", 0) for draw in self.reserved)
        found = []
        if self.spent > TOKENS:
            found.append(f"{self.spent} tokens of {TOKENS} were drawn")
        if self.spent != drawn:
            found.append(f"{self.spent} tokens are in the account, {drawn} in the journals")
        if not len(reservations) == len(settled) == self.spent / USED:
            found.append(f"{len(reservations)} reservations, {len(settled)} settled, {self.spent} tokens for them")
        if not TOKENS // MOST <= len(reservations) <= TOKENS // USED:
            found.append(f"{len(reservations)} requests were made")
        return found


@pytest.mark.parametrize(("point", "count"), [("after append", 5), ("before append", 4)])
def test_what_models_use_up_is_reserved_and_settled_once_wherever_a_process_dies(point: str, count: int) -> None:
    world = Models(point, count).play()

    assert world.violations == []
    assert world.died, "the point was never reached, so nothing was proved"
    assert set(world.dead) == {"BudgetExceeded"}
