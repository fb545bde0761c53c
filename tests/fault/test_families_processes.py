"""Sagas with children and one budget, in processes that are killed: each ends as it should, and spends once."""

import asyncio
import os
import random
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from tests.fault.ledger import CLIENT, Ledger, ledger
from tests.fault.services import AT_ONCE, until, written

from hocket.client import Bus, connect
from hocket.host.nursery import Nursery
from hocket.host.supervisor import Fleet
from hocket.observe.budgets import budget_of
from hocket.saga.record import COORDINATOR
from hocket_schemas.envelope import Envelope
from hocket_schemas.limits import LimitExceeded
from hocket_schemas.runtime import SagaCompensated, SagaCompleted

SEEDS = range(int(os.environ.get("HOCKET_FAMILY_SEEDS", "1")))
"""A run of its own takes some seconds each."""

TOKENS = 10
TICKETS = 2
"""How many each saga buys."""

SCHEMAS = """
from datetime import timedelta

from hocket import Budget, Event, Saga


class Asked(Event, type="journey.asked.v1"):
    pass


class PoorlyAsked(Event, type="journey.poorly.asked.v1"):
    pass


class Booked(Event, type="journey.booked.v1"):
    pass


class Refused(Event, type="journey.refused.v1"):
    pass


class StayAsked(Event, type="stay.asked.v1"):
    pass


class StayBooked(Event, type="stay.booked.v1"):
    pass


HOUR = timedelta(hours=1)
RICH = Saga("journey", starts=Asked, done=Booked, fails=[Refused], deadline=HOUR, budget=Budget(tokens=1000))
POOR = Saga("poor", starts=PoorlyAsked, done=Booked, fails=[Refused], deadline=HOUR, budget=Budget(tokens=25))
STAY = Saga("stay", starts=StayAsked, done=StayBooked, deadline=HOUR)
"""

SHOP = """
import asyncio
from hocket import Agent, Context, Spends
from hocket_schemas.children import ChildEnded
from journeys import Asked, Booked, PoorlyAsked, Refused, StayAsked, StayBooked

agent = Agent("{name}")


@agent.effect(idempotent=True, spends=Spends(tokens=10))
async def buy(saga: str, n: int, *, key: str) -> str:
    await asyncio.sleep(0.1)
    return await purchase(key=key, buyer=saga, once=True)


@buy.undo
async def give_back(saga: str, n: int, ref: str | None, *, key: str) -> None:
    await desks.cancel("tickets", key, saga=saga)


async def shop(ctx: Context) -> None:
    for n in range(2):
        await ctx.step(buy, ctx.saga, n)
"""

TRAVELLER = """

@agent.on(Asked, emits=[StayAsked])
async def plan(event: Asked, ctx: Context) -> None:
    await shop(ctx)
    ctx.start(StayAsked(), saga=f"stay-{ctx.saga}")


@agent.on(PoorlyAsked, emits=[StayAsked])
async def plan_poorly(event: PoorlyAsked, ctx: Context) -> None:
    await shop(ctx)
    ctx.start(StayAsked(), saga=f"stay-{ctx.saga}")


@agent.on(ChildEnded)
async def book(event: ChildEnded, ctx: Context) -> Booked | Refused | None:
    if event.state != "completed":
        return None
    return Refused() if ctx.saga.startswith("fails") else Booked()
"""

INN = """

@agent.on(StayAsked)
async def stay(event: StayAsked, ctx: Context) -> StayBooked:
    await shop(ctx)
    return StayBooked()
"""

MANIFESTS = {
    "traveller": """
name = "traveller"
consumes = ["journey.asked.v1", "journey.poorly.asked.v1", "hocket.child.ended.v1"]
emits = ["stay.asked.v1", "journey.booked.v1", "journey.refused.v1"]
""",
    "inn": """
name = "inn"
consumes = ["stay.asked.v1"]
emits = ["stay.booked.v1"]
""",
}

