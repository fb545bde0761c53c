"""A service outside that fails, and two agents in processes of their own that are killed: it is left alone together."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from tests.fault.ledger import CLIENT, ledger
from tests.fault.services import AT_ONCE, written

from hocket.client import connect
from hocket.host.nursery import Nursery
from hocket.host.supervisor import Fleet
from hocket.observe.breakers import breakers
from hocket_schemas.breakers import BreakerClosed, BreakerHalfOpened, BreakerOpened
from hocket_schemas.envelope import Envelope

OPEN_S = 1.5

BUYER = """
from hocket import Agent, Breaker, Context, Event, Retry


class Wanted(Event, type="{name}.wanted.v1"):
    pass


class Bought(Event, type="{name}.bought.v1"):
    pass


agent = Agent("{name}")


@agent.effect(
    idempotent=True,
    retry=Retry(attempts_max=1000, first_s=0.05),
    breaker=Breaker(failures=3, open_s=1.5, name="tickets"),
)
async def buy(who: str, *, key: str) -> str:
    return await purchase(key=key, buyer=who, once=True)


@agent.on(Wanted)
async def want(event: Wanted, ctx: Context) -> Bought:
    await ctx.step(buy, ctx.key)
    return Bought()
"""

MANIFEST = """
name = "{name}"
consumes = ["{name}.wanted.v1"]
emits = ["{name}.bought.v1"]
"""


async def test_while_it_fails_the_whole_fleet_makes_one_call_in_each_period_also_when_it_is_killed(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    names = ("one", "two")
    folders = [written(tmp_path / name, CLIENT + BUYER.format(name=name), MANIFEST.format(name=name)) for name in names]
    async with (
        ledger(tmp_path) as outside,
        Nursery() as nursery,
        Fleet(
            folders, url=nats_url, domain=domain, restarts=AT_ONCE, nursery=nursery, environment=outside.environment
        ) as fleet,
        connect(nats_url, domain=domain) as bus,
        bus.subscribe(BreakerOpened, BreakerHalfOpened, BreakerClosed) as deliveries,
        bus.subscribe("one.bought.v1", "two.bought.v1") as bought,
        asyncio.timeout(60),
    ):
        with closing(sqlite3.connect(outside.path)) as database, database:
            database.execute("INSERT INTO faults (desk, does, how) VALUES ('tickets', 'book', 'fail')")
        await fleet.ready(30)
        for name in names:
            for n in range(4):
                key = f"{name}-{n}"
                await bus.publish_envelope(
                    Envelope(id=key, source="/test", type=f"{name}.wanted.v1", data={}, partitionkey=key)
                )
        said = []
        for probes in (1, 3):
            while sum(isinstance(delivery.event, BreakerHalfOpened) for delivery in said) < probes:
                said.append(await anext(deliveries))
            if probes == 1:
                for name in names:
                    fleet.kill(name)
        [standing] = await breakers(bus)
        with closing(sqlite3.connect(outside.path)) as database, database:
            calls = [at for (at,) in database.execute("SELECT at FROM calls ORDER BY at")]
            database.execute("DELETE FROM faults")
        while not isinstance(said[-1].event, BreakerClosed):
            said.append(await anext(deliveries))
        for _ in range(8):
            await anext(bought)

    assert isinstance(said[0].event, BreakerOpened)
    opened_s = datetime.fromisoformat(str(said[0].envelope.time)).timestamp()
    probes_until = [delivery.event.until for delivery in said if isinstance(delivery.event, BreakerHalfOpened)]
    apart = [(later - until).total_seconds() for until, later in pairwise(probes_until)]
    late = [at for at in calls if at > opened_s + OPEN_S / 2]
    assert min(apart) >= OPEN_S
    assert 1 <= len(late) <= 3, "no call but those that were let through"
    assert min((later - at for at, later in pairwise(late)), default=OPEN_S) >= OPEN_S / 2
    assert (standing.name, standing.state) in [("tickets", "half-open"), ("tickets", "open")]
    assert {len(tickets) for tickets in outside.sold().values()} == {1}
    assert len(outside.sold()) == 8
