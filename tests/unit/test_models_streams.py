"""Agents that are listened to, gone through node by node, or read as a stream: it is the same when it is replayed."""

import asyncio
from typing import Any

from pydantic_ai import Agent as Asked
from pydantic_ai import RunContext
from pydantic_ai.messages import FunctionToolCallEvent, FunctionToolResultEvent, ModelMessage, PartStartEvent
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from tests.unit.scripted import Case, Script, asking, breaks, call, told, two_days

from hocket import Context
from hocket.llm import Durable, ask_model, iter_model, stream_model


class Stream:
    """A model that speaks in pieces: it calls a tool, then says what came of it; and it fails when it is told to."""

    def __init__(self, *, calls: bool = True, breaks_at: int = 0) -> None:
        self.requests: list[int] = []
        self.calls = calls
        self.breaks_at = breaks_at
        self.model = FunctionModel(stream_function=self.speak)

    async def speak(self, messages: list[ModelMessage], info: AgentInfo) -> Any:
        self.requests.append(len(messages))
        if self.calls and len(messages) == 1:
            yield {0: DeltaToolCall("look", '{"x":', tool_call_id="look-1")}
            yield {0: DeltaToolCall(json_args=" 1}")}
            return
        for word in ("so: ", str(told(messages))):
            yield word
            await asyncio.sleep(1)
            if len(self.requests) == self.breaks_at:
                raise ConnectionError("cut off")


def eyes(stream: Stream, **options: Any) -> Asked[Any, str]:
    asked = Asked(stream.model, name="asked", **options)

    @asked.tool_plain
    async def look(x: int) -> int:
        return -x

    return asked


def test_one_who_listens_hears_of_the_models_pieces_and_of_calls_once() -> None:
    async def listen(run: RunContext[None], events: Any) -> None:
        async for event in events:
            heard.append(type(event))

    heard, stream = list[type](), Stream()
    asked = eyes(stream, capabilities=[Durable(event_stream_handler=listen)])

    assert Case(asking(asked, fails=2)).play() == "so: [-1]"
    assert len(stream.requests) == 2
    assert heard.count(FunctionToolCallEvent) == heard.count(FunctionToolResultEvent) == 1
    assert heard.count(PartStartEvent) == 2, "a call and a text"


def test_one_who_listens_to_one_question_hears_the_replay_too() -> None:
    async def listen(run: RunContext[None], events: Any) -> None:
        async for event in events:
            heard.append(type(event))

    heard, stream = list[type](), Stream()

    assert Case(asking(eyes(stream), event_stream_handler=listen)).play() == "so: [-1]"
    assert len(stream.requests) == 2
    assert heard.count(FunctionToolResultEvent) == 2, "it is code of the handler: it runs again with it"


def test_a_stream_that_is_cut_off_is_requested_again() -> None:
    async def listen(run: RunContext[None], events: Any) -> None:
        async for event in events:
            heard.append(event)

    heard, stream = list[Any](), Stream(calls=False, breaks_at=1)
    asked = eyes(stream, capabilities=[Durable(event_stream_handler=listen)])

    assert Case(asking(asked)).play() == "so: []"
    assert len(stream.requests) == 2


def test_a_listener_that_fails_fails_the_handler() -> None:
    async def listen(run: RunContext[None], events: Any) -> None:
        async for _ in events:
            fail()

    fail, stream = breaks(1), Stream()
    case = Case(asking(eyes(stream, capabilities=[Durable(event_stream_handler=listen)]), fails=0))

    assert case.play() == "so: [-1]"
    assert case.attempts == 2


def test_a_run_may_be_gone_through_node_by_node() -> None:
    script, fail, looked = Script([call("look", x=1)]), breaks(2), list[int]()
    asked = Asked(script.model, name="asked")

    @asked.tool_plain
    async def look(x: int) -> int:
        looked.append(x)
        return x

    async def answer(ctx: Context) -> str:
        nodes = list[str]()
        async with iter_model(ctx, asked, "?") as run:
            async for node in run:
                nodes.append(type(node).__name__)
                if len(nodes) == 4:
                    fail()
        assert run.result is not None
        return f"{len(nodes)} {run.result.output}"

    case = Case(answer)

    assert case.play() == "6 [1]"
    assert (case.attempts, script.requests, looked) == (3, [0, 1], [1])


def test_a_run_that_is_gone_through_waits_for_an_approval() -> None:
    script = Script([call("buy", cents=7)])
    asked = Asked(script.model, name="asked")

    @asked.tool_plain(requires_approval=True)
    async def buy(cents: int) -> int:
        return cents

    async def answer(ctx: Context) -> str:
        async with iter_model(ctx, asked, "?") as run:
            async for _ in run:
                pass
        assert run.result is not None
        return str(run.result.output)

    async def wait(case: Case) -> None:
        await two_days(case)
        await case.bed.decide()

    assert Case(answer).play(wait) == "[7]"
    assert script.requests == [0, 1]


def test_a_run_that_is_gone_through_may_be_left_early() -> None:
    script, fail = Script([call("look", x=1)]), breaks(1)
    asked = Asked(script.model, name="asked")

    @asked.tool_plain
    async def look(x: int) -> int:
        return x

    async def answer(ctx: Context) -> str:
        async with iter_model(ctx, asked, "?") as run:
            async for node in run:
                if Asked.is_call_tools_node(node):
                    break
        later = await ask_model(ctx, asked, "??", name="later")
        fail()
        return str(later.output)

    assert Case(answer).play() == "[1]"
    assert script.requests == [0, 0, 1]


def test_a_stream_is_read_when_the_answer_is_complete_and_again_when_it_is_replayed() -> None:
    stream, fail, read = Stream(), breaks(1), list[list[str]]()
    asked = eyes(stream)

    async def answer(ctx: Context) -> str:
        async with stream_model(ctx, asked, "?") as result:
            read.append([text async for text in result.stream_text(delta=True, debounce_by=None)])
        fail()
        return "".join(read[-1])

    assert Case(answer).play() == "so: [-1]"
    assert len(stream.requests) == 2
    assert read[0] == read[1]


def test_a_node_may_be_streamed_too() -> None:
    stream, fail, pieces = Stream(calls=False), breaks(1), list[int]()
    asked = eyes(stream)

    async def answer(ctx: Context) -> str:
        async with iter_model(ctx, asked, "?") as run:
            async for node in run:
                if Asked.is_model_request_node(node):
                    async with node.stream(run.ctx) as events:
                        pieces.append(len([event async for event in events]))
        fail()
        assert run.result is not None
        return str(run.result.output)

    assert Case(answer).play() == "so: []"
    assert len(stream.requests) == 1
    assert pieces[0] == pieces[1]
