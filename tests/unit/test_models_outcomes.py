"""How asking a model can end without an answer: each way has a name, is final, and a policy may ask anew."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent as Asked
from pydantic_ai import ModelRetry, UsageLimits
from pydantic_ai.exceptions import ContentFilterError, ModelAPIError, ModelHTTPError, UnexpectedModelBehavior
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.unit.scripted import Case, breaks, call

from hocket import Context
from hocket.llm import Durable, ask_model
from hocket.llm.errors import InvalidAnswer, NoAnswer, Refused, RepeatedCall


class City(BaseModel):
    name: str
    people: int


class Model:
    """Answers each request with the next of some responses, and then with the last again and again."""

    def __init__(self, *responses: ModelResponse | Exception, name: str = "model") -> None:
        self.responses = list(responses)
        self.requests = 0
        self.model = FunctionModel(self.respond, model_name=name)

    async def respond(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.requests += 1
        await asyncio.sleep(0.01)
        response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        if isinstance(response, Exception):
            raise response
        return response


def says(*parts: Any, **fields: Any) -> ModelResponse:
    return ModelResponse(parts=[TextPart(p) if isinstance(p, str) else p for p in parts], **fields)


FILTERED = says(finish_reason="content_filter")
LOOK = says(call("look", x=1))


def dead(case: Case) -> str:
    async def look(case: Case) -> None:
        await case.bed.quiet()
        reasons.extend(str(letter["reason"]) for letter in case.bed.dead(case.crew))

    reasons = list[str]()
    case.play(look)
    [reason] = reasons
    return reason


@pytest.mark.parametrize(
    ("responses", "options", "reason", "requests"),
    [
        ([FILTERED], {}, "Refused", 1),
        ([ContentFilterError("blocked")], {}, "Refused", 1),
        ([says()], {}, "NoAnswer", 2),
        ([says("", finish_reason="length")], {}, "TooLong", 1),
        ([says(ToolCallPart("final_result", {"name": "Oslo"}))], {"output_type": City}, "InvalidAnswer", 2),
        ([says(ToolCallPart("look", {"x": "far"}))], {}, "InvalidAnswer", 2),
        ([LOOK], {}, "RepeatedCall", 4),
        ([LOOK], {"usage_limits": UsageLimits(request_limit=2)}, "OverLimit", 2),
    ],
    ids=["filtered", "blocked", "empty", "too long", "untyped", "bad call", "repeated", "over limit"],
)
def test_each_way_to_no_answer_has_a_name_and_is_a_dead_letter_at_once(
    responses: list[Any], options: dict[str, Any], reason: str, requests: int
) -> None:
    model = Model(*responses)
    asked = Asked(model.model, name="asked", retries=1, capabilities=[Durable(repeats_max=3)])

    @asked.tool_plain
    async def look(x: int) -> str:
        return "seen"

    async def answer(ctx: Context) -> str:
        return str((await ask_model(ctx, asked, "?", **options)).output)

    case = Case(answer)

    assert dead(case) == reason
    assert (case.attempts, model.requests) == (1, requests)


def test_an_outcome_is_remembered_and_the_handler_may_catch_it() -> None:
    model, fail = Model(ContentFilterError("blocked"), says("never")), breaks(2)
    asked = Asked(model.model, name="asked")

    async def answer(ctx: Context) -> str:
        try:
            return (await ask_model(ctx, asked, "?")).output
        except Refused as refusal:
            fail()
            return str(refusal)

    assert "blocked" in Case(answer).play()
    assert model.requests == 1


def test_an_outcome_is_still_the_error_of_pydantic_ai_that_it_was() -> None:
    assert issubclass(Refused, ContentFilterError)
    assert issubclass(InvalidAnswer, UnexpectedModelBehavior)


def test_what_fails_on_the_way_to_the_model_is_no_outcome() -> None:
    model = Model(UnexpectedModelBehavior("no JSON"), says("done"))
    asked = Asked(model.model, name="asked")

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "?")).output

    assert Case(answer).play() == "done"
    assert model.requests == 2


def test_it_may_be_asked_anew_after_some_outcomes_and_a_replay_does_not_ask_again() -> None:
    model, fail = Model(FILTERED, says(), says(), FILTERED, says("at last")), breaks(2)
    asked = Asked(model.model, name="asked", retries=1)

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, "?", again={Refused: 2, NoAnswer: 1})
        fail()
        return result.output

    assert Case(answer).play() == "at last"
    assert model.requests == 5


def test_asking_anew_comes_to_its_end() -> None:
    model = Model(FILTERED)
    asked = Asked(model.model, name="asked")

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "?", again={Refused: 2})).output

    assert dead(Case(answer)) == "Refused"
    assert model.requests == 3


def test_a_tool_that_polls_may_be_called_as_often_as_the_model_likes() -> None:
    model = Model(*[LOOK] * 4, says("done"))
    asked = Asked(model.model, name="asked", capabilities=[Durable(repeats_max=2)])

    @asked.tool_plain(metadata={"hocket_polls": True})
    async def look(x: int) -> str:
        return "seen"

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "?")).output

    assert Case(answer).play() == "done"


def test_a_repeated_call_says_which_tool_it_was() -> None:
    asked = Asked(Model(LOOK).model, name="asked", capabilities=[Durable(repeats_max=2)])

    @asked.tool_plain
    async def look(x: int) -> str:
        return "seen"

    async def answer(ctx: Context) -> str:
        try:
            return (await ask_model(ctx, asked, "?")).output
        except RepeatedCall as repeated:
            return f"{repeated.tool} {repeated.count}"

    assert Case(answer).play() == "look 3"


def test_another_model_may_answer_instead_in_the_same_step() -> None:
    async def rejects(response: ModelResponse) -> bool:
        return "nonsense" in response.text if response.text else False

    down, refusing, raving = Model(ModelHTTPError(503, "m")), Model(FILTERED), Model(says("nonsense"))
    last, fail = Model(says("done")), breaks(1)
    models = [each.model for each in (down, refusing, raving, last)]
    asked = Asked(FallbackModel(*models, fallback_on=[ModelAPIError, ContentFilterError, rejects]), name="asked")

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, "?")
        fail()
        return result.output

    case = Case(answer)

    assert case.play() == "done"
    assert [each.requests for each in (down, refusing, raving, last)] == [1, 1, 1, 1]
    assert len(case.steps) == 2


def test_repairs_of_an_output_are_requests_of_their_own_and_remembered() -> None:
    model = Model(says(ToolCallPart("final_result", {"name": "Oslo"})), says("no"), says("Oslo"))
    asked, fail = Asked(model.model, name="asked", retries=2), breaks(1)

    @asked.output_validator
    async def named(output: str) -> str:
        if output != "Oslo":
            raise ModelRetry("name the city")
        return output

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, "?")
        fail()
        return result.output

    assert Case(answer).play() == "Oslo"
    assert model.requests == 3
