"""A model that fails, refuses, talks rubbish, stalls, or is cut off, streaming or not: it is asked until it answers."""

from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent as Asked
from pydantic_ai import RunContext
from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from tests.fault.scripted_model import Served, scripted
from tests.unit.scripted import Answered, Case, Put, asking

from hocket import Retry
from hocket.llm import Durable
from hocket.testing import Bed

QUICK = Retry(attempts_max=5, first_s=0.01)
TURNS = [[["look", {"x": 1}], ["look", {"x": 2}]], "all is done"]


class Play:
    """One case on the time of the wall: the server's process knows no other."""

    def __init__(self, served: Served, **durable: Any) -> None:
        self.client = AsyncOpenAI(base_url=served.url, api_key="none", timeout=0.5, max_retries=0)
        model = OpenAIChatModel("scripted", provider=OpenAIProvider(openai_client=self.client))
        self.looked: list[int] = []
        self.asked = Asked(model, name="asked", capabilities=[Durable(**durable)])

        @self.asked.tool_plain
        async def look(x: int) -> int:
            self.looked.append(x)
            return x * x

    async def ends(self) -> tuple[str, int]:
        """What is answered, or the error of the dead letter; and how many attempts it took."""
        case = Case(asking(self.asked, fails=0), retry=QUICK)
        async with self.client, Bed(case.crew) as case.bed:
            await case.bed.publish(Put(), key="k")
            await case.bed.quiet()
            answers = [answer.text for answer in case.bed.events(Answered)]
            return answers[0] if answers else str(case.bed.dead(case.crew)[0]["error"]), case.attempts


@pytest.mark.parametrize("fault", ["fail", "refuse", "rubbish", "stall", "cut"])
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_what_goes_wrong_is_the_handlers_to_repeat(tmp_path: Path, fault: str, streams: bool) -> None:
    heard: list[str] = []
    async with scripted(tmp_path, {"turns": TURNS, "faults": ["ok", fault]}) as served:
        play = Play(served, event_stream_handler=_listener(heard) if streams else None)

        said, attempts = await play.ends()

    assert (said.strip(), attempts) == ("all is done", 2)
    assert [line["turn"] for line in served.lines("asked")] == [0, 1, 1]
    assert [line["turn"] for line in served.lines("answered")] == [0, 1]
    assert sorted(play.looked) == [1, 2], "calls that were made before are remembered"
    assert "".join(heard).endswith("all is done " if streams else "")


@pytest.mark.parametrize(("fault", "attempts"), [("fail", 1), ("refuse", 2)], ids=["fail", "refuse"])
async def test_a_retry_of_the_model_repeats_what_may_go_well(tmp_path: Path, fault: str, attempts: int) -> None:
    async with scripted(tmp_path, {"turns": TURNS, "faults": ["ok", fault]}) as served:
        play = Play(served, model_retry=QUICK)

        said = await play.ends()

    assert said == ("all is done", attempts), "what is refused for good is the handler's"
    assert [line["turn"] for line in served.lines("asked")] == [0, 1, 1]


def _listener(heard: list[str]) -> Any:
    async def listen(run: RunContext[Any], events: Any) -> None:
        async for event in events:
            match event:
                case (
                    PartStartEvent(part=TextPart(content=text))
                    | PartDeltaEvent(delta=TextPartDelta(content_delta=text))
                ):
                    heard.append(text)

    return listen
