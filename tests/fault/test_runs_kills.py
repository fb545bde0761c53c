"""Runs in real processes that are killed: each step, counted by another process, is done once."""

import asyncio
import random
from pathlib import Path

from tests.fault.ledger import CLIENT, ledger
from tests.fault.services import hosted, journal, until, written

from hocket_schemas.envelope import Envelope

KILLS = 10
SEED = 20

CLIMBER = """
import asyncio

from hocket import Agent, Context, Event


class Begun(Event, type="climb.begun.v1"):
    pass


class Ended(Event, type="climb.ended.v1"):
    heights: list[int]


climber = Agent("climber")


async def climb(n: int) -> int:
    await call(str(n))
    await asyncio.sleep(0.1)
    return n * n


@climber.on(Begun)
async def begin(event: Begun, ctx: Context) -> Ended:
    return Ended(heights=[await ctx.step(climb, n) for n in range(20)])
"""

MANIFEST = """
name = "climber"
consumes = ["climb.begun.v1"]
emits = ["climb.ended.v1"]
"""


async def test_twenty_steps_survive_ten_kills_and_none_that_was_finished_is_done_again(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    rng = random.Random(SEED)
    climber = written(tmp_path / "climber", CLIENT + CLIMBER, MANIFEST)
    async with (
        ledger(tmp_path) as outside,
        hosted(climber, nats_url, domain, environment=outside.environment) as (fleet, bus),
    ):
        async with asyncio.timeout(60), bus.subscribe("climb.ended.v1") as ended:
            envelope = Envelope(id="one", source="/test", type="climb.begun.v1", data={}, partitionkey="k")
            await bus.publish_envelope(envelope)
            for _ in range(KILLS):
                before = sum(outside.calls().values())
                await until(lambda before=before: sum(outside.calls().values()) > before)
                await asyncio.sleep(rng.random() * 0.15)  # sometimes the next step has begun by then
                fleet.kill("climber")
                await fleet.ready(30)
            delivery = await anext(ended)
        calls = outside.calls()
        steps = [entry for entry in await journal(bus, "k") if entry.kind == "step"]

    assert delivery.envelope.data == {"heights": [n * n for n in range(20)]}
    assert [(step.name, step.result) for step in steps] == [("climb", n * n) for n in range(20)]
    again = {name: count - 1 for name, count in calls.items() if count > 1}
    assert len(calls) == 20
    assert sum(again.values()) <= KILLS, "each kill leaves one step unfinished, and that one alone is done again"
    assert sum(again.values()) >= KILLS // 2, "hardly anything was killed at work, so nothing was proved"
