"""Many events in the hands of processes that are killed by chance: few are tried alone, and none is given up."""

import asyncio
from itertools import accumulate
from pathlib import Path

import pytest
from tests.fault.services import hosted, until, written

from hocket.observe.letters import letters
from hocket_schemas.envelope import Envelope

COUNT = 200
AT_ONCE = 53
"""The first part of so many, for a handler with five attempts."""

SERVICE = """
import asyncio
import os
from pathlib import Path

from hocket import Agent, Event, Limits

FOLDER = Path(__file__).parent


class Given(Event, type="suspects.given.v1"):
    n: int


class Taken(Event, type="suspects.taken.v1"):
    n: int


holder = Agent("holder", limits=Limits(slow_s=60.0))
ledger = (FOLDER / "ledger").open("a", buffering=1)


@holder.on(Given)
async def take(event: Given) -> Taken:
    print(os.getpid(), 1, event.n, file=ledger)
    while not (FOLDER / "open").exists():
        await asyncio.sleep(0.02)
    print(os.getpid(), -1, event.n, file=ledger)
    return Taken(n=event.n)
"""

MANIFEST = """
name = "holder"
consumes = ["suspects.given.v1"]
emits = ["suspects.taken.v1"]
"""


@pytest.mark.timeout(120)
async def test_what_two_kills_have_interrupted_is_tried_side_by_side(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    folder = written(tmp_path / "holder", SERVICE, MANIFEST)

    def lives() -> list[list[int]]:
        """By process, in their order: 1 for each event that it has begun, -1 for each that it has finished."""
        found: dict[str, list[int]] = {}
        for line in (folder / "ledger").read_text().splitlines():
            process, change, _ = line.split()
            found.setdefault(process, []).append(int(change))
        return list(found.values())

    def in_hand(life: int) -> int:
        return sum(lives()[life]) if (folder / "ledger").exists() and len(lives()) > life else 0

    async with hosted(folder, nats_url, domain) as (fleet, bus):
        for n in range(COUNT):
            given = Envelope(id=f"{n}", source="/test", type="suspects.given.v1", data={"n": n}, partitionkey=f"k{n}")
            await bus.publish_envelope(given, timeout_s=30)
        for life in (0, 1):
            await until(lambda life=life: in_hand(life) == COUNT)
            fleet.kill("holder")
        await until(lambda: in_hand(2) >= AT_ONCE)
        (folder / "open").touch()
        async with asyncio.timeout(30), bus.subscribe("suspects.taken.v1", start="start") as deliveries:
            taken = [(await anext(deliveries)).envelope.data["n"] for _ in range(COUNT)]
        dead = [letter async for letter in letters(bus)]

    first, second, third = lives()
    assert (sum(first), sum(second), sum(third)) == (COUNT, COUNT, 0)
    assert max(accumulate(third)) == AT_ONCE, "no smaller parts than need be, and no larger ones"
    assert sorted(taken) == list(range(COUNT)), "each of them once"
    assert dead == []
