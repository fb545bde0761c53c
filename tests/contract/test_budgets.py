"""One account and several processes that draw from it, on a real stream."""

import asyncio
from datetime import timedelta

import pytest

from hocket import Agent, Context, connect
from hocket.account import Spends
from hocket.host.crew import Crew, running
from hocket.log import jetstream
from hocket.observe.budgets import budget_of
from hocket_schemas.budgets import Budget
from hocket_schemas.event import Catalog, Event
from hocket_schemas.limits import LimitExceeded
from hocket_schemas.sagas import Saga

EVENTS = Catalog()
CHILDREN = 5
FITS = 7


class Asked(Event, type="drawn.asked.v1", catalog=EVENTS):
    pass


class Delegated(Event, type="drawn.delegated.v1", catalog=EVENTS):
    n: int


class Done(Event, type="drawn.done.v1", catalog=EVENTS):
    pass


@pytest.fixture(autouse=True)
def policy() -> Saga:
    """Declared for one test only: who knows of a budget looks for it."""
    return Saga("drawn", starts=Asked, done=Done, deadline=timedelta(hours=1), budget=Budget(tokens=100 * FITS))


def asker(name: str, calls: list[str]) -> Agent:
    """An agent that calls a model for each child."""
    agent = Agent(name)

    @agent.effect(spends=Spends(tokens=100), idempotent=True)
    async def ask(who: str, n: int, *, key: str) -> None:
        calls.append(key)

    @agent.on(Delegated)
    async def work(event: Delegated, ctx: Context) -> None:
        await ctx.step(ask, name, event.n)

    return agent


async def test_ten_children_in_two_processes_never_overspend_what_their_parent_has(nats_url: str, domain: str) -> None:
    calls: list[str] = []
    starter = Agent("starter")

    @starter.on(Asked, emits=[Delegated])
    async def begin(event: Asked, ctx: Context) -> None:
        for n in range(CHILDREN):
            ctx.start(Delegated(n=n), saga=f"child-{n}", key=f"key-{n}")

    async with (
        jetstream.connect(nats_url, domain=domain) as one,
        jetstream.connect(nats_url, domain=domain) as two,
        running(Crew([starter, asker("left", calls)], one)) as first,
        running(Crew([asker("right", calls)], two)) as second,
        connect(nats_url, domain=domain) as bus,
        asyncio.timeout(30),
    ):
        await asyncio.gather(first.owning(), second.owning())
        async with bus.subscribe(LimitExceeded) as refusals:
            await bus.publish(Asked(), key="k", saga="crew")
            told = [await anext(refusals) for _ in range(2 * CHILDREN - FITS)]
        [line] = await budget_of(bus, "crew", 0.0)

    assert len(calls) == len(set(calls)) == FITS
    assert (line.limit, line.most, line.spent) == ("tokens", 700, 700)
    assert sum(line.by_agent.values()) == 700
    assert {delivery.envelope.correlationid for delivery in told} == {"crew"}
