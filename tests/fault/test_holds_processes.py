"""A real process that is paused and killed: the one that comes after it is paused too, and nothing gets lost."""

import asyncio
from pathlib import Path

from tests.fault.ledger import CLIENT, ledger
from tests.fault.services import hocket, hosted, until, written

from hocket.client import Bus
from hocket.observe.holds import held, say
from hocket_schemas.envelope import Envelope
from hocket_schemas.holds import HoldLifted, HoldPlaced

BUYER = """
from hocket import Agent, Context, Event


class Wanted(Event, type="buyer.wanted.v1"):
    pass


class Bought(Event, type="buyer.bought.v1"):
    pass


buyer = Agent("buyer")


@buyer.effect(idempotent=True)
async def buy(who: str, *, key: str) -> str:
    return await purchase(key=key, buyer=who, once=True)


@buyer.on(Wanted)
async def want(event: Wanted, ctx: Context) -> Bought:
    await ctx.step(buy, ctx.envelope.id)
    return Bought()
"""

MANIFEST = """
name = "buyer"
consumes = ["buyer.wanted.v1"]
emits = ["buyer.bought.v1"]
"""


async def test_a_pause_outlives_a_kill_and_everything_is_handled_once_when_it_is_over(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    async def want(bus: Bus, name: str, key: str) -> None:
        await bus.publish_envelope(
            Envelope(id=name, source="/test", type="buyer.wanted.v1", data={}, partitionkey=key, correlationid=key)
        )

    there = ("--nats", nats_url, "--domain", domain)
    buyer = written(tmp_path / "buyer", CLIENT + BUYER, MANIFEST)
    async with (
        ledger(tmp_path) as outside,
        hosted(buyer, nats_url, domain, environment=outside.environment) as (fleet, bus),
    ):
        await want(bus, "first", "a")
        await until(lambda: len(outside.sold()) == 1)
        await say(bus, HoldPlaced(key="kept", by="ada"))
        paused = await hocket("pause", "buyer", "--by", "ada", "--reason", "it buys too much", *there)
        for name in ("second", "third"):
            await want(bus, name, "a")
            await want(bus, f"{name} kept", "kept")
        fleet.kill("buyer")
        await fleet.ready(30)
        [line] = (await hocket("agents", *there))[1]
        while_paused = list(outside.sold())
        resumed = await hocket("resume", "buyer", "--by", "bob", *there)
        await until(lambda: len(outside.sold()) == 3)
        still = await held(bus)
        await say(bus, HoldLifted(key="kept", by="ada"))
        bought: set[str | None] = set()
        async with bus.subscribe("buyer.bought.v1", start="start") as deliveries, asyncio.timeout(30):
            while len(bought) < 5:
                bought.add((await anext(deliveries)).envelope.causationid)

    assert [(code, said["behind"]) for code, said in (paused, resumed)] == [(0, [])] * 2
    assert (line["state"], line["why"], line["lag"]) == ("paused", "by ada because it buys too much", 4)
    assert len(while_paused) == 1
    assert [(hold.kind, hold.name, hold.by) for hold in still] == [("key", "kept", "ada")]
    assert bought == {"first", "second", "third", "second kept", "third kept"}
    assert {len(tickets) for tickets in outside.sold().values()} == {1}
