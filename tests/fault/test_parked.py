"""Runs that wait, by the hundred, in a process that is killed while they go on: each goes on once, and none early."""

import asyncio
import time
from pathlib import Path
from typing import Any

from tests.fault.services import hosted, written

from hocket.client import Bus
from hocket.host.supervisor import Fleet
from hocket_schemas.approvals import ApprovalDecided, ApprovalRefused, ApprovalRequested
from hocket_schemas.envelope import Envelope

RUNS = 300

KEEPER = """
from datetime import UTC, datetime

from pydantic import BaseModel

from hocket import Agent, Context, Event


class Wanted(Event, type="keep.wanted.v1"):
    due_s: float | None = None


class Waits(Event, type="keep.waits.v1"):
    pass


class Ended(Event, type="keep.ended.v1"):
    how: str
    at_s: float
    times: int


class Count(BaseModel):
    ended: int = 0


keeper = Agent("keeper", state=Count)


@keeper.on(Wanted, emits=[Waits, Ended])
async def keep(event: Wanted, ctx: Context[Count]) -> Ended:
    if event.due_s is None:
        how = (await ctx.approve("May it?")).option
    else:
        ctx.emit(Waits())
        await ctx.sleep(datetime.fromtimestamp(event.due_s, UTC) - ctx.now())
        how = "rang"
    ctx.state.ended += 1
    return Ended(how=how, at_s=ctx.now().timestamp(), times=ctx.state.ended)
"""

MANIFEST = """
name = "keeper"
consumes = ["keep.wanted.v1"]
emits = ["keep.waits.v1", "keep.ended.v1"]
"""


async def test_timers_that_are_due_when_their_process_is_killed_ring_once_and_never_early(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    keeper = written(tmp_path / "keeper", KEEPER, MANIFEST)
    async with (
        hosted(keeper, nats_url, domain) as (fleet, bus),
        asyncio.timeout(100),
    ):
        first_s = time.time() + 10
        due_s = {f"timer-{n}": first_s + n / RUNS for n in range(RUNS)}
        async with bus.subscribe("keep.waits.v1") as waiting:
            await publish(bus, {key: {"due_s": at_s} for key, at_s in due_s.items()})
            await some(waiting, RUNS)

        ended, before = await all_ended(bus, fleet)

    assert before < RUNS, "all had rung before the kill, so nothing was proved"
    assert ended.keys() == due_s.keys()
    assert all(said["times"] == 1 for said in ended.values())
    assert min(said["at_s"] - due_s[key] for key, said in ended.items()) >= 0


async def test_runs_that_are_answered_when_their_process_is_killed_go_on_once(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    keeper = written(tmp_path / "keeper", KEEPER, MANIFEST)
    async with (
        hosted(keeper, nats_url, domain) as (fleet, bus),
        asyncio.timeout(100),
    ):
        async with bus.subscribe(ApprovalRequested) as waiting:
            await publish(bus, {f"run-{n}": {} for n in range(RUNS)})
            asked = await some(waiting, RUNS)

        async def decide() -> None:
            for key, request in asked.items():
                decided = ApprovalDecided(
                    approval=request["approval"], digest=request["digest"], option="approve", by="ada"
                )
                await bus.command(decided, to="keeper", key=key)

        deciding = asyncio.create_task(decide())
        ended, before = await all_ended(bus, fleet)
        await deciding
        refused = [delivery async for delivery in bus.read(ApprovalRefused)]

    assert before < RUNS, "all had ended before the kill, so nothing was proved"
    assert {key: said["how"] for key, said in ended.items()} == dict.fromkeys(asked, "approve")
    assert all(said["times"] == 1 for said in ended.values())
    assert refused == [], "what is delivered again after the kill is no second decision"


async def publish(bus: Bus, wanted: dict[str, dict[str, Any]]) -> None:
    """Start a run for each key."""
    await asyncio.gather(
        *(
            bus.publish_envelope(
                Envelope(id=f"want-{key}", source="/test", type="keep.wanted.v1", data=data, partitionkey=key)
            )
            for key, data in wanted.items()
        )
    )


async def all_ended(bus: Bus, fleet: Fleet) -> tuple[dict[str, dict[str, Any]], int]:
    """Kill the process as soon as the first run has ended; what each said in the end, and how many had by then."""
    async with bus.subscribe("keep.ended.v1", start="start") as ends:
        first = await some(ends, 1)
        fleet.kill("keeper")
        killed_at = await bus.logs[0].end()
        await fleet.ready(30)
        ended = first | await some(ends, RUNS - 1)
    found = [delivery async for delivery in bus.read("keep.ended.v1")]
    assert len(found) == len(ended) == RUNS
    return ended, sum(delivery.seq <= killed_at for delivery in found)


async def some(deliveries: Any, count: int) -> dict[str, dict[str, Any]]:
    """The data of the next events, by key; none may come twice."""
    found: dict[str, dict[str, Any]] = {}
    while len(found) < count:
        delivery = await anext(deliveries)
        assert delivery.address.key not in found, "it came twice"
        found[delivery.address.key] = delivery.envelope.data
    return found
