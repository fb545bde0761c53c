"""What models use up of a saga's budget: reserved before a request, counted once, in tokens and in money."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic_ai import Agent as Asked
from pydantic_ai import RequestUsage
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import BinaryContent, ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.unit.scripted import Script, breaks, call

from hocket import Agent, Context, Retry
from hocket.account import Balance
from hocket.llm import Durable, Estimate, Price, ask_model
from hocket.llm.spending import cost_of, sent_tokens
from hocket.testing import Bed, run_virtual
from hocket_schemas.budgets import Budget
from hocket_schemas.event import Catalog, Event
from hocket_schemas.limits import LimitExceeded
from hocket_schemas.sagas import Saga

EVENTS = Catalog()
QUESTION = "?" * 200


class Put(Event, type="spent.put.v1", catalog=EVENTS):
    pass


class Done(Event, type="spent.done.v1", catalog=EVENTS):
    text: str = ""


class Spender:
    """An agent whose saga has a budget; its model takes 100 tokens of prompt and 200 of answer."""

    def __init__(self, budget: Budget, answer: Callable[[Context], Awaitable[object]]) -> None:
        self.saga = Saga("spender", starts=Put, done=Done, deadline=timedelta(hours=9), budget=budget)
        self.agent = Agent("spender")

        @self.agent.on(Put, retry=Retry(attempts_max=4))
        async def handle(event: Put, ctx: Context) -> Done:
            return Done(text=str(await answer(ctx)))

    def play(self) -> "Spender":
        async def live() -> None:
            async with Bed(self.agent) as bed:
                await bed.publish(Put(), key="k", saga="s-1")
                await bed.settled()
                record = bed.server.newest(bed.names.account("s-1"))
                self.balance = Balance.from_json(record.data) if record else None
                self.letters = [(letter["reason"], letter["error"]) for letter in bed.dead(self.agent)]
                self.trips = bed.events(LimitExceeded)
                self.answers = [done.text for done in bed.events(Done)]

        run_virtual(live())
        return self

    def used(self, unit: Any) -> int:
        return self.balance.used(unit) if self.balance else 0


class Model:
    """Answers, and takes what a test says."""

    def __init__(self, *failures: Exception, name: str = "oracle") -> None:
        self.failures, self.settings = list(failures), list[Any]()
        self.model = FunctionModel(self.respond, model_name=name)

    async def respond(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.settings.append(info.model_settings)
        await asyncio.sleep(0.01)
        if self.failures:
            raise self.failures.pop()
        return ModelResponse(parts=[TextPart("so")], usage=RequestUsage(input_tokens=100, output_tokens=200))


def durable(**estimate: Any) -> Durable[Any]:
    return Durable(estimate=Estimate(**{"answer_tokens": 200, **estimate}))


def test_what_a_crash_has_interrupted_keeps_its_reservation_and_is_settled_once() -> None:
    model, fail = Model(ModelHTTPError(503, "m"), ModelHTTPError(503, "m")), breaks(1)
    asked = Asked(model.model, name="asked", capabilities=[durable()])

    async def answer(ctx: Context) -> str:
        text = (await ask_model(ctx, asked, QUESTION)).output
        fail()
        return text

    spender = Spender(Budget(tokens=400), answer).play()

    assert spender.answers == ["so"]
    assert len(model.settings) == 3, "two that failed, and none after the crash"
    assert spender.used("tokens") == 300


def test_a_request_that_fails_for_good_keeps_what_was_reserved_for_it() -> None:
    model = Model(*(ModelHTTPError(503, "m") for _ in range(9)))
    asked = Asked(model.model, name="asked", capabilities=[durable()])

    spender = Spender(Budget(tokens=1000), lambda ctx: ask_model(ctx, asked, QUESTION)).play()

    assert 300 <= spender.used("tokens") < 400


def test_an_answer_is_bounded_where_tokens_are_and_only_there() -> None:
    model = Model()
    asked = Asked(model.model, name="asked", capabilities=[durable()])
    own = Asked(model.model, name="own", capabilities=[durable()], model_settings={"max_tokens": 50})

    async def answer(ctx: Context) -> None:
        await ask_model(ctx, asked, QUESTION)
        await ask_model(ctx, own, QUESTION)

    Spender(Budget(tokens=10_000), answer).play()
    Spender(Budget(steps=10), answer).play()

    assert [(settings or {}).get("max_tokens") for settings in model.settings] == [200, 50, None, 50]


def test_the_money_is_reserved_and_settled_by_the_price_that_is_named() -> None:
    model = Model()
    asked = Asked(model.model, name="asked", capabilities=[durable(prices={"oracle": Price(read=1000, written=2000)})])

    async def answer(ctx: Context) -> None:
        for _ in range(5):
            await ask_model(ctx, asked, QUESTION)

    spender = Spender(Budget(cost=1.2), answer).play()

    assert (len(model.settings), spender.used("cost")) == (2, 1_000_000)
    assert [(trip.limit, trip.most) for trip in spender.trips] == [("cost", 1.2)]


def test_a_model_that_nobody_knows_the_price_of_is_not_asked_where_money_is_limited() -> None:
    model = Model()
    asked = Asked(model.model, name="asked", capabilities=[durable()])

    spender = Spender(Budget(cost=1.0), lambda ctx: ask_model(ctx, asked, QUESTION)).play()

    [(reason, error)] = spender.letters
    assert (reason, model.settings) == ("UnknownPrice", [])
    assert "it is not known what model 'oracle' costs" in error


def test_a_fallback_model_reserves_what_the_dearest_of_its_models_may_cost() -> None:
    first, second = Model(ModelHTTPError(503, "m"), name="cheap"), Model(name="dear")
    prices = {"cheap": Price(read=0, written=1), "dear": Price(read=1000, written=2000)}
    asked = Asked(FallbackModel(first.model, second.model), name="asked", capabilities=[durable(prices=prices)])
    fail = breaks(1)

    async def answer(ctx: Context) -> str:
        text = (await ask_model(ctx, asked, QUESTION)).output
        fail()
        return text

    spender = Spender(Budget(cost=0.6), answer).play()

    assert (spender.answers, len(first.settings), len(second.settings)) == (["so"], 1, 1)
    assert spender.used("cost") == 500_000


def test_a_models_tools_count_as_tool_calls_and_are_listed_by_name() -> None:
    script = Script([call("look", x=1), call("look", x=2)], [call("look", x=3)])
    asked = Asked(script.model, name="asked", capabilities=[durable()])

    @asked.tool_plain
    async def look(x: int) -> int:
        return x

    spender = Spender(Budget(tool_calls=2), lambda ctx: ask_model(ctx, asked, "?")).play()

    assert spender.letters == [("BudgetExceeded", "tool_calls of saga s-1 would come to 3, its budget is 2")]
    assert spender.balance is not None
    assert spender.balance.by_call("tool_calls") == {"spender": {"asked: look": 2}}


@pytest.mark.parametrize(
    ("content", "least", "most"),
    [("a" * 300, 150, 180), (["b" * 300, BinaryContent(b"\x00" * 9, media_type="image/png")], 3150, 3180)],
)
def test_what_is_sent_is_estimated_high(content: Any, least: int, most: int) -> None:
    messages: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart(content)])]

    assert least <= sent_tokens(messages, ModelRequestParameters(), Estimate()) <= most


def test_prices_are_those_of_the_maintained_table() -> None:
    usage = RequestUsage(input_tokens=1_000_000)

    known = cost_of(ModelResponse(parts=[], usage=usage, model_name="gpt-4o", provider_name="openai"))

    assert known is not None
    assert 0 < known < 100
    assert cost_of(ModelResponse(parts=[], usage=usage, model_name="nobody-knows", provider_name="openai")) is None
    assert cost_of(ModelResponse(parts=[])) is None
    billed = RequestUsage(input_tokens=1_000_000, cost=Decimal("0.5"))
    assert cost_of(ModelResponse(parts=[], usage=billed, model_name="gpt-4o", provider_name="openai")) == 0.5
