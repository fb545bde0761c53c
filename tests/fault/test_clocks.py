"""Workers whose machines disagree about the time by hours: what is due comes when the log's own clock says so."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests.fault.services import hocket, hosted, journal, written

from hocket import Agent, Context, Event
from hocket.beside import beside
from hocket.client import connect
from hocket.clock import LoopClock
from hocket.errors import WaitExpired
from hocket.log.base import Message
from hocket.log.memory import MemoryServer
from hocket.subjects import type_of
from hocket.testing import Bed, run_virtual
from hocket_schemas.approvals import ApprovalDecided
from hocket_schemas.briefs import BriefRequested
from hocket_schemas.envelope import Envelope
from hocket_schemas.runtime import ScheduleDue

HOURS_S = 2 * 3600.0
NAP_S = 40.0
LATE_S = 1.0
EARLY_S = 0.001
"""What a timer may be off by, by the log's clock: a process knows that no better than an answer takes."""

BEGIN_S = 1_767_225_620.0
"""Twenty seconds past a full minute."""

OFF = [(HOURS_S, -HOURS_S), (-HOURS_S, HOURS_S), (0.0, HOURS_S), (0.0, -HOURS_S)]
"""How far the clocks of the first owner's machine and of the second one's are off."""


class Begun(Event, type="clocks.begun.v1"):
    pass


class Never(Event, type="clocks.never.v1"):
    pass


class Woke(Event, type="clocks.woke.v1"):
    pass


class GaveUp(Event, type="clocks.gave-up.v1"):
    pass


class Denied(Event, type="clocks.denied.v1"):
    pass


class Struck(Event, type="clocks.struck.v1"):
    pass


def sleeper() -> Agent[None]:
    """Waits for its time in each of the ways that there are."""
    agent: Agent[None] = Agent("sleeper")

    @agent.on(Begun)
    async def nap(event: Begun, ctx: Context[None]) -> Woke:
        await ctx.sleep(timedelta(seconds=NAP_S))
        return Woke()

    return agent


def waiter() -> Agent[None]:
    agent: Agent[None] = Agent("waiter")

    @agent.on(Begun, waits=[Never])
    async def wait(event: Begun, ctx: Context[None]) -> GaveUp | None:
        try:
            await ctx.wait(Never, timeout=timedelta(seconds=NAP_S))
        except WaitExpired:
            return GaveUp()
        return None

    return agent


def asker() -> Agent[None]:
    agent: Agent[None] = Agent("asker")

    @agent.on(Begun)
    async def ask(event: Begun, ctx: Context[None]) -> Denied | None:
        decision = await ctx.approve("Go?", timeout=timedelta(seconds=NAP_S))
        return None if decision.approved else Denied()

    return agent


def bell() -> Agent[None]:
    agent: Agent[None] = Agent("bell")

    @agent.every("* * * * *")
    async def strike(tick: ScheduleDue, ctx: Context[None]) -> Struck:
        return Struck()

    return agent


class Takeover:
    """The first owner dies while something waits, and the second one, with another clock, goes on."""

    def __init__(self, *agents: Agent[None], off_s: tuple[float, float]) -> None:
        self._agents = agents
        self._off_s = off_s
        self.bed = Bed(server=MemoryServer(clock=LoopClock(BEGIN_S)))

    async def run(self, lasts_s: float) -> list[Message]:
        """What the log holds after a time."""
        async with self.bed as bed:
            first = bed.server.connect()
            crews = [
                bed.crew_on(log, *self._agents, clock=LoopClock(BEGIN_S, off_s))
                for log, off_s in zip((first, bed.server.connect()), self._off_s, strict=True)
            ]
            async with beside(crews[0].run()):
                await crews[0].owning()
                async with beside(crews[1].run()):
                    await bed.publish(Begun(), key="k")
                    await asyncio.sleep(3)
                    first.kill()
                    await asyncio.sleep(lasts_s)
                    assert all(instance.tenures == 1 for instance in crews[1].instances)
            return bed.server.history


def stored_s(history: list[Message], event: type[Event]) -> list[float]:
    """When the events of a type were stored, by the log's clock."""
    events = (m for m in history if ".evt." in m.subject or ".cmd." in m.subject)
    return [m.time_ns / 1e9 for m in events if type_of(m.subject) == event.event_type]


