"""An effect around every moment at which its process can die, with each way of finding out what happened."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from hocket import Agent, Context, Retry, StepFailed
from hocket.clock import LoopClock
from hocket.crashpoints import Reach
from hocket.effect import NotDone
from hocket.engine.runs import Head
from hocket.log.memory import MemoryLog, MemoryServer
from hocket.testing import Bed, run_virtual
from hocket_schemas.approvals import EffectResolved
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
POINTS = ("before intent", "after intent", "during the call", "after call", "after outcome")


class Wanted(Event, type="effect.wanted.v1", catalog=EVENTS):
    pass


class Had(Event, type="effect.had.v1", catalog=EVENTS):
    ticket: str


class Killed(BaseException):
    """A process dies here."""


class Outside:
    """The world that effects change; it outlives every process of the test."""

    def __init__(self, *, once_per_key: bool) -> None:
        self.once_per_key = once_per_key
        self.calls: list[str] = []
        self.tickets: dict[str, str] = {}

    def sell(self, key: str) -> str:
        self.calls.append(key)
        if key in self.tickets and self.once_per_key:
            return self.tickets[key]
        assert key not in self.tickets, "sold twice"
        self.tickets[key] = f"ticket-{len(self.tickets) + 1}"
        return self.tickets[key]


def agent_for(outside: Outside, way: str, before_the_call_returns: Callable[[], None]) -> Agent:
    agent = Agent("buyer")

    @agent.effect(idempotent=way == "idempotent")
    async def buy(route: str, *, key: str) -> str:
        ticket = outside.sell(key)
        before_the_call_returns()
        return ticket

    if way == "verify":

        @buy.verify
        async def find(route: str, *, key: str) -> str | None:
            return outside.tickets.get(key)

    @agent.on(Wanted)
    async def want(event: Wanted, ctx: Context) -> Had:
        return Had(ticket=await ctx.step(buy, "MUC-OSL"))

    return agent


async def live_and_die(bed: Bed, agent: Agent, log: MemoryLog, reach: Reach) -> None:
    """One process, until it is killed."""
    with suppress(Killed, BaseExceptionGroup):
        await bed.crew_on(log, agent, reach=reach).run()
    log.kill()


@pytest.mark.parametrize("way", ["verify", "idempotent", "neither"])
@pytest.mark.parametrize("point", POINTS)
def test_an_effect_happens_once_or_waits_for_a_person(point: str, way: str) -> None:
    outside = Outside(once_per_key=way == "idempotent")
    dying: list[Callable[[], None]] = []
    agent = agent_for(outside, way, lambda: dying[-1]())

    async def story() -> tuple[list[Had], list[Head]]:
        server = MemoryServer(clock=LoopClock())
        async with Bed(server=server) as bed:
            bed.agents = (agent,)
            log = server.connect()

            def die() -> None:
                log.kill()
                raise Killed

            dying.append(die if point == "during the call" else lambda: None)
            first = asyncio.create_task(live_and_die(bed, agent, log, lambda name: die() if name == point else None))
            await bed.owned()
            await bed.publish(Wanted(), key="k")
            await first
            dying.append(lambda: None)
            second = asyncio.create_task(bed.crew_on(server.connect(), agent).run())
            await bed.settled()
            parked = bed.runs(agent)
            if parked:
                resolved = EffectResolved(
                    effect=outside.calls[0] if outside.calls else str(parked[0].parked).split()[-1],
                    happened=bool(outside.tickets),
                    result=next(iter(outside.tickets.values()), None),
                    by="ada",
                )
                await bed.bus.command(resolved, to="buyer", key="k")
            await bed.quiet()
            second.cancel()
            return bed.events(Had), parked

    had, parked = run_virtual(story())

    assert [event.ticket for event in had] == ["ticket-1"]
    assert outside.tickets == {outside.calls[0]: "ticket-1"}
    unknown = point in ("after intent", "during the call", "after call")
    assert bool(parked) == (unknown and way == "neither")
    assert len(outside.calls) <= (2 if way == "idempotent" else 1)


def test_what_a_person_said_before_a_call_says_nothing_of_that_call() -> None:
    outside = Outside(once_per_key=False)
    dying: list[Callable[[], None]] = []
    agent = agent_for(outside, "neither", lambda: dying[-1]())

    async def story() -> tuple[list[Head], list[Had]]:
        server = MemoryServer(clock=LoopClock())
        async with Bed(server=server) as bed:
            bed.agents = (agent,)

            async def say(*, happened: bool) -> None:
                (run,) = bed.runs(agent)
                key = str(run.parked).split()[-1]
                resolved = EffectResolved(effect=key, happened=happened, result=outside.tickets.get(key), by="ada")
                await bed.bus.command(resolved, to="buyer", key="k")

            def life(point: str) -> asyncio.Task[None]:
                log = server.connect()

                def die() -> None:
                    log.kill()
                    raise Killed

                dying.append(die if point == "during the call" else lambda: None)
                return asyncio.create_task(live_and_die(bed, agent, log, lambda name: die() if name == point else None))

            first = life("after intent")
            await bed.owned()
            await bed.publish(Wanted(), key="k")
            await first
            second = life("during the call")
            await bed.settled()
            await say(happened=False)
            await second
            await say(happened=False)  # the head in the log still asks
            third = life("")
            await bed.settled()
            parked = bed.runs(agent)
            await say(happened=True)
            await bed.quiet()
            third.cancel()
            return parked, bed.events(Had)

    parked, had = run_virtual(story())

    assert len(parked) == 1
    assert len(outside.calls) == 1
    assert [event.ticket for event in had] == ["ticket-1"]


def outcome_of(script: Callable[[Context], Awaitable[str]], agent: Agent) -> list[Had]:
    async def story() -> list[Had]:
        @agent.on(Wanted, retry=Retry(attempts_max=3, first_s=0.01))
        async def want(event: Wanted, ctx: Context) -> Had:
            return Had(ticket=await script(ctx))

        async with Bed(agent, server=MemoryServer(clock=LoopClock())) as bed:
            await bed.publish(Wanted(), key="k")
            await bed.settled()
            return bed.events(Had)

    return run_virtual(story())


def test_a_failure_that_says_nothing_was_done_may_be_tried_again() -> None:
    agent, calls = Agent("buyer"), []

    @agent.effect(retry=Retry(attempts_max=3, first_s=0.01))
    async def buy() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise NotDone("the counter is closed")
        return "ticket"

    had = outcome_of(lambda ctx: ctx.step(buy), agent)

    assert [event.ticket for event in had] == ["ticket"]
    assert len(calls) == 3


def test_a_failure_that_leaves_the_outcome_open_is_not_tried_again_by_itself() -> None:
    agent, calls = Agent("buyer"), []

    @agent.effect(retry=Retry(attempts_max=5, first_s=0.01))
    async def buy() -> str:
        calls.append(1)
        raise ConnectionError("the line went dead")

    had = outcome_of(lambda ctx: ctx.step(buy), agent)

    assert had == []
    assert len(calls) == 1


def test_a_final_failure_is_remembered_and_raised_as_such() -> None:
    agent, calls = Agent("buyer"), []

    @agent.effect(retry=Retry(attempts_max=2, first_s=0.01))
    async def buy() -> str:
        calls.append(1)
        raise NotDone("sold out")

    async def script(ctx: Context) -> str:
        try:
            return await ctx.step(buy)
        except StepFailed as failure:
            return f"{failure.error_type}: {failure.message}"

    had = outcome_of(script, agent)

    assert [event.ticket for event in had] == ["NotDone: sold out"]
    assert len(calls) == 2
