"""Schedules on the log's twin: each time that comes is one event, whoever owns the agent, and whatever its code is."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel

from hocket import Agent, Context
from hocket.clock import LoopClock
from hocket.engine.runs import LONGEST_LOOK_S
from hocket.errors import UsageError
from hocket.host.crew import running
from hocket.log.memory import MemoryServer
from hocket.observe.schedules import ScheduleLine, schedules
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event
from hocket_schemas.runtime import ScheduleDue

EVENTS = Catalog()
DAY_S = 86_400.0
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


class Told(Event, type="every.told.v1", catalog=EVENTS):
    due: datetime
    missed: int = 0
    skipped: int = 0
    count: int = 0


class Nodded(Event, type="every.nodded.v1", catalog=EVENTS):
    pass


class Count(BaseModel):
    ticks: int = 0


def told(tick: ScheduleDue, count: int = 0) -> Told:
    return Told(due=tick.due, missed=tick.missed, skipped=tick.skipped, count=count)


def daily(**options: object) -> Agent[Count]:
    """An agent that tells of each day's tick, at six in UTC unless told otherwise."""
    agent = Agent("teller", state=Count)

    @agent.every(**{"cron": "0 6 * * *", **options})  # type: ignore[arg-type]  # of mixed options
    async def tell(tick: ScheduleDue, ctx: Context[Count]) -> Told:
        ctx.state.ticks += 1
        return told(tick, ctx.state.ticks)

    return agent


