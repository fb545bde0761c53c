"""Tokens of models against the budget of a saga, on the twin and on a real stream."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic_ai import Agent as Asked
from pydantic_ai import RequestUsage
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from hocket import Agent, Context
from hocket.client import open_bus
from hocket.errors import BudgetExceeded
from hocket.host.crew import Crew, running
from hocket.llm import ask_model
from hocket.log import jetstream
from hocket.log.memory import MemoryServer
from hocket.observe.budgets import budget_of
from hocket_schemas.budgets import Budget
from hocket_schemas.event import Catalog, Event
from hocket_schemas.limits import LimitExceeded
from hocket_schemas.sagas import Saga

EVENTS = Catalog()
QUESTION = "?" * 200


class Posed(Event, type="tokens.posed.v1", catalog=EVENTS):
    pass


class Delegated(Event, type="tokens.delegated.v1", catalog=EVENTS):
    pass


class Done(Event, type="tokens.done.v1", catalog=EVENTS):
    pass


@pytest.fixture(autouse=True)
def policy() -> Saga:
    """Declared for one test only: who knows of a budget looks for it."""
    return Saga("tokens", starts=Posed, done=Done, deadline=timedelta(hours=1), budget=Budget(tokens=1000))


@pytest.fixture(params=["memory", "jetstream"])
async def logs(request: pytest.FixtureRequest, nats_url: str, domain: str) -> AsyncIterator[Any]:
    if request.param == "memory":
        yield [MemoryServer().connect()]
    else:
        async with jetstream.connect(nats_url, domain=domain) as found:
            yield found


async def test_a_saga_with_a_budget_of_1000_tokens_stops_before_the_call_that_would_exceed_it(logs: Any) -> None:
    requests: list[str] = []

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        requests.append("asked")
        return ModelResponse(parts=[TextPart("so")], usage=RequestUsage(input_tokens=100, output_tokens=200))

    asked = Asked(FunctionModel(answer), name="oracle", model_settings={"max_tokens": 200})
    parent, child = Agent("parent"), Agent("child")
    refused: list[BudgetExceeded] = []

    @parent.on(Posed, emits=[Delegated])
    async def begin(event: Posed, ctx: Context) -> None:
        await ask_model(ctx, asked, QUESTION)
        ctx.start(Delegated(), saga="child-1", key="k")

    @child.on(Delegated)
    async def work(event: Delegated, ctx: Context) -> None:
        try:
            for _ in range(5):
                await ask_model(ctx, asked, QUESTION)
        except BudgetExceeded as refusal:
            refused.append(refusal)
            raise

    async with open_bus(logs) as bus, running(Crew([parent, child], logs)) as crew, asyncio.timeout(30):
        await crew.owning()
        async with bus.subscribe(LimitExceeded) as refusals:
            await bus.publish(Posed(), key="k", saga="s-1")
            told = await anext(refusals)
        [line] = await budget_of(bus, "s-1", 0.0)

    assert len(requests) == 3
    assert (line.spent, line.most) == (900, 1000), "what was reserved beyond that is given back"
    assert line.by_agent == {"parent": 300, "child": 600}
    assert line.by_call == {"parent": {"oracle: function:answer:": 300}, "child": {"oracle: function:answer:": 600}}
    assert (refused[0].limit, refused[0].saga, refused[0].count > 1000) == ("tokens", "s-1", True)
    assert told.event.account == "s-1"
