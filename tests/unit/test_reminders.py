"""Reminders: an event that is handled again after some time, unless the actor has dismissed that."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from pydantic import BaseModel

from hocket import Agent, Context
from hocket.clock import LoopClock
from hocket.engine.runs import LONGEST_LOOK_S
from hocket.host.crew import running
from hocket.log.memory import MemoryServer
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
HOUR_S = 3600.0


class Ordered(Event, type="remind.ordered.v1", catalog=EVENTS):
    pass


class Paid(Event, type="remind.paid.v1", catalog=EVENTS):
    pass


class Told(Event, type="remind.told.v1", catalog=EVENTS):
    what: str


class Bill(BaseModel):
    paid: bool = False
    reminders: int = 0


def clerk(*, durably: bool = False, times: int = 1) -> Agent[Bill]:
    """Reminds of a bill after an hour, and again, until it is paid."""
    agent = Agent("clerk", state=Bill)

    @agent.on(Ordered, emits=[Told])
    async def watch(event: Ordered, ctx: Context[Bill]) -> None:
        if durably:
            await ctx.step(len, "four")
        if ctx.reminded:
            ctx.state.reminders += 1
        ctx.emit(Told(what=f"reminder {ctx.state.reminders}" if ctx.reminded else "bill"))
        if ctx.state.reminders < times:
            ctx.remind(HOUR_S)

    @agent.on(Paid)
    async def close(event: Paid, ctx: Context[Bill]) -> None:
        ctx.state.paid = True
        ctx.dismiss()

    return agent


def play(agent: Agent[Bill], script: Callable[[Bed, Callable[[float], Awaitable[None]]], Awaitable[None]]) -> list[str]:
    """Run a script on the bed; return what was told."""

    async def live() -> list[str]:
        clock = LoopClock()
        async with Bed(agent, server=MemoryServer(clock=clock)) as bed:

            async def later(by_s: float) -> None:
                clock.advance(by_s)
                await asyncio.sleep(LONGEST_LOOK_S + 1)
                await bed.settled()

            await script(bed, later)
            return [told.what for told in bed.events(Told)]

    return run_virtual(live())


async def publish(bed: Bed, *events: Event) -> None:
    for event in events:
        await bed.publish(event, key="k")
        await bed.settled()


def test_an_event_is_handled_again_when_its_time_has_come_and_not_before() -> None:
    seen: list[int] = []

    async def script(bed: Bed, later: Callable[[float], Awaitable[None]]) -> None:
        await publish(bed, Ordered())
        await later(HOUR_S - 2 * LONGEST_LOOK_S)
        seen.append(len(bed.events(Told)))
        await later(2 * LONGEST_LOOK_S)
        assert bed.runs(agent) == []

    agent = clerk()
    told = play(agent, script)

    assert (seen, told) == ([1], ["bill", "reminder 1"])


def test_a_reminder_may_ask_for_the_next() -> None:
    async def script(bed: Bed, later: Callable[[float], Awaitable[None]]) -> None:
        await publish(bed, Ordered())
        for _ in range(4):
            await later(HOUR_S)

    assert play(clerk(times=3), script) == ["bill", "reminder 1", "reminder 2", "reminder 3"]


def test_what_is_dismissed_leaves_nothing_behind() -> None:
    async def script(bed: Bed, later: Callable[[float], Awaitable[None]]) -> None:
        await publish(bed, Ordered())
        assert len(bed.runs(agent)) == 1
        await publish(bed, Paid())
        assert bed.runs(agent) == []
        await later(2 * HOUR_S)

    agent = clerk()

    assert play(agent, script) == ["bill"]


def test_a_reminder_outlives_its_owner_and_so_does_its_dismissal() -> None:
    async def live() -> tuple[list[str], list[str]]:
        clock, agent = LoopClock(), clerk()
        async with Bed(server=MemoryServer(clock=clock)) as bed:
            for first in (False, True):
                async with running(bed.crew(agent)) as crew:
                    await crew.owning()
                    if not first:
                        await bed.publish(Ordered(), key="kept")
                        await bed.publish(Ordered(), key="paid")
                        await bed.publish(Paid(), key="paid")
                        await asyncio.sleep(1)
                    else:
                        clock.advance(HOUR_S)
                        await asyncio.sleep(LONGEST_LOOK_S + 1)
            return [[told.what for told in bed.events(Told, key=key)] for key in ("kept", "paid")]  # type: ignore[return-value]  # two of them

    kept, paid = run_virtual(live())

    assert (kept, paid) == (["bill", "reminder 1"], ["bill"])


def test_who_does_something_durably_cannot_be_reminded_as_well() -> None:
    async def script(bed: Bed, later: Callable[[float], Awaitable[None]]) -> None:
        with suppress(TimeoutError):
            await publish(bed, Ordered())
        [dead] = bed.dead(agent)
        assert "reminded" in str(dead)

    agent = clerk(durably=True)

    assert play(agent, script) == []
