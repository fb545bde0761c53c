"""What is said to a model and what is known of it: the same whenever the handler runs again, and asked for once."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pydantic_ai import Agent as Asked
from pydantic_ai import CancellationToken, RunContext, RunUsage, UsageLimits
from pydantic_ai.capabilities import ModelFallback, ProcessHistory
from pydantic_ai.exceptions import ModelHTTPError, UserError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, SystemPromptPart, TextPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.unit.scripted import Case, Script, asking, breaks, call, two_days

from hocket import Context, Retry
from hocket.llm import Durable, ask_model


class Seen:
    """A model that answers at once, and what it was sent."""

    def __init__(self, said: str = "done") -> None:
        self.messages: list[list[ModelMessage]] = []
        self.infos: list[AgentInfo] = []
        self.said = said
        self.model = FunctionModel(self.respond)

    async def respond(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.messages.append(messages)
        self.infos.append(info)
        return ModelResponse(parts=[TextPart(self.said)])


def test_deps_reach_the_tools_and_need_be_no_json() -> None:
    class Depot:
        stock = 7

    script = Script([call("count")])
    asked = Asked(script.model, name="asked", deps_type=Depot)

    @asked.tool
    async def count(run: RunContext[Depot]) -> int:
        return run.deps.stock

    assert Case(asking(asked, deps=Depot())).play() == "[7]"
    assert script.requests == [0, 1]


def test_instructions_and_system_prompts_are_made_anew_and_the_answer_stays() -> None:
    made, seen = list[str](), Seen()
    asked = Asked(seen.model, name="asked", instructions="Be brief.", deps_type=str)

    @asked.instructions
    async def who(run: RunContext[str]) -> str:
        made.append(run.deps)
        return f"You serve {run.deps}."

    @asked.system_prompt
    async def greet(run: RunContext[str]) -> str:
        return f"Greet {run.deps}."

    assert Case(asking(asked, deps="Ada")).play() == "done"
    assert made == ["Ada", "Ada"], "they are code of the handler: they run again with it"
    [sent] = seen.messages
    [request] = [message for message in sent if isinstance(message, ModelRequest)]
    assert request.instructions == "Be brief.\n\nYou serve Ada."
    assert [part.content for part in request.parts if isinstance(part, SystemPromptPart)] == ["Greet Ada."]


def test_a_processor_of_the_history_changes_what_is_sent() -> None:
    async def last(messages: list[ModelMessage]) -> list[ModelMessage]:
        return messages[-1:]

    seen = Seen()
    asked = Asked(seen.model, name="asked", capabilities=[ProcessHistory(last)])

    async def answer(ctx: Context) -> str:
        first = await ask_model(ctx, asked, "one")
        return (await ask_model(ctx, asked, "two", message_history=first.all_messages())).output

    assert Case(answer).play() == "done"
    assert [len(sent) for sent in seen.messages] == [1, 1]


def test_settings_reach_the_model() -> None:
    seen = Seen()
    asked = Asked(seen.model, name="asked", model_settings={"temperature": 0.5})

    assert Case(asking(asked, model_settings={"max_tokens": 7})).play() == "done"
    assert seen.infos[0].model_settings == {"temperature": 0.5, "max_tokens": 7}


def test_ids_that_are_given_are_kept() -> None:
    asked, ids = Asked(Seen().model, name="asked"), list[tuple[str, str]]()

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, "?", run_id="mine", conversation_id="ours")
        ids.append((result.run_id, result.conversation_id))
        return result.output

    assert Case(answer).play() == "done"
    assert ids == [("mine", "ours")]


def test_answers_usage_and_identity_are_the_same_when_the_handler_runs_again() -> None:
    script, fail, seen = Script([call("look")], "done"), breaks(2), list[Any]()
    asked = Asked(script.model, name="asked")

    @asked.tool_plain
    async def look() -> str:
        return "seen"

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, "?", metadata={"asked": "here"})
        responses = [message for message in result.new_messages() if isinstance(message, ModelResponse)]
        seen.append((responses, [message.timestamp for message in responses], result.usage, result.metadata))
        fail()
        return result.output

    assert Case(answer).play() == "done"
    assert seen[0] == seen[1] == seen[2]


def test_usage_is_counted_over_several_inquiries_and_a_crash() -> None:
    asked, fail, counted = Asked(Seen().model, name="asked"), breaks(1), list[int]()

    async def answer(ctx: Context) -> str:
        usage = RunUsage()
        for _ in range(3):
            result = await ask_model(ctx, asked, "?", usage=usage)
        counted.append(usage.requests)
        fail()
        return result.output

    assert Case(answer).play() == "done"
    assert counted == [3, 3]


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (UsageLimits(tool_calls_limit=1), "tool_calls_limit"),
        (UsageLimits(output_tokens_limit=3), "output_tokens_limit"),
        (UsageLimits(request_limit=1), "request_limit"),
    ],
    ids=["calls", "tokens", "requests"],
)
def test_what_goes_beyond_a_limit_fails_the_handler(limits: UsageLimits, error: str) -> None:
    script = Script([call("look", x=1), call("look", x=2)])
    asked = Asked(script.model, name="asked")

    @asked.tool_plain
    async def look(x: int) -> str:
        return "seen"

    answer = Case(asking(asked, usage_limits=limits), retry=Retry(attempts_max=2, first_s=0.1)).play()

    assert error in answer
    assert script.requests == [0], "what was asked is not asked again for that"


def test_the_time_of_a_run_passes_while_it_waits_for_a_person() -> None:
    script = Script([call("buy")])
    asked = Asked(script.model, name="asked")

    @asked.tool_plain(requires_approval=True)
    async def buy() -> str:
        return "bought"

    async def wait(case: Case) -> None:
        await two_days(case)
        await case.bed.decide()

    retry = Retry(attempts_max=1)

    assert "RunTimedOut" in Case(asking(asked, timeout=3600), retry=retry).play(wait)
    assert Case(asking(asked, timeout=timedelta(days=3).total_seconds())).play(wait) == "['bought']"


def test_a_model_that_falls_back_is_one_step() -> None:
    first, second = Script(ModelHTTPError(503, "m"), "too late"), Script("second")
    asked = Asked(FallbackModel(first.model, second.model), name="asked")

    assert Case(asking(asked)).play() == "second"
    assert (first.requests, second.requests) == ([0], [0])


def test_a_capability_that_falls_back_mistakes_no_turn_for_another() -> None:
    first = Script(ModelHTTPError(503, "m"), [call("look", x=1)], ModelHTTPError(503, "m"), ModelHTTPError(503, "m"))
    second, fail = Script([call("look", x=2)], "second"), breaks(1)
    capabilities = [Durable(models={"second": second.model}), ModelFallback(second.model)]
    asked = Asked(first.model, name="asked", capabilities=capabilities)

    @asked.tool_plain
    async def look(x: int) -> int:
        fail()
        return x

    assert Case(asking(asked, fails=0)).play() == "second"
    assert second.requests == [0, 1]


def test_a_model_is_named_by_its_key() -> None:
    one, two = Seen("one"), Seen("two")
    asked = Asked(one.model, name="asked", capabilities=[Durable(models={"cheap": two.model})])

    assert Case(asking(asked, model="cheap")).play() == "two"
    assert Case(asking(asked, model=two.model)).play() == "two"
    assert (len(one.messages), len(two.messages)) == (0, 2)


def test_a_model_that_nobody_told_of_is_refused() -> None:
    asked, other = Asked(Seen().model, name="asked"), Seen()

    async def answer(ctx: Context) -> str:
        with asked.override(model=other.model):
            return (await ask_model(ctx, asked, "?")).output

    assert "was not registered with `Durable`" in Case(answer).play()
    assert other.messages == []


def test_another_model_is_asked_only_for_what_is_not_answered_yet() -> None:
    one, two, fail = Script([call("look", x=1)], "one"), Script("never", "two"), breaks(1)
    asked = Asked(one.model, name="asked")

    @asked.tool_plain
    async def look(x: int) -> int:
        if x == 1 and not two.requests:
            asked.model = two.model
        fail()
        return x

    assert Case(asking(asked, fails=0)).play() == "two"
    assert (one.requests, two.requests) == ([0], [1])


def test_one_who_begins_to_listen_hears_only_what_is_not_answered_yet() -> None:
    async def stream(messages: list[ModelMessage], info: AgentInfo) -> Any:
        requests.append(len(messages))
        yield "done"

    async def listen(run: RunContext[None], events: Any) -> None:
        async for _ in events:
            heard.append(1)

    requests, heard, attempts = list[int](), list[int](), list[int]()
    asked = Asked(FunctionModel(Seen().respond, stream_function=stream), name="asked")

    async def answer(ctx: Context) -> str:
        attempts.append(1)
        handler = listen if len(attempts) > 1 else None
        text = (await ask_model(ctx, asked, "?", event_stream_handler=handler)).output
        if len(attempts) == 1:
            raise ConnectionError("not yet")
        return text

    assert Case(answer).play() == "done"
    assert requests == [], "the answer that came whole is the answer of who wants it in pieces, too"


def test_an_error_of_the_code_fails_the_handler_and_no_retry_of_the_model_repeats_it() -> None:
    async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        requests.append(1)
        raise UserError("misused")

    requests = list[int]()
    asked = Asked(FunctionModel(respond), name="asked", capabilities=[Durable(model_retry=Retry())])

    assert "misused" in Case(asking(asked), retry=Retry(attempts_max=1)).play()
    assert requests == [1]


def test_two_agents_are_asked_side_by_side() -> None:
    one, two, fail = Script("one"), Script("two"), breaks(1)
    left, right = Asked(one.model, name="left"), Asked(two.model, name="right")

    async def answer(ctx: Context) -> str:
        both = await asyncio.gather(ask_model(ctx, left, "?"), ask_model(ctx, right, "?"))
        fail()
        return " ".join(result.output for result in both)

    assert Case(answer).play() == "one two"
    assert (one.requests, two.requests) == ([0], [0])


def test_a_durable_agent_that_a_tool_runs_beside_its_step_is_refused() -> None:
    inner, outer = Script("deep"), Script([call("delve")])
    below = Asked(inner.model, name="below", capabilities=[Durable()])
    above = Asked(outer.model, name="above")

    @above.tool_plain(metadata={"hocket": False})
    async def delve() -> str:
        return (await below.run("?")).output

    assert "below is run within the inquiry of above; ask it by ask_model" in Case(asking(above)).play()
    assert inner.requests == []


def test_a_token_of_this_process_is_refused() -> None:
    asked = Asked(Seen().model, name="asked")

    assert "`cancellation_token` cannot be used" in Case(asking(asked, cancellation_token=CancellationToken())).play()


@pytest.mark.parametrize("what", ["enqueue", "cancel"])
def test_what_a_step_would_lose_is_refused(what: str) -> None:
    asked = Asked(Script([call("look")]).model, name="asked")

    @asked.tool
    async def look(run: RunContext[None]) -> str:
        run.enqueue("more") if what == "enqueue" else run.cancel()
        return "seen"

    refusal = Case(asking(asked)).play()

    assert what in refusal
    assert "is not supported inside a durable step" in refusal
