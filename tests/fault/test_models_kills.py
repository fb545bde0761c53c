"""Agents with models in processes that are killed: no finished answer is paid for twice, no effect happens twice."""

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

from tests.fault.scripted_model import scripted
from tests.fault.services import hosted, written

from hocket_schemas.envelope import Envelope

SLOW_S = 0.1
"""How long the model thinks."""

KILLS = int(os.environ.get("HOCKET_MODEL_KILLS", "2"))
"""More of them take a second each; 30 is a campaign."""

SEED = 7

RESEARCHER = """
import asyncio
import os

import httpx2
from pydantic_ai import Agent as Asked
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from hocket import Agent, Context, Event, Retry
from hocket.llm import ask_model, effect_tool

URL = os.environ["MODEL_URL"]


class Put(Event, type="research.put.v1"):
    text: str


class Answered(Event, type="research.answered.v1"):
    text: str
    requests: int
    tokens: int


researcher = Agent("researcher")


@researcher.effect()
async def order(what: str, *, key: str) -> str:
    async with httpx2.AsyncClient() as client:
        await client.post(URL + "/done", json={"key": key, "what": what})
    await asyncio.sleep(0.05)
    return f"{what} is ordered"


@order.verify
async def ordered(what: str, *, key: str) -> str | None:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"{URL}/done/{key}")
    return f"{what} is ordered" if answer.json()["done"] else None


model = OpenAIChatModel("scripted", provider=OpenAIProvider(base_url=URL, api_key="none"))
asked = Asked(model, name="asked", tools=[effect_tool(order)])


@asked.tool_plain
async def look(x: int) -> int:
    await asyncio.sleep(0.05)
    return x * x


@researcher.on(Put, retry=Retry(attempts_max=20, first_s=0.05, factor=1.0))
async def answer(event: Put, ctx: Context) -> Answered:
    result = await ask_model(ctx, asked, event.text)
    return Answered(text=result.output, requests=result.usage.requests, tokens=result.usage.total_tokens)
"""

MANIFEST = """
name = "researcher"
consumes = ["research.put.v1"]
emits = ["research.answered.v1"]
"""

TURNS = [
    [["look", {"x": 1}], ["look", {"x": 2}], ["look", {"x": 3}]],
    [["order", {"what": "tea"}]],
    [["look", {"x": 4}]],
    [["order", {"what": "cups"}], ["order", {"what": "milk"}]],
    [["look", {"x": 5}]],
    "all is done",
]
"""Six requests and eight calls, some of them side by side."""


async def test_an_agent_survives_kills_and_nothing_finished_is_asked_for_or_done_again(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    rng = random.Random(SEED)
    service = written(tmp_path / "researcher", RESEARCHER, MANIFEST)
    async with scripted(tmp_path, {"turns": TURNS, "slow_s": SLOW_S}) as served:
        environment = {"MODEL_URL": served.url}
        async with (
            hosted(service, nats_url, domain, environment=environment) as (fleet, bus),
            asyncio.timeout(90),
            bus.subscribe("research.answered.v1") as answers,
        ):
            put = Envelope(id="one", source="/test", type="research.put.v1", data={"text": "go"}, partitionkey="k")
            await bus.publish_envelope(put)
            for _ in range(KILLS):
                before = len(served.lines("asked"))
                while len(served.lines("asked")) == before:  # noqa: ASYNC110  # it is another process that is waited for
                    await asyncio.sleep(0.01)
                await asyncio.sleep(rng.random() * 1.2 * SLOW_S)  # sometimes it has been answered by then
                fleet.kill("researcher")
                await fleet.ready(30)
            delivery = await anext(answers)

    asked = [line["turn"] for line in served.lines("asked")]
    tokens = {line["turn"]: line["tokens"] for line in served.lines("answered")}
    done = Counter(line["what"] for line in served.lines("done"))
    assert asked == sorted(asked), "what came after an answer shows that it was remembered: it is not asked for again"
    assert len(asked) <= len(TURNS) + KILLS, "each kill leaves one request unfinished, and that one alone is made again"
    assert done == {"tea": 1, "cups": 1, "milk": 1}
    assert delivery.envelope.data == {"text": "all is done", "requests": len(TURNS), "tokens": sum(tokens.values())}
    assert len(asked) > len(TURNS), "no kill met a request, so nothing was proved"


async def test_a_model_that_fails_stalls_and_talks_rubbish_is_asked_until_it_answers(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    patient = RESEARCHER.replace(
        'api_key="none")', 'openai_client=AsyncOpenAI(base_url=URL, api_key="none", timeout=0.5, max_retries=0))'
    )
    patient = patient.replace("import httpx2", "import httpx2\nfrom openai import AsyncOpenAI").replace(
        "base_url=URL, openai", "openai"
    )
    service = written(tmp_path / "researcher", patient, MANIFEST)
    faults = ["fail", "ok", "rubbish", "stall", "cut", "ok", "fail"]
    async with (
        scripted(tmp_path, {"turns": TURNS, "faults": faults}) as served,
        hosted(service, nats_url, domain, environment={"MODEL_URL": served.url}) as (_, bus),
        asyncio.timeout(60),
        bus.subscribe("research.answered.v1") as answers,
    ):
        put = Envelope(id="one", source="/test", type="research.put.v1", data={"text": "go"}, partitionkey="k")
        await bus.publish_envelope(put)
        delivery = await anext(answers)

    assert delivery.envelope.data["requests"] == len(TURNS)
    assert [line["turn"] for line in served.lines("asked")] == [0, 0, 1, 1, 1, 1, 2, 2, 3, 4, 5]
    assert Counter(line["what"] for line in served.lines("done")) == {"tea": 1, "cups": 1, "milk": 1}
