"""Agents with models: what a model or a tool has answered is never asked for again, whatever happens to the handler."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent as Asked
from pydantic_ai import ModelRetry, RunContext, UsageLimits
from pydantic_ai.exceptions import ModelHTTPError, UsageLimitExceeded
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    PartDeltaEvent,
    TextPart,
    TextPartDelta,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel as AnyModel
from pydantic_ai.toolsets import FunctionToolset

from hocket import Agent, Context, Retry
from hocket.errors import UsageError
from hocket.llm import Approvals, Durable, ask_model, effect_tool
from hocket.observe.history import Remembered, history
from hocket.testing import Bed, run_virtual
from hocket_schemas.approvals import ApprovalRequested
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()


class Put(Event, type="question.put.v1", catalog=EVENTS):
    text: str = "?"


class Answered(Event, type="question.answered.v1", catalog=EVENTS):
    text: str


def call(name: str, /, id: str = "", **arguments: Any) -> ToolCallPart:
    return ToolCallPart(name, arguments, tool_call_id=id or f"{name}-{'-'.join(map(str, arguments.values()))}")


class Script:
    """A model that plays one turn after the other: calls of tools, a text, or a failure; the last says what came."""

    def __init__(self, *turns: list[ToolCallPart] | str | Exception) -> None:
        self.turns = list(turns)
        self.requests: list[int] = []
        self.model = FunctionModel(self.respond)

    async def respond(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        self.requests.append(turn)
        await asyncio.sleep(1)
        if turn == len(self.turns):
            return ModelResponse(parts=[TextPart(f"{told(messages)}")])
        match self.turns[turn]:
            case Exception() as failure:
                self.turns.pop(turn)
                raise failure
            case str(text):
                return ModelResponse(parts=[TextPart(text)])
            case calls:
                return ModelResponse(parts=list(calls))


def told(messages: list[ModelMessage]) -> list[Any]:
    return [part.content for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]


class Case:
    """One agent of hocket, the handler of which does what a test says."""

    def __init__(self, answer: Callable[[Context], Awaitable[str]], *, retry: Retry | None = None) -> None:
        self.attempts = 0
        self.crew = Agent("crew")

        async def handle(event: Put, ctx: Context) -> Answered:
            self.attempts += 1
            return Answered(text=await answer(ctx))

        self.crew.on(Put, retry=retry)(handle)
        self.bed: Bed
        self.steps: list[str] = []

    def play(self, script: Callable[["Case"], Coroutine[Any, Any, None]] | None = None) -> str:
        """What is answered in the end; or the error of the dead letter."""

        async def main() -> str:
            async with Bed(self.crew) as self.bed:
                await self.bed.publish(Put(), key="k")
                if script is not None:
                    await script(self)
                await self.bed.quiet()
                entries = [entry for entry in await history(self.bed.bus, "k") if isinstance(entry, Remembered)]
                self.steps = [entry.name.partition(": ")[2] or entry.name for entry in entries]
                answers = [answer.text for answer in self.bed.events(Answered)]
                return answers[0] if answers else str(self.bed.dead(self.crew)[0]["error"])

        return run_virtual(main())


def breaks(times: int) -> Callable[[], None]:
    """Fails so many times."""
    left = [times]

    def fail() -> None:
        if left[0]:
            left[0] -= 1
            raise ConnectionError("not yet")

    return fail


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
        "model.request",
        "look look-1",
        "look look-2",
        "model.request",
        "look look-3",
        "model.request",
    ]


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


def buyer(script: Script, bought: list[int], **durable: Any) -> Asked[None, str]:
    asked = Asked(script.model, name="buyer", capabilities=[Durable(**durable)])

    @asked.tool_plain(requires_approval=True)
    async def buy(cents: int) -> str:
        bought.append(cents)
        return f"bought for {cents}"

    return asked


async def two_days(case: Case) -> None:
    await case.bed.settled()
    await case.bed.pass_time(timedelta(days=2))


def test_a_call_that_wants_an_approval_waits_for_two_days_in_the_log() -> None:
    script, bought = Script([call("buy", cents=700)]), list[int]()
    asked = buyer(script, bought)

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "buy")).output

    async def wait(case: Case) -> None:
        await two_days(case)
        assert bought == []
        assert [request.details for request in case.bed.events(ApprovalRequested)] == [{"cents": 700}]
        await case.bed.decide(by="ada")

    assert Case(answer).play(wait) == "['bought for 700']"
    assert (script.requests, bought) == ([0, 1], [700])


@pytest.mark.parametrize(
    ("terms", "decision", "outcome", "spent"),
    [
        ({}, {"edited": {"cents": 100}}, "['bought for 100']", [100]),
        ({}, {"option": "deny", "reason": "too dear"}, "['The call was not approved: too dear.']", []),
        ({"timeout": timedelta(days=1)}, None, "['The call was not approved: expired.']", []),
    ],
    ids=["edited", "denied", "expired"],
)
def test_what_people_decide_is_what_the_tool_and_the_model_get(
    terms: dict[str, Any], decision: dict[str, Any] | None, outcome: str, spent: list[int]
) -> None:
    bought = list[int]()
    asked = buyer(Script([call("buy", cents=700)]), bought, approvals=Approvals(**terms))

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "buy")).output

    async def decide(case: Case) -> None:
        await two_days(case)
        if decision is not None:
            await case.bed.decide(**decision)

    assert Case(answer).play(decide) == outcome
    assert bought == spent


def test_several_approvals_of_one_turn_are_asked_for_one_after_the_other() -> None:
    script, bought = Script([call("buy", cents=1), call("buy", cents=2)]), list[int]()
    asked = buyer(script, bought)

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "buy")).output

    async def decide(case: Case) -> None:
        await case.bed.decide()
        await case.bed.decide("deny", reason="one will do")

    assert Case(answer).play(decide) == "['bought for 1', 'The call was not approved: one will do.']"
    assert (script.requests, bought) == ([0, 1], [1])


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
