"""Agents with models in processes that are killed: no finished answer is paid for twice, no effect happens twice."""

import asyncio
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.fault.scripted_model import Served, scripted
from tests.fault.services import hosted, until, written

from hocket_schemas.envelope import Envelope

SLOW_S = 0.1
"""How long the model thinks."""

KILLS = int(os.environ.get("HOCKET_MODEL_KILLS", "2"))
"""More of them take as long each as it takes to start a process; 30 is a campaign."""

SEED = int(os.environ.get("HOCKET_MODEL_SEED", "7"))

KILL_S = 20
"""How long one of them takes at most, on a machine that is busy with other things too."""

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
    async with httpx2.AsyncClient() as client:
        await client.post(URL + "/looked", json={"x": x})
    await asyncio.sleep(0.1)
    return x * x


@researcher.on(Put, retry=Retry(attempts_max=50, first_s=0.05, factor=1.0))
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


STAGE = {1: 1, 2: 1, 3: 1, "tea": 3, 4: 5, "cups": 7, "milk": 7, 5: 9}
"""When each call of a tool is due: after the request of its turn, which are the even ones."""


def stage(line: dict[str, Any]) -> int:
    """How far the run has come, by what the server saw of it."""
    return 2 * line["turn"] if "turn" in line else STAGE[line.get("x", line.get("what"))]


def over(served: Served) -> bool:
    """Whether the last turn was answered: what is killed now has little left to do."""
    return any(line["turn"] == len(TURNS) - 1 for line in served.lines("answered"))


@pytest.mark.timeout(120 + KILL_S * KILLS)
async def test_an_agent_survives_kills_and_nothing_finished_is_asked_for_or_done_again(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    rng = random.Random(SEED)
    service = written(tmp_path / "researcher", RESEARCHER, MANIFEST)
    async with scripted(tmp_path, {"turns": TURNS, "slow_s": SLOW_S}) as served:
        environment = {"MODEL_URL": served.url}
        killed_after: list[str] = []
        async with (
            hosted(service, nats_url, domain, environment=environment) as (fleet, bus),
            asyncio.timeout(90 + KILL_S * KILLS),
            bus.subscribe("research.answered.v1") as answers,
        ):
            put = Envelope(id="one", source="/test", type="research.put.v1", data={"text": "go"}, partitionkey="k")
            await bus.publish_envelope(put)
            for _ in range(KILLS):
                before = len(served.all())
                await until(lambda before=before: len(served.all()) > before or over(served))
                if over(served):
                    break
                reach = rng.choice((1.2, 1.2, 2.5))  # sometimes it has been answered by then, and tools are called
                await asyncio.sleep(rng.random() * reach * SLOW_S)
                fleet.kill("researcher")
                killed_after.append(served.all()[-1]["kind"])
                await fleet.ready(30 + KILL_S)
            delivery = await anext(answers)

    print(f"seed {SEED}, {len(killed_after)} kills: after {Counter(killed_after)}")  # noqa: T201 - how to have the same again
    asked, answered = served.lines("asked"), served.lines("answered")
    tokens = {line["turn"]: line["tokens"] for line in answered}
    stages = [stage(line) for line in served.all()]
    assert stages == sorted(stages), "what came after shows that something was remembered: it is not asked for again"
    assert len(asked) <= len(TURNS) + KILLS, "each kill leaves one request unfinished, and that one alone is made again"
    assert len(asked) > len(TURNS) or killed_after.count("asked") == 0, "a request that was cut off is made again"
    assert Counter(line["what"] for line in served.lines("done")) == {"tea": 1, "cups": 1, "milk": 1}
    assert {line["x"] for line in served.lines("looked")} == {1, 2, 3, 4, 5}
    assert delivery.envelope.data == {"text": "all is done", "requests": len(TURNS), "tokens": sum(tokens.values())}
