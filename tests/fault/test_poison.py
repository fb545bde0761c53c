"""Events that end real processes, each in its own way: dead letters all of them, and nobody else is harmed."""

import asyncio
from pathlib import Path

import pytest
from tests.fault.services import written

from hocket.client import Bus, connect
from hocket.host.changes import Failed
from hocket.host.memory import MEASURED
from hocket.host.nursery import Nursery
from hocket.host.supervisor import Fleet
from hocket.observe.letters import DeadLetter, letters
from hocket.observe.settling import redrive
from hocket_schemas.envelope import Envelope

VICTIM = """
import asyncio
import ctypes
import os
import sys
import time
from pathlib import Path

from hocket import Agent, Event, Limits, Retry


class Given(Event, type="poison.given.v1"):
    kind: str = ""


class Taken(Event, type="poison.taken.v1"):
    kind: str


victim = Agent("victim", limits=Limits(drain_s=0.5))
held = []


@victim.on(Given, retry=Retry(attempts_max=3, first_s=0.1))
async def take(event: Given) -> Taken:
    if event.kind and not Path(__file__).with_name("mended").exists():
        match event.kind:
            case "exits":
                os._exit(1)
            case "raises SystemExit":
                sys.exit(3)
            case "crashes":
                ctypes.string_at(0)
            case "blocks":
                time.sleep(60)
            case "hoards":
                while True:
                    held.append(b"x" * (32 << 20))
                    await asyncio.sleep(0.05)
            case "raises":
                raise ValueError
    return Taken(kind=event.kind)
"""

MANIFEST = """
memory_mib = 400
name = "victim"
consumes = ["poison.given.v1"]
emits = ["poison.taken.v1"]

[restart]
blocked_s = 2
second_s = 0.1
longest_s = 0.2
"""

KINDS = {
    "exits": "ProcessEnded",
    "raises SystemExit": "ProcessEnded",
    "crashes": "ProcessEnded",
    "blocks": "ProcessEnded",
    "raises": "AttemptsExhausted",
} | ({"hoards": "ProcessEnded"} if MEASURED else {})


async def give(bus: Bus, kind: str, key: str, event_id: str) -> None:
    data = {"kind": kind}
    await bus.publish_envelope(
        Envelope(id=event_id, source="/test", type="poison.given.v1", data=data, partitionkey=key), timeout_s=30
    )


async def taken(bus: Bus, kinds: set[str], goods: int) -> None:
    """Wait until so many good events, and all of these, are taken."""
    count, missing = 0, set(kinds)
    async with asyncio.timeout(60), bus.subscribe("poison.taken.v1", start="start") as deliveries:
        async for delivery in deliveries:
            kind = delivery.envelope.data["kind"]
            count += not kind
            missing.discard(kind)
            if count >= goods and not missing:
                return


async def dead(bus: Bus, count: int) -> list[DeadLetter]:
    """Wait until there are so many dead letters."""
    pattern = f"{bus.domain}.0.dead.>"
    found = 0
    async with asyncio.timeout(90):
        async for _ in bus.logs[0].scan([pattern], follow=True):
            found += 1
            if found == count:
                break
    return [letter async for letter in letters(bus)]


@pytest.mark.timeout(180)
async def test_events_that_end_their_process_are_given_up_and_the_service_lives(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    folder, changes = written(tmp_path / "victim", VICTIM, MANIFEST), []
    async with (
        Nursery() as nursery,
        Fleet(
            [folder], url=nats_url, domain=domain, nursery=nursery, tell=changes.append, output=tmp_path / "out"
        ) as fleet,
        connect(nats_url, domain=domain) as bus,
    ):
        await fleet.ready(30)
        for kind in KINDS:
            await give(bus, kind, f"key of {kind}", f"bad {kind}")
        for n in range(100):
            await give(bus, "", f"key-{n % 10}", f"good-{n}")
        await taken(bus, set(), 100)
        found = await dead(bus, len(KINDS))
        (folder / "mended").touch()
        for letter in found:
            await redrive(bus, letter, by="test")
        await taken(bus, set(KINDS), 100)
        told = [delivery.envelope.data["kind"] async for delivery in bus.read("poison.taken.v1")]
        still = [letter async for letter in letters(bus)]

    assert {letter.id.removeprefix("bad "): letter.reason for letter in found} == KINDS
    assert {letter.attempts for letter in found} == {3}
    assert sorted(told) == sorted([*KINDS, *[""] * 100])
    assert len(still) == len(KINDS), "what was mended did not die again"
    assert not [change for change in changes if isinstance(change, Failed)], "no fault of the service"


async def test_a_service_outlives_one_poisonous_event_after_another(tmp_path: Path, nats_url: str, domain: str) -> None:
    folder, changes = written(tmp_path / "victim", VICTIM, MANIFEST), []
    async with (
        Nursery() as nursery,
        Fleet(
            [folder], url=nats_url, domain=domain, nursery=nursery, tell=changes.append, output=tmp_path / "out"
        ) as fleet,
        connect(nats_url, domain=domain) as bus,
    ):
        await fleet.ready(30)
        for n in range(5):  # as many as it may be started again
            await give(bus, "exits", f"key-{n}", f"bad-{n}")
            await dead(bus, n + 1)
        await give(bus, "", "key-0", "good")
        await taken(bus, set(), 1)

    assert not [change for change in changes if isinstance(change, Failed)], "no fault of the service"