@pytest.mark.parametrize("off_s", OFF)
def test_clocks_hours_apart_change_no_timer_of_a_run(off_s: tuple[float, float]) -> None:
    takeover = Takeover(sleeper(), waiter(), asker(), off_s=off_s)

    history = run_virtual(takeover.run(60))

    [began_s] = stored_s(history, Begun)
    for due in (Woke, GaveUp, Denied):
        [due_s] = stored_s(history, due)
        assert -EARLY_S <= due_s - began_s - NAP_S <= LATE_S, due
    assert stored_s(history, ApprovalDecided) == []


@pytest.mark.parametrize("off_s", OFF)
def test_clocks_hours_apart_neither_miss_a_tick_nor_tick_early(off_s: tuple[float, float]) -> None:
    takeover = Takeover(bell(), off_s=off_s)

    history = run_virtual(takeover.run(200))

    ticks = [at_s - BEGIN_S for at_s in stored_s(history, ScheduleDue)]
    assert [round(at_s) for at_s in ticks] == [40, 100, 160]
    assert all(at_s - round(at_s) >= -EARLY_S for at_s in ticks)


def test_a_clock_that_is_set_while_its_owner_waits_is_right_again_before_the_time_comes() -> None:
    clock = LoopClock(BEGIN_S)

    async def script() -> list[Message]:
        async with Bed(server=MemoryServer(clock=LoopClock(BEGIN_S))) as bed:
            crew = bed.crew_on(bed.server.connect(), sleeper(), clock=clock)
            async with beside(crew.run()):
                await crew.owning()
                await bed.publish(Begun(), key="k")
                await asyncio.sleep(10)
                clock.advance(-HOURS_S)
                await asyncio.sleep(NAP_S)
            return bed.server.history

    history = run_virtual(script())

    [began_s], [woke_s] = stored_s(history, Begun), stored_s(history, Woke)
    assert -EARLY_S <= woke_s - began_s - NAP_S <= LATE_S


SLEEPER = """
import time
from datetime import timedelta
from pathlib import Path

from hocket import Agent, Context, Event

true, off_s = time.time, float(Path({off!r}).read_text())
time.time = lambda: true() + off_s


class Begun(Event, type="naps.begun.v1"):
    pass


class Woke(Event, type="naps.woke.v1"):
    pass


sleeper = Agent("sleeper")


@sleeper.on(Begun)
async def nap(event: Begun, ctx: Context) -> Woke:
    await ctx.sleep(timedelta(seconds={nap_s}))
    return Woke()
"""

MANIFEST = """
name = "sleeper"
consumes = ["naps.begun.v1"]
emits = ["naps.woke.v1"]
"""

SHORT_S = 3.0
BUSY_S = 3.0
"""How late it may be on a machine that has much else to do; the clocks differ by hours."""


async def test_processes_whose_clocks_are_hours_apart_sleep_for_as_long_as_was_asked(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    off = tmp_path / "off"
    off.write_text(str(HOURS_S))
    sleeper = written(tmp_path / "sleeper", SLEEPER.format(off=str(off), nap_s=SHORT_S), MANIFEST)
    slept_s = []
    async with (
        hosted(sleeper, nats_url, domain) as (fleet, bus),
        bus.subscribe("naps.begun.v1", "naps.woke.v1") as told,
    ):
        for next_off_s in (-HOURS_S, HOURS_S):
            key = f"off {next_off_s}"
            begun = Envelope(id=key, source="/test", type="naps.begun.v1", data={}, partitionkey=key)
            async with asyncio.timeout(30):
                await bus.publish_envelope(begun)
                asked = await anext(told)
                while not await journal(bus, key):  # noqa: ASYNC110 - nobody tells us of what happens there
                    await asyncio.sleep(0.02)
                off.write_text(str(next_off_s))
                fleet.kill("sleeper")
                woke = await anext(told)
            slept_s.append((woke.message.time_ns - asked.message.time_ns) / 1e9)

    assert [-EARLY_S <= s - SHORT_S <= BUSY_S for s in slept_s] == [True, True], slept_s


async def test_whoever_lists_sagas_with_a_clock_that_is_ahead_sees_none_expire(
    nats_url: str, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = time.time
    async with connect(nats_url, domain=domain) as bus:
        await bus.publish(BriefRequested(folder="/in", out="/out"), key="b", saga="b")
    monkeypatch.setattr(time, "time", lambda: true() + HOURS_S)

    code, [saga] = await hocket("sagas", "--nats", nats_url, "--domain", domain)

    assert code == 0
    assert saga["state"] == "running", saga
