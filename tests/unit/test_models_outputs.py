"""What an agent makes of an answer: whatever shape it wants, a crash changes nothing and asks nothing again."""

from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent as Asked
from pydantic_ai import ModelRetry, NativeOutput, PromptedOutput, RunContext, TextOutput, ToolOutput
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.profiles import ModelProfile
from tests.unit.scripted import Case, Script, asking, breaks, call

from hocket import Context, Retry
from hocket.llm import ask_model


class City(BaseModel):
    name: str
    people: int


def test_an_answer_that_is_a_text() -> None:
    script = Script("forty-two")

    assert Case(asking(Asked(script.model, name="asked"))).play() == "forty-two"
    assert script.requests == [0]


def test_an_answer_in_the_wrong_shape_is_repaired_by_the_model_once() -> None:
    script = Script([call("final_result", id="wrong", name="Oslo")], [call("final_result", name="Oslo", people=7)])
    asked = Asked(script.model, name="asked", output_type=City)

    assert Case(asking(asked)).play() == "name='Oslo' people=7"
    assert script.requests == [0, 1]


def test_what_a_validator_sends_back_is_not_requested_again() -> None:
    script, seen = Script("rude", "kind"), list[str]()
    asked = Asked(script.model, name="asked", retries=2)

    @asked.output_validator
    async def be_kind(text: str) -> str:
        seen.append(text)
        if text == "rude":
            raise ModelRetry("be kind")
        return text.upper()

    assert Case(asking(asked)).play() == "KIND"
    assert script.requests == [0, 1]
    assert seen == ["rude", "kind"] * 2, "a validator is code of the handler: it runs again with it"


def test_a_validator_may_look_at_the_deps() -> None:
    asked = Asked(Script("eleven").model, name="asked", deps_type=int)

    @asked.output_validator
    async def short(run: RunContext[int], text: str) -> str:
        return text[: run.deps]

    assert Case(asking(asked, deps=3)).play() == "ele"


def test_an_answer_that_never_fits_fails_the_handler_and_stays_remembered() -> None:
    script = Script(*[[call("final_result", id=f"wrong-{n}", name="Oslo")] for n in range(2)])
    asked = Asked(script.model, name="asked", output_type=City, retries=1)

    case = Case(asking(asked), retry=Retry(attempts_max=3, first_s=0.1))

    assert case.play() == "asked: Exceeded maximum output retries (1)"
    assert (case.attempts, script.requests) == (1, [0, 1]), "no attempt reads another answer"


def test_an_output_tool_of_its_own_name() -> None:
    script = Script([call("found", name="Oslo", people=7)])
    asked = Asked(script.model, name="asked", output_type=ToolOutput(City, name="found"))

    assert Case(asking(asked)).play() == "name='Oslo' people=7"
    assert script.requests == [0]


def test_one_of_several_outputs() -> None:
    class Unknown(BaseModel):
        why: str

    script = Script([call("final_result_Unknown", why="no map")])
    asked = Asked[None, City | Unknown](script.model, name="asked", output_type=[City, Unknown])

    assert Case(asking(asked)).play() == "why='no map'"
    assert script.requests == [0]


def test_an_output_function_makes_the_answer_and_runs_with_the_handler() -> None:
    made = list[str]()

    async def make(name: str, people: int) -> str:
        """Make a sentence of a city."""
        made.append(name)
        return f"{people} live in {name}"

    script = Script([call("final_result", name="Oslo", people=7)])

    assert Case(asking(Asked(script.model, name="asked", output_type=make))).play() == "7 live in Oslo"
    assert script.requests == [0]
    assert made == ["Oslo", "Oslo"], "it is code of the handler: it runs again with it"


def test_an_output_function_that_sends_the_answer_back() -> None:
    async def make(people: int) -> str:
        """Say how many there are."""
        if people < 0:
            raise ModelRetry("more than none")
        return f"{people} people"

    script = Script([call("final_result", people=-1)], [call("final_result", people=7)])

    assert Case(asking(Asked(script.model, name="asked", output_type=make, retries=2))).play() == "7 people"
    assert script.requests == [0, 1]


def test_an_output_function_may_do_a_step() -> None:
    made = list[str]()

    async def note(text: str) -> str:
        made.append(text)
        return text.upper()

    async def make(run: RunContext[Context], text: str) -> str:
        """Note it."""
        return await run.deps.step(note, text)

    script = Script([call("final_result", text="so")])
    asked = Asked(script.model, name="asked", deps_type=Context, output_type=make)
    fail = breaks(1)

    async def answer(ctx: Context) -> str:
        text = (await ask_model(ctx, asked, "?", deps=ctx)).output
        fail()
        return text

    assert Case(answer).play() == "SO"
    assert made == ["so"]


def test_a_text_that_a_function_reads() -> None:
    async def words(text: str) -> list[str]:
        return text.split()

    asked = Asked(Script("a b c").model, name="asked", output_type=TextOutput(words))

    assert Case(asking(asked)).play() == "['a', 'b', 'c']"


def test_an_output_that_the_model_makes_natively_or_is_prompted_for() -> None:
    async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        requests.append(info.model_request_parameters.output_mode)
        return ModelResponse(parts=[TextPart('{"name": "Oslo", "people": 7}')])

    requests = list[str]()
    model = FunctionModel(respond, profile=ModelProfile(supports_json_schema_output=True))
    wanted: list[Any] = [NativeOutput(City), PromptedOutput(City)]

    answers = [Case(asking(Asked(model, name="asked", output_type=each))).play() for each in wanted]

    assert answers == ["name='Oslo' people=7"] * 2
    assert requests == ["native", "prompted"]


def test_an_output_beside_calls_of_tools_ends_the_run() -> None:
    looked = list[int]()
    script = Script([call("look", x=1), call("final_result", name="Oslo", people=7)])
    asked = Asked(script.model, name="asked", output_type=City, end_strategy="exhaustive")

    @asked.tool_plain
    async def look(x: int) -> int:
        looked.append(x)
        return x

    assert Case(asking(asked)).play() == "name='Oslo' people=7"
    assert (script.requests, looked) == ([0], [1])


def test_an_empty_answer_is_requested_again_and_remembered() -> None:
    async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        requests.append(len(messages))
        return ModelResponse(parts=[] if len(requests) == 1 else [TextPart("something")])

    requests = list[int]()

    assert Case(asking(Asked(FunctionModel(respond), name="asked", retries=2))).play() == "something"
    assert len(requests) == 2


def test_arguments_that_are_no_json_are_sent_back_to_the_model() -> None:
    script, looked = Script([ToolCallPart("look", "{x:", tool_call_id="bad")], [call("look", x=2)]), list[int]()
    asked = Asked(script.model, name="asked", retries=2)

    @asked.tool_plain
    async def look(x: int) -> int:
        looked.append(x)
        return x

    assert Case(asking(asked)).play().endswith("2]")
    assert (script.requests, looked) == ([0, 1, 2], [2])
