"""A dead letter is settled once, by whichever of many connections comes first, on the twin and on a real stream."""

import asyncio
from contextlib import AsyncExitStack

from tests.contract.worlds import World, scanned

from hocket.client import Bus, open_bus
from hocket.engine.deadletter import dead_letter
from hocket.errors import AttemptsExhausted
from hocket.log.base import Log, Message, Seq, Write
from hocket.observe.letters import DeadLetter, letters
from hocket.observe.settling import discard, redrive
from hocket.policy import Limits
from hocket.subjects import Names
from hocket_schemas import gate
from hocket_schemas.envelope import Envelope

ASKING = 4


def died(world: World, log: Log, number: int) -> list[Write]:
    """An event, and the letter of an agent that could not handle it."""
    names = Names(log.domain, 0)
    event = Envelope(id=f"e-{number}", source="/test", type="cup.ordered.v1", data={"drink": "mead"}, partitionkey="k")
    body = gate.write(event)
    subject = names.event("k", "test", event.id, 0, event.type)
    letter = dead_letter(
        names,
        Message(subject, Seq(number * 2 + 1), body),
        "k",
        AttemptsExhausted("no mead"),
        attempts=1,
        agent="barman",
        version="1",
        time="2026-01-01T00:00:00.000Z",
        kept=Limits().dead_kept,
    )
    return [Write(subject, body), letter]


async def settle(bus: Bus, letter: DeadLetter, who: int) -> bool:
    """Ask for one thing or another; return whether it was done."""
    if who % 2:
        return not (await discard(bus, letter, by=f"person {who}", reason="stale")).duplicate
    return not (await redrive(bus, letter, by=f"person {who}")).duplicate


async def test_of_many_who_settle_the_same_letters_at_once_one_comes_first_at_each(world: World) -> None:
    names = Names(world.log.domain, 0)
    for number in range(10):
        await world.log.append(died(world, world.log, number))

    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(open_bus([await world.connect()])) for _ in range(ASKING)]
        found = [letter async for letter in letters(buses[0])]
        done = [
            await asyncio.gather(*(settle(bus, letter, who) for who, bus in enumerate(buses, number)))
            for number, letter in enumerate(found)
        ]
        after = [letter async for letter in letters(buses[0])]

    sent = await scanned(world.log, [names.commands_for("barman")])
    assert len(found) == 10
    assert [outcomes.count(True) for outcomes in done] == [1] * 10
    assert len(sent) == len([letter for letter in after if letter.status == "redriven"])
    assert "open" not in {letter.status for letter in after}


async def test_who_was_interrupted_and_asks_again_finds_it_done(world: World) -> None:
    await world.log.append(died(world, world.log, 0))

    async with open_bus([world.log]) as bus:
        [letter] = [letter async for letter in letters(bus)]
        asking = asyncio.ensure_future(redrive(bus, letter, by="ada"))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        again = await redrive(bus, letter, by="ada")
        twice = await redrive(bus, letter, by="ada")

    sent = await scanned(world.log, [Names(world.log.domain, 0).commands_for("barman")])
    assert len(sent) == 1
    assert twice.duplicate
    assert gate.read(sent[0].data).id == again.fate.redriven_as
