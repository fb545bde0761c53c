"""Tools of a model: each call is a step of its own, and effects among them happen once."""

import asyncio
from datetime import timedelta

import pytest
from pydantic_ai import Agent as Asked
from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.models.test import TestModel as AnyModel
from pydantic_ai.toolsets import FunctionToolset
from tests.unit.scripted import Case, Script, breaks, call, two_days

from hocket import Agent, Context, Retry
from hocket.errors import UsageError
from hocket.llm import ask_model, effect_tool


def test_calls_of_tools_side_by_side_are_told_apart_whichever_comes_first() -> None:
    script, fail = Script([call("nap", s=3), call("nap", s=1), call("nap", s=2)]), breaks(1)
    asked, napped = Asked(script.model, name="asked"), []

    @asked.tool_plain
    async def nap(s: int) -> int:
        await asyncio.sleep(s)
        if s == 2:
            fail()
        napped.append(s)
        return s

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "sleep")).output

    assert Case(answer).play() == "[3, 1, 2]"
    assert sorted(napped) == [1, 2, 3], "what was done beside the failure is not done again"


def test_effects_that_a_model_asks_for_happen_once_and_in_its_order() -> None:
    script, fail, booked = (
        Script([call("book", route="a"), call("book", route="b"), call("book", route="c")]),
        breaks(2),
        [],
    )

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, "travel")
        fail()
        return result.output

    case = Case(answer)

    @case.crew.effect(idempotent=True)
    async def book(route: str, *, key: str) -> str:
        """Book a seat on a route."""
        booked.append((route, key))
        return f"seat on {route}"

    asked = Asked(script.model, name="asked", tools=[effect_tool(book)])

    assert case.play() == "['seat on a', 'seat on b', 'seat on c']"
    assert [route for route, _ in booked] == ["a", "b", "c"]
    assert len({key for _, key in booked}) == 3
    assert [step.rpartition(".")[2] for step in case.steps].count("book") == 6, "an intent and an outcome for each"


def test_a_model_is_shown_an_effect_without_its_key() -> None:
    crew = Agent("crew")

    @crew.effect()
    async def book(route: str, seats: int = 1, *, key: str) -> str:
        """Book seats."""
        return route

    tool = effect_tool(book)

    assert (tool.name, tool.description) == ("book", "Book seats.")
    assert set(tool.function_schema.json_schema["properties"]) == {"route", "seats"}
    assert tool.function_schema.json_schema["required"] == ["route"]


async def test_an_effect_is_refused_where_there_is_no_run() -> None:
    crew = Agent("crew")

    @crew.effect()
    async def book(route: str) -> str:
        return route

    with pytest.raises(UsageError, match="ask the agent by ask_model"):
        await Asked(AnyModel(), tools=[effect_tool(book)]).run("travel")


def test_a_tool_may_name_the_retry_of_its_step() -> None:
    script, fail = Script([call("look")]), breaks(2)
    asked = Asked(script.model, name="asked")

    @asked.tool_plain(metadata={"hocket": Retry(first_s=0.1)})
    async def look() -> str:
        fail()
        return "seen"

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "look")).output

    case = Case(answer)

    assert case.play() == "['seen']"
    assert case.attempts == 1


def test_a_tool_that_asks_the_model_to_try_again_is_remembered_as_that() -> None:
    script, fail, looked = Script([call("look", x=0)], [call("look", x=1)]), breaks(1), list[int]()
    asked = Asked(script.model, name="asked", output_type=str, retries=2)

    @asked.tool_plain
    async def look(x: int) -> str:
        looked.append(x)
        if x == 0:
            raise ModelRetry("not zero")
        return "seen"

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, "look")
        fail()
        return result.output

    case = Case(answer)

    assert case.play() == "['not zero', 'seen']"
    assert (case.attempts, script.requests, looked) == (2, [0, 1, 2], [0, 1])


def test_an_agent_that_a_tool_asks_is_part_of_the_tools_step() -> None:
    inner, outer, fail = Script("deep"), Script([call("delve")]), breaks(1)
    below, above = Asked(inner.model, name="below"), Asked(outer.model, name="above")

    @above.tool_plain
    async def delve() -> str:
        return (await below.run("?")).output

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, above, "?")
        fail()
        return result.output

    case = Case(answer)

    assert case.play() == "['deep']"
    assert (inner.requests, outer.requests) == ([0], [0, 1])


def test_a_tool_that_is_no_step_may_ask_an_agent_durably_and_wait() -> None:
    inner, outer, fail = Script("deep"), Script([call("delve")]), breaks(1)
    below = Asked(inner.model, name="below")
    above = Asked(outer.model, name="above", deps_type=Context)

    @above.tool(metadata={"hocket": False})
    async def delve(run: RunContext[Context]) -> str:
        text = (await ask_model(run.deps, below, "?")).output
        fail()
        await run.deps.sleep(timedelta(days=1))
        return text

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, above, "?", deps=ctx)).output

    assert Case(answer).play(two_days) == "['deep']"
    assert (inner.requests, outer.requests) == ([0], [0, 1])


def test_toolsets_are_remembered_like_tools() -> None:
    script, fail, looked = Script([call("look", x=1)]), breaks(1), list[int]()
    tools = FunctionToolset[None](id="eyes")

    @tools.tool_plain
    async def look(x: int) -> int:
        looked.append(x)
        return -x

    asked = Asked(script.model, name="asked", toolsets=[tools])

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, "look")
        fail()
        return result.output

    assert Case(answer).play() == "[-1]"
    assert looked == [1]
