"""A real process that is killed while it cleans up: the end of its run is told once, and what it had done is known."""

import asyncio
from pathlib import Path

from tests.fault.ledger import CLIENT, ledger
from tests.fault.services import hocket, hosted, until, written

from hocket_schemas.cancels import RunCancelled
from hocket_schemas.envelope import Envelope

BUYER = """
import asyncio
from hocket import Agent, Context, Event


class Begun(Event, type="buyer.begun.v1"):
    waits: bool


class Paid(Event, type="buyer.paid.v1"):
    pass


buyer = Agent("buyer")


@buyer.effect(idempotent=True)
async def buy(who: str, *, key: str) -> str:
    return await purchase(key=key, buyer=who, once=True)


async def give_back(who: str, n: int) -> None:
    await call(f"{who} {n}")
    await asyncio.sleep(0.2)


@buyer.on(Begun, waits=[Paid])
async def begin(event: Begun, ctx: Context) -> None:
    await ctx.step(buy, ctx.key)
    try:
        if event.waits:
            await ctx.wait(Paid)
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        for n in range(5):
            await ctx.step(give_back, ctx.key, n)
        raise
"""

MANIFEST = """
name = "buyer"
consumes = ["buyer.begun.v1"]
waits = ["buyer.paid.v1"]
emits = []
"""


async def test_cleanup_goes_on_where_a_kill_has_cut_it_and_the_command_tells_what_was_done(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    buyer = written(tmp_path / "buyer", CLIENT + BUYER, MANIFEST)
    async with (
        ledger(tmp_path) as outside,
        hosted(buyer, nats_url, domain, environment=outside.environment) as (fleet, bus),
    ):
        for who, waits in (("waiting", True), ("working", False)):
            data = {"waits": waits}
            envelope = Envelope(
                id=who, source="/test", type="buyer.begun.v1", data=data, partitionkey=who, correlationid="trip"
            )
            await bus.publish_envelope(envelope)
        async with asyncio.timeout(60):
            await until(lambda: len(outside.sold()) == 2)
            asking = asyncio.ensure_future(
                hocket("cancel", "trip", "--by", "ada", "--nats", nats_url, "--domain", domain)
            )
            await until(lambda: {"waiting 1", "working 1"} <= outside.calls().keys())
            fleet.kill("buyer")
            code, said = await asking
        calls = outside.calls()
        told = [delivery.event async for delivery in bus.read(RunCancelled)]
        again = await hocket("cancel", "trip", "--nats", nats_url, "--domain", domain)

    assert (code, said["behind"], said["left"]) == (0, [], [])
    assert sorted((run["key"], run["effects"][0]["status"]) for run in said["runs"]) == [
        ("waiting", "done"),
        ("working", "done"),
    ]
    assert len(told) == 2
    assert {name: count for name, count in calls.items() if count > 2} == {}
    assert sorted(calls) == sorted(f"{who} {n}" for who in ("waiting", "working") for n in range(5))
    assert sum(count - 1 for count in calls.values()) <= 2, "the kill leaves one step of each unfinished"
    assert (again[0], again[1]["runs"]) == (0, [])