JOURNEYS = {"goes": "journey.asked.v1", "fails": "journey.asked.v1", "poor": "journey.poorly.asked.v1"}


def services(folder: Path) -> list[Path]:
    """The two agents, and the coordinator with the sagas that are declared here."""
    (folder / "journeys.py").write_text(SCHEMAS)
    found = f"import sys\nsys.path.append({str(folder)!r})\n"
    shutil.copytree(Path(__file__).parents[2] / "services" / COORDINATOR, folder / COORDINATOR)
    agent = folder / COORDINATOR / "agent.py"
    agent.write_text(found + agent.read_text())
    codes = {"traveller": SHOP.format(name="traveller") + TRAVELLER, "inn": SHOP.format(name="inn") + INN}
    return [
        folder / COORDINATOR,
        *(written(folder / name, found + CLIENT + code, MANIFESTS[name]) for name, code in codes.items()),
    ]


def standing(outside: Ledger) -> Counter[str]:
    """How many tickets each saga holds."""
    with closing(sqlite3.connect(outside.path)) as database:
        rows = database.execute("SELECT saga, did FROM entries WHERE desk = 'tickets'").fetchall()
    held = Counter[str]()
    for saga, did in rows:
        held[saga] += 1 if did == "booked" else -1
    return +held


async def ends(bus: Bus) -> dict[str, str]:
    """How each saga stands that has ended."""
    return {
        delivery.event.saga: type(delivery.event).__name__
        async for delivery in bus.read(SagaCompleted, SagaCompensated)
        if isinstance(delivery.event, SagaCompleted | SagaCompensated)
    }


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_family_of_sagas_ends_and_spends_once_whoever_is_killed(
    seed: int, tmp_path: Path, nats_url: str, domain: str
) -> None:
    rng = random.Random(seed)
    victims = ["traveller", "inn", COORDINATOR] * 2
    rng.shuffle(victims)
    killed = list[str]()
    journeys = [f"{kind}-{n}" for kind in JOURNEYS for n in (0, 1)]
    expected = {saga: "SagaCompleted" if saga.startswith("goes") else "SagaCompensated" for saga in journeys}
    expected |= {f"stay-{saga}": end for saga, end in expected.items()}
    async with (
        ledger(tmp_path) as outside,
        Nursery() as nursery,
        Fleet(
            services(tmp_path),
            url=nats_url,
            domain=domain,
            restarts=AT_ONCE,
            nursery=nursery,
            environment={**outside.environment, "HOCKET_SCHEMAS": "journeys"},
        ) as fleet,
        connect(nats_url, domain=domain) as bus,
        asyncio.timeout(90),
    ):
        await fleet.ready(30)
        for saga, name in zip(journeys, victims, strict=True):
            asked = JOURNEYS[saga.partition("-")[0]]
            await bus.publish_envelope(
                Envelope(id=f"ask-{saga}", source="/test", type=asked, data={}, partitionkey=saga, correlationid=saga)
            )
            await asyncio.sleep(rng.uniform(0.05, 0.3))
            await until(lambda name=name: name in fleet.pids)
            if len(await ends(bus)) < 2 * (journeys.index(saga) + 1):
                killed.append(name)
            fleet.kill(name)
        while (found := await ends(bus)) != expected:  # noqa: ASYNC110 - it is other processes that are waited for
            await asyncio.sleep(0.1)
        spent = {saga: [line.spent for line in await budget_of(bus, saga, 0.0)] for saga in journeys}
        refused = [d async for d in bus.read(LimitExceeded)]

    assert found == expected
    assert len(killed) > len(victims) / 2, "hardly anybody was killed before all was over, so nothing was proved"
    assert standing(outside) == {saga: TICKETS for saga, end in expected.items() if end == "SagaCompleted"}
    assert spent == {saga: [TOKENS * TICKETS * (1 if saga.startswith("poor") else 2)] for saga in spent}
    assert {delivery.envelope.correlationid for delivery in refused} == {"poor-0", "poor-1"}
    assert len(refused) == 2, "each was told once"
