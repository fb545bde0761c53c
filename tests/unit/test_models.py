"""Agents with models: what a model or a tool has answered is never asked for again, whatever happens to the handler."""

import asyncio
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent as Asked
from pydantic_ai import RunContext, UsageLimits
from pydantic_ai.exceptions import ModelHTTPError, UsageLimitExceeded
from pydantic_ai.messages import ModelMessage, ModelResponse, PartDeltaEvent, TextPart, TextPartDelta
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel as AnyModel
from tests.unit.scripted import Case, Script, breaks, call

from hocket import Context, Retry
from hocket.llm import Durable, ask_model


def test_a_handler_that_runs_again_reads_what_models_and_tools_have_answered() -> None:
    script, looked, fail = Script([call("look", x=1), call("look", x=2)], [call("look", x=3)]), [], breaks(3)
    asked = Asked(script.model, name="asked")

    @asked.tool_plain
    async def look(x: int) -> int:
        looked.append(x)
        return x * x

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, "squares")
        fail()
        return f"{result.output} after {result.usage.requests} requests"

    case = Case(answer)

    assert case.play() == "[1, 4, 9] after 3 requests"
    assert (case.attempts, script.requests, looked) == (4, [0, 1, 2], [1, 2, 3])
    assert case.steps[1:] == [
        "model.request 1",
        "look look-1",
        "look look-2",
        "model.request 2",
        "look look-3",
        "model.request 3",
    ]


def test_what_fails_is_up_to_the_handler_and_finished_answers_stay() -> None:
    script = Script([call("look")], ModelHTTPError(503, "m"), ModelHTTPError(500, "m"), "done")
    asked = Asked(script.model, name="asked")

    @asked.tool_plain
    async def look() -> str:
        return "seen"

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "look")).output

    case = Case(answer)

    assert case.play() == "done"
    assert (case.attempts, script.requests) == (3, [0, 1, 1, 1])


def test_a_model_may_have_a_retry_of_its_own_that_heeds_retry_after() -> None:
    slow = ModelHTTPError(429, "m", headers={"retry-after": "3600"})
    script = Script(slow, ModelHTTPError(503, "m"), "done")
    asked = Asked(script.model, name="asked", capabilities=[Durable(model_retry=Retry())])

    async def answer(ctx: Context) -> str:
        began = asyncio.get_running_loop().time()
        text = (await ask_model(ctx, asked, "?")).output
        return f"{text} {asyncio.get_running_loop().time() - began > 3600}"

    async def wait(case: Case) -> None:
        await asyncio.sleep(4000)

    case = Case(answer)

    assert case.play(wait) == "done True"
    assert case.attempts == 1


def test_what_is_refused_for_good_is_not_asked_for_again_by_the_models_retry() -> None:
    script = Script(ModelHTTPError(401, "m"), "never")
    asked = Asked(script.model, name="asked", capabilities=[Durable(model_retry=Retry())])

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "?")).output

    assert "401" in Case(answer, retry=Retry(attempts_max=1)).play()
    assert script.requests == [0]


class City(BaseModel):
    name: str
    people: int


def test_an_output_has_its_type_after_a_crash_too() -> None:
    script = Script([call("final_result", name="Oslo", people=700_000)])
    asked, fail = Asked(script.model, name="asked", output_type=City), breaks(1)

    async def answer(ctx: Context) -> str:
        city = (await ask_model(ctx, asked, "where?")).output
        fail()
        return f"{city.name} {city.people}"

    assert Case(answer).play() == "Oslo 700000"
    assert script.requests == [0]


def test_a_conversation_goes_on_with_the_messages_of_the_one_before() -> None:
    script, fail = Script("first", "second"), breaks(1)
    asked = Asked(script.model, name="asked")

    async def answer(ctx: Context) -> str:
        first = await ask_model(ctx, asked, "one")
        second = await ask_model(ctx, asked, "two", message_history=first.all_messages())
        fail()
        return f"{first.output} {second.output} {first.run_id != second.run_id}"

    assert Case(answer).play() == "first second True"
    assert script.requests == [0, 1]


def test_a_run_has_the_same_identity_whenever_the_handler_runs_again() -> None:
    asked, fail, seen = Asked(Script("done").model, name="asked"), breaks(2), set()

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, "?")
        seen.add((result.run_id, result.conversation_id))
        fail()
        return result.output

    assert Case(answer).play() == "done"
    assert len(seen) == 1


def test_chains_of_inquiries_side_by_side_have_names_of_their_own() -> None:
    async def echo(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        said = str(messages[-1].parts[-1].content)  # type: ignore[union-attr]  # a prompt has a text
        requests.append(said)
        await asyncio.sleep(len(said))
        return ModelResponse(parts=[TextPart(said + said[0])])

    requests, fail = list[str](), breaks(1)
    asked = Asked(FunctionModel(echo), name="asked")

    async def chain(ctx: Context, said: str, name: str) -> str:
        for _ in range(2):
            said = (await ask_model(ctx, asked, said, name=name)).output
        return said

    async def answer(ctx: Context) -> str:
        both = await asyncio.gather(chain(ctx, "aaa", "one"), chain(ctx, "b", "two"))
        fail()
        return " ".join(both)

    assert Case(answer).play() == "aaaaa bbb"
    assert len(requests) == 4


def test_limits_count_what_was_asked_before_a_crash_too() -> None:
    script, fail = Script([call("look")], [call("look", id="again")]), breaks(1)
    asked = Asked(script.model, name="asked")

    @asked.tool_plain
    async def look() -> str:
        fail()
        return "seen"

    async def answer(ctx: Context) -> str:
        try:
            return (await ask_model(ctx, asked, "look", usage_limits=UsageLimits(request_limit=2))).output
        except UsageLimitExceeded as error:
            return str(error)

    assert "request_limit of 2" in Case(answer).play()
    assert script.requests == [0, 1]


def test_what_a_model_streams_can_be_said_to_whoever_listens() -> None:
    said, fail = list[str](), breaks(1)

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> Any:
        for word in ("one ", "two"):
            yield word

    async def say(run: RunContext[Context], events: Any) -> None:
        async for event in events:
            if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                said.append(event.delta.content_delta)
                await run.deps.stream(event.delta.content_delta)

    durable = Durable[Context](event_stream_handler=say)
    asked = Asked(FunctionModel(stream_function=stream), name="asked", deps_type=Context, capabilities=[durable])

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, "?", deps=ctx)
        fail()
        return result.output

    assert Case(answer).play() == "one two"
    assert "".join(said).endswith("two")
    assert said.count("two") == 1, "what is read from the journal is not said again"


def test_a_double_may_take_the_models_place() -> None:
    asked, given = Asked(AnyModel(), name="asked"), Asked(AnyModel(), name="given")
    asked.model = AnyModel(custom_output_text="replaced")

    async def answer(ctx: Context) -> str:
        first = (await ask_model(ctx, asked, "?")).output
        return f"{first} {(await ask_model(ctx, given, '?', model=Script('given').model)).output}"

    assert Case(answer).play() == "replaced given"


def test_an_agent_without_a_name_is_refused() -> None:
    asked = Asked(AnyModel())

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "?")).output

    assert "needs a name" in Case(answer).play()


async def test_an_agent_with_the_capability_is_an_ordinary_one_outside_of_handlers() -> None:
    asked = Asked(AnyModel(custom_output_text="plain"), name="asked", capabilities=[Durable()])

    assert (await asked.run("?")).output == "plain"