class Case:
    """A log with a clock that can be set, and the agents that own it one after the other."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.server = MemoryServer(clock=self.clock)
        self.told: list[Told] = []

    async def own(self, agent: Agent[Count], days: int = 0) -> None:
        """Let an agent own the log while so many days pass, and leave in good order."""
        async with Bed(agent, server=self.server) as bed:
            await asyncio.sleep(1)  # what the owner before has left is taken up
            for _ in range(days):
                await self.pass_days(1)
            await bed.settled()

    async def pass_days(self, days: int) -> None:
        """Let so many sixths hours come: set the clock to just before the last of them, and wait for it."""
        before_six = 6 * 3600 - 1.5 * LONGEST_LOOK_S
        today_s = self.clock.now_s() - before_six
        self.clock.advance(days * DAY_S - today_s % DAY_S)
        await asyncio.sleep(2 * LONGEST_LOOK_S)

    @property
    def days(self) -> list[int]:
        """Of the ticks that were told, the day of the month."""
        return [one.due.day for one in self.told]


def play(script: Callable[[Case], Awaitable[None]]) -> Case:
    async def live() -> Case:
        case = Case()
        await script(case)
        case.told = Bed(server=case.server).events(Told)
        return case

    return run_virtual(live())


def test_a_month_of_ticks_has_one_event_each_whoever_owns() -> None:
    agent = daily(tz="Europe/Berlin")

    async def script(case: Case) -> None:
        for _ in range(6):
            await case.own(agent, 5)

    case = play(script)

    assert case.days == list(range(1, 31))
    assert {(one.due.hour, one.missed, one.skipped) for one in case.told} == {(5, 0, 0)}
    assert [one.count for one in case.told] == list(range(1, 31)), "all of them came to one actor's state"


def test_a_tick_is_never_early_and_hardly_late() -> None:
    agent = Agent("teller")

    @agent.every("*/20 * * * * *")
    async def tell(tick: ScheduleDue) -> Told:
        return told(tick)

    async def live() -> list[float]:
        async with Bed(agent, server=MemoryServer(clock=LoopClock())) as bed:
            await asyncio.sleep(605)
            pattern = bed.names.commands_for("teller")
            ticks = bed.server.since(1, [pattern], 1 << 30)
            dues = [due.due.timestamp() for due in bed.events(Told)]
            return [tick.time_ns / 1e9 - due for tick, due in zip(ticks, dues, strict=False)]

    late_s = run_virtual(live())

    assert len(late_s) == 30
    assert min(late_s) >= 0
    assert max(late_s) <= 0.05


@pytest.mark.parametrize(
    ("catch_up", "days", "missed", "skipped"),
    [
        ("latest", [1, 5, 6], [0, 3, 0], [0, 0, 0]),
        ("all", [1, 2, 3, 4, 5, 6], [0] * 6, [0] * 6),
        ("skip", [1, 6], [0, 0], [0, 4]),
    ],
)
def test_what_was_missed_while_nobody_owned_is_caught_up_with_as_wanted(
    catch_up: str, days: list[int], missed: list[int], skipped: list[int]
) -> None:
    async def script(case: Case) -> None:
        await case.own(daily(catch_up=catch_up), 1)
        await case.pass_days(4)
        await case.own(daily(catch_up=catch_up), 1)

    case = play(script)

    assert case.days == days
    assert [one.missed for one in case.told] == missed
    assert [one.skipped for one in case.told] == skipped


def test_catching_up_with_all_ends_at_a_hundred_and_the_first_stands_for_the_rest() -> None:
    async def script(case: Case) -> None:
        await case.own(daily(catch_up="all"))
        await case.pass_days(131)
        await case.own(daily(catch_up="all"))

    case = play(script)

    assert [one.missed for one in case.told] == [31] + [0] * 99


def test_a_rule_that_changed_begins_anew_and_one_that_is_gone_is_forgotten() -> None:
    gone = Agent("teller", state=Count)

    async def script(case: Case) -> None:
        await case.own(daily(), 1)
        await case.pass_days(2)
        await case.own(daily(cron="0 7 * * *"), 2)
        await case.own(gone, 1)
        assert [m for m in case.server.since(1, ["hocket.0.due.>"], 9) if m.data] == []
        await case.own(daily(cron="0 7 * * *"), 2)

    case = play(script)

    assert [(one.due.day, one.due.hour, one.missed) for one in case.told] == [
        (1, 6, 0),
        (3, 7, 0),
        (4, 7, 0),
        (6, 7, 0),
        (7, 7, 0),
    ]


def test_a_time_that_ticked_ticks_no_more_when_the_clock_goes_back() -> None:
    gone = Agent("teller", state=Count)

    async def script(case: Case) -> None:
        await case.own(daily(), 1)
        case.clock.advance(-DAY_S)
        await case.own(daily(), 1)
        await case.own(gone)
        case.clock.advance(-DAY_S)
        await case.own(daily(), 2)

    assert play(script).days == [1, 2]


def waiting(overlap: str) -> Agent[Count]:
    """An agent whose ticks stay open until somebody nods."""
    agent = Agent("teller", state=Count)

    @agent.every("0 6 * * *", overlap=overlap, waits=[Nodded])  # type: ignore[arg-type]  # of the test's parameter
    async def tell(tick: ScheduleDue, ctx: Context[Count]) -> Told:
        await ctx.wait(Nodded)
        return told(tick)

    return agent


@pytest.mark.parametrize(
    ("overlap", "expected"), [("queue", [(1, 0), (2, 0), (3, 0), (4, 0)]), ("skip", [(1, 0), (4, 2)])]
)
def test_a_tick_that_comes_while_the_one_before_is_open_waits_or_is_dropped(
    overlap: str, expected: list[tuple[int, int]]
) -> None:
    async def script(case: Case) -> None:
        await case.own(waiting(overlap), 2)
        await case.own(waiting(overlap), 1)
        async with Bed(waiting(overlap), server=case.server) as bed:
            for _ in range(3 if overlap == "queue" else 1):
                await bed.publish(Nodded(), key="schedule-tell")
                await bed.settled()
            await case.pass_days(1)
            await bed.publish(Nodded(), key="schedule-tell")
            await bed.quiet()

    case = play(script)

    assert [(one.due.day, one.skipped) for one in case.told] == expected


def test_a_handling_that_takes_long_is_open_for_as_long() -> None:
    agent = Agent("teller", state=Count)

    @agent.every("*/10 * * * * *", overlap="skip")
    async def tell(tick: ScheduleDue) -> Told:
        await asyncio.sleep(25)
        return told(tick)

    async def script(case: Case) -> None:
        async with Bed(agent, server=case.server):
            await asyncio.sleep(100)

    case = play(script)

    assert [(one.due.second, one.skipped) for one in case.told] == [(10, 0), (40, 2), (10, 2)]


def test_what_comes_due_is_listed_whether_or_not_anybody_owns() -> None:
    listed: list[ScheduleLine] = []

    async def script(case: Case) -> None:
        await case.own(daily(tz="Europe/Berlin"), 1)
        async with Bed(server=case.server) as bed:
            listed.extend([line async for line in schedules(bed.bus)])

    play(script)

    [line] = listed
    assert (line.agent, line.schedule, line.cron, line.tz) == ("teller", "tell", "0 6 * * *", "Europe/Berlin")
    assert line.next_due == "2026-01-02T05:00:00.000Z"
    assert line.last_tick is not None


def test_each_schedule_has_its_own_function_and_what_no_schedule_is_called_is_a_dead_letter() -> None:
    agent = Agent("teller")
    called: list[str] = []

    @agent.every("1 0 * * *")
    async def first(tick: ScheduleDue) -> None:
        called.append(f"{tick.schedule} {tick.due:%H:%M}")

    @agent.every("2 0 * * *", name="second", key="a key")
    async def another(tick: ScheduleDue, ctx: Context) -> None:
        called.append(f"{tick.schedule} {tick.due:%H:%M} {ctx.key}")

    async def live() -> list[str]:
        async with Bed(agent, server=MemoryServer(clock=LoopClock())) as bed:
            await asyncio.sleep(150)
            await bed.bus.command(ScheduleDue(schedule="third", due=NEW_YEAR), to="teller", key="k")
            await bed.bus.command(ScheduleDue(schedule="second", due=NEW_YEAR), to="teller", key="by hand")
            await bed.quiet()
            return [letter["error"] for letter in bed.dead(agent)]

    dead = run_virtual(live())

    assert called == ["first 00:01", "second 00:02 a key", "second 00:00 by hand"]
    assert dead == ["agent 'teller' has no schedule 'third'"]


def test_an_owner_that_was_paused_ticks_no_more() -> None:
    agent = daily()

    async def script(case: Case) -> None:
        async with Bed(agent, server=case.server) as bed, running(bed.crew(agent)):
            await case.pass_days(1)
            await case.pass_days(1)

    assert play(script).days == [1, 2]


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "0 6 * *"}, "Wrong number of fields"),
        ({"cron": "0 0 * * 1#6"}, "Bad day-of-week"),
        ({"cron": "* * */20 * 1L"}, "never comes due"),
        ({"tz": "Europe/Nowhere"}, "no time zone of that name"),
        ({"tz": "../etc/passwd"}, "no time zone of that name"),
        ({"overlap": "perhaps"}, "wants one of"),
        ({"catch_up": "some"}, "wants one of"),
        ({"overlap": "skip", "catch_up": "all"}, "choose"),
    ],
)
def test_what_is_no_schedule_is_refused_where_it_is_declared(options: dict[str, object], cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        daily(**options)


def test_a_name_is_taken_once_and_ticks_are_nothing_to_subscribe_to() -> None:
    agent = daily()

    with pytest.raises(UsageError, match="already has a schedule 'tell'"):
        agent.every("0 7 * * *", name="tell")(agent.tick_handlers["tell"].function)
    with pytest.raises(UsageError, match="every"):
        agent.on(ScheduleDue)(agent.tick_handlers["tell"].function)
    assert agent.consumes == []
    assert agent.emits == ["every.told.v1"]
