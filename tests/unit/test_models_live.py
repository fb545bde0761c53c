"""A model's tokens while it answers: for whoever listens, after a crash too, and cut off where a moderator says so."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai import Agent as Asked
from pydantic_ai import RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, PartDeltaEvent
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from tests.unit.scripted import Answered, Case, Put, breaks

from hocket import Agent, Context
from hocket.engine.live import Chunk
from hocket.llm import Durable, ask_model
from hocket.llm.errors import CutOff
from hocket.llm.live import cut_by
from hocket.observe.tail import tailing
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
WORDS = ["one ", "two ", "three ", "four"]


class Stop(Event, type="live.stop.v1", catalog=EVENTS):
    reason: str


class Speaker:
    """A model that says a word each second, after it has looked once."""

    def __init__(self, *, looks: bool = False, dies_at: int | None = None) -> None:
        self.requests = 0
        self.said: list[str] = []
        self.fail = breaks(0 if dies_at is None else 1)
        self.dies_at = dies_at
        self.looks = looks
        self.model = FunctionModel(stream_function=self.stream)

    async def stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        self.requests += 1
        if self.looks and not any(isinstance(message, ModelResponse) for message in messages):
            yield "let me see "
            yield {1: DeltaToolCall(name="look", json_args="{}", tool_call_id="look")}
            return
        for i, word in enumerate(WORDS):
            await asyncio.sleep(1)
            if i == self.dies_at:
                self.fail()
            self.said.append(word)
            yield word


def asked_by(speaker: Speaker, *capabilities: Any) -> Asked[None, str]:
    asked = Asked(speaker.model, name="speaker", capabilities=capabilities)

    @asked.tool_plain
    async def look() -> str:
        return "seen"

    return asked


def heard(agent: Agent, *, from_s: float = 0.0) -> tuple[str, str]:
    """What somebody reads who comes so late, and what is answered."""

    async def story() -> tuple[str, str]:
        async with Bed(agent) as bed:
            chunks: list[Chunk] = []

            async def read() -> None:
                await asyncio.sleep(from_s)
                async with tailing(bed.bus, "k") as said:
                    async for chunk in said:
                        chunks.append(chunk)

            reader = asyncio.ensure_future(read())
            await bed.publish(Put(), key="k")
            await bed.quiet()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            last = [chunk.text for chunk in chunks if chunk.execution == chunks[-1].execution]
            return "".join(last), bed.events(Answered)[0].text

    return run_virtual(story())


def test_tokens_are_heard_as_they_come_by_somebody_who_is_late_too() -> None:
    speaker = Speaker()
    asked = asked_by(speaker)
    case = Case(lambda ctx: answers(ctx))

    async def answers(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "?", live=True)).output

    assert heard(case.crew, from_s=2.5) == ("one two three four", "one two three four")


def test_after_a_crash_all_is_heard_again_and_what_is_in_the_journal_is_not_asked_again() -> None:
    speaker = Speaker(looks=True, dies_at=2)
    asked = asked_by(speaker)
    case = Case(lambda ctx: answers(ctx))

    async def answers(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "?", live=True)).output

    assert heard(case.crew) == ("let me see one two three four", "one two three four")
    assert speaker.requests == 3, "the first was answered before the crash"


def test_a_moderator_cuts_an_answer_off_and_that_is_remembered() -> None:
    speaker, shown, fail = Speaker(), list[str](), breaks(2)
    asked = asked_by(speaker)

    async def moderate(said: str) -> str | None:
        shown.append(said)
        return "it says two" if "two" in said else None

    async def answer(ctx: Context) -> str:
        try:
            return (await ask_model(ctx, asked, "?", live=True, moderator=moderate)).output
        except CutOff as cut:
            fail()
            return f"{cut} after {cut.said!r}"

    assert Case(answer).play() == "speaker: the answer was cut off: it says two after 'one two '"
    assert (speaker.requests, speaker.said, shown) == (1, ["one ", "two "], ["one ", "one two "])


def test_a_moderator_elsewhere_cuts_an_answer_off_by_an_event() -> None:
    speaker = Speaker()
    asked = asked_by(speaker)
    crew, moderator = Agent("crew"), Agent("moderator")

    @crew.on(Put, waits=[Stop])
    async def answer(event: Put, ctx: Context) -> Answered:
        try:
            result = await ask_model(ctx, asked, "?", live=True, moderator=cut_by(ctx, Stop))
            return Answered(text=result.output)
        except CutOff as cut:
            return Answered(text=str(cut))

    async def story() -> str:
        async with Bed(crew, moderator) as bed:
            await bed.publish(Put(), key="k")
            async with tailing(bed.bus, "k") as said:
                async for chunk in said:
                    if "two" in chunk.text:
                        await bed.publish(Stop(reason="enough"), key="k")
                        break
            await bed.quiet()
            return bed.events(Answered)[0].text

    assert run_virtual(story()) == "speaker: the answer was cut off: enough"
    assert speaker.said == ["one ", "two ", "three "]


def test_an_agents_own_listener_hears_the_same() -> None:
    speaker, own = Speaker(), list[str]()

    async def listen(run: RunContext[None], events: Any) -> None:
        async for event in events:
            if isinstance(event, PartDeltaEvent):
                own.append("piece")
                break

    asked = asked_by(speaker, Durable(event_stream_handler=listen))
    case = Case(lambda ctx: answers(ctx))

    async def answers(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "?", live=True)).output

    assert heard(case.crew) == ("one two three four", "one two three four")
    assert own == ["piece"]
