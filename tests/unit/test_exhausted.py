"""What follows when an event is given up, as its handler or its effect wants it, and how long that takes."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from hocket import Agent, Context, OnExhausted, Retry
from hocket.clock import LoopClock
from hocket.engine.runs import Head
from hocket.host.crew import running
from hocket.log.memory import MemoryServer
from hocket.observe.history import history
from hocket.observe.letters import DeadLetter, letters
from hocket.observe.settling import discard, redrive
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event
from hocket_schemas.holds import HoldLifted
from hocket_schemas.runtime import HandlingExhausted

EVENTS = Catalog()
TWICE = Retry(attempts_max=2, first_s=0.1)


class Given(Event, type="exhausted.given.v1", catalog=EVENTS):
    n: int


class Taken(Event, type="exhausted.taken.v1", catalog=EVENTS):
    n: int


class Fragile:
    """An agent that cannot handle number 0 of key `k` until it is mended."""

    def __init__(self, then: OnExhausted) -> None:
        self.mended = False
        self.takes_s = 0.0
        self.agent: Agent[None] = Agent("fragile")

        @self.agent.on(Given, retry=TWICE, on_exhausted=then)
        async def take(event: Given, ctx: Context) -> Taken:
            if event.n == 0 and ctx.key == "k" and not self.mended:
                raise ValueError("not this one")
            await asyncio.sleep(self.takes_s)
            return Taken(n=event.n)


async def broken(bed: Bed, keys: Sequence[str] = ("k", "other")) -> list[DeadLetter]:
    """Give it what it cannot handle, and more on that key and on another; return the letters."""
    for n in range(3):
        for key in keys:
            await bed.publish(Given(n=n), key=key)
    await settled(bed)
    return [letter async for letter in letters(bed.bus)]


async def settled(bed: Bed) -> None:
    """Wait until what is left is held."""

    def held(run: Head) -> bool:
        return not run.waiting

    while not all(bed._finished(agent) and all(map(held, bed.runs(agent))) for agent in bed.agents):
        await bed.server.changed()


def numbers(bed: Bed, key: str) -> list[int]:
    return [taken.n for taken in bed.events(Taken, key=key)]


@pytest.mark.parametrize("release", ["redrive", "discard", "word"])
def test_a_key_that_is_held_waits_for_a_person_over_restarts_and_others_go_on(release: str) -> None:
    fragile = Fragile(OnExhausted.HOLD)

    async def story() -> tuple[list[int], list[int], list[int], list[Any]]:
        server = MemoryServer(clock=LoopClock())
        async with Bed(fragile.agent, server=server) as bed:
            [letter] = await broken(bed)
            before, other = numbers(bed, "k"), numbers(bed, "other")
        fragile.mended = True
        async with Bed(fragile.agent, server=server) as bed:
            await bed.publish(Given(n=3), key="k")
            await settled(bed)
            still = numbers(bed, "k")
            if release == "redrive":
                await redrive(bed.bus, letter, by="test", catalog=EVENTS)
            elif release == "discard":
                await discard(bed.bus, letter, by="test", reason="a test")
            else:
                await bed.publish(HoldLifted(key="k", by="test"), key="k")
            await bed.quiet()
            return before, other, still, numbers(bed, "k")

    before, other, still, after = run_virtual(story())

    assert (before, still) == ([], [])
    assert other == [0, 1, 2]
    assert after == ([0, 1, 2, 3] if release == "redrive" else [1, 2, 3])


def test_what_is_sent_again_to_a_held_key_is_handled_whoever_owns_it_by_then() -> None:
    fragile = Fragile(OnExhausted.HOLD)

    async def story() -> list[int]:
        server = MemoryServer(clock=LoopClock())
        async with Bed(fragile.agent, server=server) as bed:
            [letter] = await broken(bed)
        fragile.mended, fragile.takes_s = True, 5.0
        async with Bed(server=server) as bed:
            log = server.connect()
            async with running(bed.crew_on(log, fragile.agent)) as crew:
                await crew.owning()
                await redrive(bed.bus, letter, by="test", catalog=EVENTS)
                while not any(head.letter for head in bed.runs(fragile.agent)):  # it takes long
                    await server.changed()
                log.kill()
        async with Bed(fragile.agent, server=server) as bed:
            await bed.quiet()
            return numbers(bed, "k")

    assert run_virtual(story()) == [0, 1, 2]


def test_what_is_sent_again_and_dies_again_leaves_the_key_waiting_for_the_new_letter() -> None:
    fragile = Fragile(OnExhausted.HOLD)

    async def story() -> tuple[list[int], list[int]]:
        async with Bed(fragile.agent) as bed:
            [first] = await broken(bed)
            await redrive(bed.bus, first, by="test", catalog=EVENTS)
            await bed.publish(Given(n=3), key="k")
            await settled(bed)
            while len(found := [each async for each in letters(bed.bus)]) < 2:
                await bed.server.changed()
            held = numbers(bed, "k")
            fragile.mended = True
            await redrive(bed.bus, found[1], by="test", catalog=EVENTS)
            await bed.quiet()
            return held, numbers(bed, "k")

    assert run_virtual(story()) == ([], [0, 1, 2, 3])


def test_an_event_is_escalated_by_another_event_and_its_letter_tells_of_every_attempt() -> None:
    fragile = Fragile(OnExhausted.ESCALATE)

    async def story() -> tuple[list[Any], DeadLetter, list[int], list[Any]]:
        async with Bed(fragile.agent) as bed:
            [letter] = await broken(bed)
            told = [entry for entry in await history(bed.bus, "k") if isinstance(entry, DeadLetter)]
            return bed.events(HandlingExhausted), letter, numbers(bed, "k"), told

    said, letter, taken, told = run_virtual(story())

    assert [(each.agent, each.event, each.what, each.then) for each in said] == [
        ("fragile", letter.id, "exhausted.given.v1", "escalate")
    ]
    assert (letter.then, letter.attempts, letter.causes) == ("escalate", 2, ("ValueError: not this one",))
    assert [at < letter.stored for at in letter.failed] == [True]
    assert taken == [1, 2]
    assert told == [letter]


def test_an_effect_that_fails_for_good_decides_what_follows_unless_the_handler_catches_it() -> None:
    agent, calls = Agent("outside"), []

    @agent.effect(retry=TWICE, idempotent=True, on_exhausted=OnExhausted.FAIL_SAGA)
    async def book(n: int) -> None:
        calls.append(n)
        raise ValueError("fully booked")

    @book.verify
    async def booked(n: int) -> None:
        return None

    @agent.on(Given, retry=Retry(attempts_max=5))
    async def take(event: Given, ctx: Context) -> None:
        await ctx.step(book, event.n)

    async def story() -> tuple[list[Any], list[DeadLetter]]:
        async with Bed(agent) as bed:
            await bed.publish(Given(n=0), key="k", saga="s")
            await bed.quiet()
            return bed.events(HandlingExhausted), [letter async for letter in letters(bed.bus)]

    [said], [letter] = run_virtual(story())

    assert (said.then, said.error) == (
        "fail_saga",
        "StepFailed: step '" + book.name + "' failed: ValueError: fully booked",
    )
    assert (letter.then, letter.attempts) == ("fail_saga", 1)
    assert calls == [0, 0]


def test_an_event_is_given_up_when_its_time_for_attempts_is_over() -> None:
    policy = Retry(attempts_max=100, first_s=1.0, factor=2.0, jitter=0.0, total_s=10.0)
    rng = random.Random(1)

    waits = [policy.wait_s(n, ValueError(), rng, spent_s=spent_s) for n, spent_s in ((1, 0.0), (2, 1.0), (4, 7.0))]

    assert waits == [1.0, 2.0, None]


def test_the_time_for_attempts_is_counted_from_the_first() -> None:
    agent, tries = Agent("slow"), []

    @agent.on(Given, retry=Retry(attempts_max=100, first_s=1.0, factor=1.0, jitter=0.0, total_s=4.5))
    async def take(event: Given, ctx: Context) -> None:
        tries.append(ctx.attempt)
        raise ValueError

    async def story() -> None:
        async with Bed(agent) as bed:
            await bed.publish(Given(n=0), key="k")
            await bed.quiet()

    run_virtual(story())

    assert tries == [1, 2, 3, 4, 5]
