"""Budgets while processes die: what was reserved is neither lost nor doubled, and no call is made beyond it."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from tests.fault.simulation import Killed

from hocket.account import Balance, Spends
from hocket.agent import Agent, Context
from hocket.beside import pass_on_cancellation
from hocket.clock import LoopClock
from hocket.crashpoints import POINTS
from hocket.engine.accounts import Accounts
from hocket.log.memory import Faults, MemoryServer
from hocket.policy import Limits, Retry
from hocket.run import SPEND, Entry
from hocket.testing import Bed, run_virtual
from hocket_schemas.budgets import Budget
from hocket_schemas.event import Catalog, Event
from hocket_schemas.limits import LimitExceeded
from hocket_schemas.sagas import Saga

EVENTS = Catalog()
CHILDREN = 6
CALLS = 2
TOKENS = 800
EACH = 100
FITS = TOKENS // EACH

ELSEWHERE = ("before cancelled", "before cursor flush", "after cursor flush", "before release", "after release")


class Asked(Event, type="purse.asked.v1", catalog=EVENTS):
    pass


class Delegated(Event, type="purse.delegated.v1", catalog=EVENTS):
    n: int


class Done(Event, type="purse.done.v1", catalog=EVENTS):
    pass


@pytest.fixture(autouse=True)
def policy() -> Saga:
    """Declared for one test only: who knows of a budget looks for it."""
    return Saga("purse", starts=Asked, done=Done, deadline=timedelta(hours=1), budget=Budget(tokens=TOKENS))


class World:
    """Two agents whose processes die or have a bad line, and which draw from one account at once."""

    def __init__(self, point: str = "", count: int = 0, faults: Faults | None = None) -> None:
        self.point, self.count, self.faults = point, count, faults
        self.calls: set[str] = set()
        self.died = 0
        limits = Limits(slow_s=0.2, heartbeat_s=0.2, silence_s=1.0, silence_at_start_s=0.3, append_s=1.0)
        self.starter = Agent("starter", limits=limits)
        self.workers = [self.worker(f"worker-{n}", limits) for n in range(2)]

        @self.starter.on(Asked, emits=[Delegated])
        async def begin(event: Asked, ctx: Context) -> None:
            for n in range(CHILDREN):
                ctx.start(Delegated(n=n), saga=f"child-{n}", key=f"key-{n}")

    def worker(self, name: str, limits: Limits) -> Agent:
        agent = Agent(name, limits=limits)

        @agent.effect(spends=Spends(tokens=EACH), idempotent=True)
        async def ask(n: int, *, key: str) -> str:
            self.calls.add(f"{name} {key}")
            await asyncio.sleep(0.3)
            return "an answer"

        @agent.on(Delegated, retry=Retry(attempts_max=1000, first_s=0.1, factor=1.0), timeout_s=0.5)
        async def work(event: Delegated, ctx: Context) -> None:
            for n in range(CALLS):
                await ctx.step(ask, n)
            await ctx.step(asyncio.sleep, 0)

        return agent

    async def live(self) -> None:
        """Let it all happen, and look."""
        agents = [self.starter, *self.workers]
        async with Bed(server=MemoryServer(clock=LoopClock())) as bed:
            bed.agents = tuple(agents)
            async with asyncio.TaskGroup() as tasks:
                lives = [tasks.create_task(self.process(bed, agent)) for agent in agents]
                await bed.owned()
                await bed.publish(Asked(), key="k", saga="crew")
                await bed.quiet()
                for life in lives:
                    life.cancel()
            record = bed.server.newest(bed.names.account("crew"))
            assert record is not None
            self.spent = Balance.from_json(record.data).used("tokens")
            draws: dict[str, Entry] = {}
            for m in bed.server.since(1, [f"{bed.names.root}.jrn.>"], 1 << 30):
                entry = Entry.from_json(m.data)
                if entry.kind == SPEND:
                    draws[f"{m.subject.rpartition('.')[0]} {entry.name} {entry.occurrence} {m.seq}"] = entry
            self.reserved = [draw for draw in draws.values() if not draw.error]
            self.trips = bed.events(LimitExceeded)
            self.dead = [letter["reason"] for agent in agents for letter in bed.dead(agent)]

    async def process(self, bed: Bed, agent: Agent) -> None:
        """One process after the other; the first dies at the point."""
        left = self.count
        while True:
            log = bed.server.connect(self.faults)
            dead = asyncio.Event()

            def reach(name: str, log=log, dead=dead) -> None:
                nonlocal left
                if name == self.point:
                    left -= 1
                    if left == 0:
                        log.kill()
                        dead.set()
                        self.died += 1
                        raise Killed(name)

            task = asyncio.ensure_future(bed.crew_on(log, agent, reach=reach).run())
            try:
                await dead.wait()
            finally:
                log.killed = True
                task.cancel()
                with suppress(asyncio.CancelledError, BaseExceptionGroup, Killed):
                    await task
            pass_on_cancellation()

    def play(self) -> "World":
        run_virtual(self.live())
        return self

    @property
    def violations(self) -> list[str]:
        """What must not be."""
        found = []
        if self.spent > TOKENS:
            found.append(f"{self.spent} tokens of {TOKENS} were drawn")
        if self.spent != EACH * len(self.reserved):
            found.append(f"{self.spent} tokens were drawn for {len(self.reserved)} reservations")
        if len(self.calls) != len(self.reserved):
            found.append(f"{len(self.calls)} calls were made for {len(self.reserved)} reservations")
        if len(self.calls) != FITS:
            found.append(f"{len(self.calls)} calls were made, {FITS} fit")
        return found


@pytest.mark.parametrize("point", [point for point in POINTS if point not in ELSEWHERE])
def test_what_is_reserved_is_neither_lost_nor_doubled_wherever_a_process_dies(point: str) -> None:
    worlds = [World(point, count).play() for count in (1, 2, 5)]

    assert [world.violations for world in worlds] == [[], [], []]
    assert worlds[0].died, "the point was never reached, so nothing was proved"
    for world in worlds:
        assert set(world.dead) == {"BudgetExceeded"}
        assert {trip.limit for trip in world.trips} == {"tokens"}


@pytest.mark.parametrize("seed", range(5))
def test_what_is_reserved_is_neither_lost_nor_doubled_over_a_bad_line(seed: int) -> None:
    line = Faults(random.Random(seed), delay_s=0.1, lose_request=0.02, lose_answer=0.05, late=0.02, late_s=3.0)

    world = World(faults=line).play()

    assert world.violations == []


def drawn_without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is written whatever anybody else has drawn in between."""
    monkeypatch.setattr("hocket.engine.accounts.Expect", lambda subject, seq: None)


def drawn_in_an_append_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal learns of a reservation later than the account."""
    draw = Accounts.draw

    def apart(self: Accounts, work, number, entry, purse, amounts, *, forced):
        draw(self, work, number + 1000, Entry("lost", number, "void", ""), purse, amounts, forced=forced)
        return draw(self, work, number, entry, purse, {}, forced=forced)

    monkeypatch.setattr(Accounts, "draw", apart)


@pytest.mark.parametrize("plant", [drawn_without_looking, drawn_in_an_append_of_its_own])
def test_a_planted_bug_is_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)

    found = [violation for count in (1, 2, 3) for violation in World("after append", count).play().violations]

    assert found
