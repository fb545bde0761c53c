"""Pausing an agent, and keeping a key or a saga in quarantine: what waits, what goes on, and that nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from hocket import Agent, Context
from hocket.client import open_bus
from hocket.clock import LoopClock
from hocket.engine.cursor import Mark
from hocket.host.crew import running
from hocket.log.memory import MemoryServer
from hocket.observe.audit import audit
from hocket.observe.holds import held, say
from hocket.policy import Limits
from hocket.subjects import shard_of
from hocket.testing import Bed, run_virtual
from hocket_schemas.cancels import CancelRequested, RunCancelled
from hocket_schemas.event import Catalog, Event
from hocket_schemas.holds import HoldLifted, HoldPlaced
from hocket_schemas.runtime import ScheduleDue

EVENTS = Catalog()


class Started(Event, type="hold.started.v1", catalog=EVENTS):
    n: int = 0


class Answered(Event, type="hold.answered.v1", catalog=EVENTS):
    pass


class Ended(Event, type="hold.ended.v1", catalog=EVENTS):
    n: int


Handler = Callable[["Case", Started, Context], Awaitable[None]]


class Case:
    """One agent on a bed, and what it did in its order."""

    def __init__(self, handler: Handler | None = None, **options: Any) -> None:
        self.agent = Agent("worker", limits=Limits(window=4, **options))
        self.did: list[str] = []
        self.begun = asyncio.Event()
        self.released = asyncio.Event()
        self.bed = Bed(self.agent, server=MemoryServer(clock=LoopClock()))

        @self.agent.on(Started, emits=[Ended], waits=[Answered])
        async def start(event: Started, ctx: Context) -> Ended:
            self.did.append(f"began {event.n}")
            if handler is not None:
                await handler(self, event, ctx)
            return Ended(n=event.n)

    def play(self, script: Callable[["Case"], Awaitable[None]]) -> list[int]:
        """Run a script on the bed; return which events were handled to their end, in log order."""

        async def live() -> list[int]:
            async with self.bed:
                await script(self)
                return self.ended

        return run_virtual(live())

    @property
    def ended(self) -> list[int]:
        return [ended.n for ended in self.bed.events(Ended)]

    @property
    def mark(self) -> Mark:
        record = self.bed.server.newest(self.bed.names.cursor("worker"))
        assert record is not None
        return Mark.from_json(record.data)

    @asynccontextmanager
    async def unowned(self) -> AsyncIterator[Bed]:
        """The bed without an owner: a test lets one after the other run."""
        async with Bed(server=self.bed.server) as self.bed:
            self.bed.agents = (self.agent,)
            yield self.bed

    async def start(self, *numbers: int, key: str = "k", saga: str = "s") -> None:
        for n in numbers:
            await self.bed.publish(Started(n=n), key=key, saga=saga)

    async def hold(self, **what: str) -> None:
        await self.bed.publish(HoldPlaced(by="ada", reason="it buys too much", **what), key=what.get("key", "s"))

    async def lift(self, **what: str) -> None:
        await self.bed.publish(HoldLifted(by="bob", **what), key=what.get("key", "s"))

    def tried(self, what: str) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            self.did.append(what)

        act.__qualname__ = what
        return act


@pytest.mark.parametrize("scope", [{}, {"key": "k", "saga": "s"}])
def test_a_hold_names_an_agent_a_key_or_a_saga(scope: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="name"):
        HoldPlaced(by="ada", **scope)


def test_a_paused_agent_takes_nothing_new_and_goes_on_in_order_when_it_is_resumed() -> None:
    async def script(case: Case) -> None:
        await case.hold(agent="worker")
        await case.start(*range(10))  # more than it takes in hand
        await asyncio.sleep(120)
        case.did.append("resumed")
        await case.lift(agent="worker")
        await case.bed.quiet()

    case = Case()

    assert case.play(script) == list(range(10))
    assert case.did == ["resumed", *(f"began {n}" for n in range(10))]


def test_a_pause_is_of_one_agent_alone() -> None:
    async def script(case: Case) -> None:
        await case.hold(agent="another")
        await case.start(1)
        await case.bed.quiet()

    assert Case().play(script) == [1]


def test_a_handling_stops_at_its_next_durable_call_and_goes_on_from_its_journal() -> None:
    async def works(case: Case, event: Started, ctx: Context) -> None:
        await ctx.step(case.tried(f"first of {event.n}"))
        case.begun.set()
        await asyncio.sleep(1)
        await ctx.step(case.tried(f"second of {event.n}"))

    async def script(case: Case) -> None:
        await case.start(0, 1)
        await case.begun.wait()
        await case.hold(agent="worker")
        await asyncio.sleep(120)
        case.did.append("resumed")
        await case.lift(agent="worker")
        await case.bed.quiet()

    case = Case(works)

    assert case.play(script) == [0, 1]
    assert case.did == [
        *("began 0", "first of 0", "resumed", "began 0", "second of 0"),
        *("began 1", "first of 1", "second of 1"),
    ]


def test_a_handling_without_durable_calls_comes_to_its_end() -> None:
    async def works(case: Case, event: Started, ctx: Context) -> None:
        case.begun.set()
        await asyncio.sleep(1)

    async def script(case: Case) -> None:
        await case.start(0, 1)
        await case.begun.wait()
        await case.hold(agent="worker")
        await asyncio.sleep(120)

    assert Case(works).play(script) == [0]


def test_timers_of_a_paused_agent_wait_and_so_do_answers() -> None:
    async def waits(case: Case, event: Started, ctx: Context) -> None:
        if event.n:
            await ctx.wait(Answered)
        else:
            await ctx.sleep(60)
        case.did.append(f"woke {event.n}")

    async def script(case: Case) -> None:
        await case.start(0, key="a")
        await case.start(1, key="b")
        await case.bed.settled()
        await case.hold(agent="worker")
        await case.bed.publish(Answered(), key="b")
        await asyncio.sleep(120)
        case.did.append("resumed")
        await case.lift(agent="worker")
        await case.bed.quiet()

    case = Case(waits)

    assert sorted(case.play(script)) == [0, 1]
    assert case.did[2] == "resumed"
    assert sorted(did for did in case.did if did.startswith("woke")) == ["woke 0", "woke 1"]


def test_times_that_come_while_an_agent_is_paused_were_missed() -> None:
    async def script(case: Case) -> None:
        ticks: list[ScheduleDue] = []

        @case.agent.every("* * * * *")
        async def each_minute(event: ScheduleDue) -> None:
            ticks.append(event)

        async with Bed(case.agent) as bed:
            await bed.publish(HoldPlaced(agent="worker", by="ada"), key="s")
            await asyncio.sleep(5.5 * 60)
            assert ticks == []
            await bed.publish(HoldLifted(agent="worker", by="ada"), key="s")
            await asyncio.sleep(1)
        case.did += [str(tick.missed) for tick in ticks]

    case = Case()
    run_virtual(script(case))

    assert case.did == ["4"]


def test_a_pause_outlives_its_owners_and_stopping_while_paused_takes_no_time() -> None:
    async def works(case: Case, event: Started, ctx: Context) -> None:
        await ctx.step(case.tried(f"step of {event.n}"))
        case.begun.set()
        await asyncio.sleep(1)
        await ctx.step(case.tried(f"end of {event.n}"))

    async def live(case: Case) -> list[int]:
        async with case.unowned() as bed:
            loop = asyncio.get_running_loop()
            async with running(bed.crew(case.agent)):
                await bed.owned()
                await case.start(0, 1)
                await case.begun.wait()
                await case.hold(agent="worker")
                await case.start(2)
                await asyncio.sleep(10)
                began_s = loop.time()
            case.did.append(f"stopped in {loop.time() - began_s:.0f} s")
            async with running(bed.crew(case.agent)):
                await asyncio.sleep(120)
            async with running(bed.crew(case.agent)):
                await asyncio.sleep(10)
                case.did.append("resumed")
                await case.lift(agent="worker")
                await bed.quiet()
                return case.ended

    case = Case(works)

    assert run_virtual(live(case)) == [0, 1, 2]
    assert case.did[:6] == ["began 0", "step of 0", "stopped in 0 s", "resumed", "began 0", "end of 0"]
    assert len(case.did) == 12


@pytest.mark.parametrize("scope", [{"key": "held"}, {"saga": "held"}])
def test_what_is_in_quarantine_waits_without_filling_the_window_of_others(scope: dict[str, str]) -> None:
    async def script(case: Case) -> None:
        await case.hold(**scope)
        await case.start(*range(10), key="held", saga="held")
        await case.start(*range(100, 110), key="other", saga="other")
        while len(case.ended) < 10:
            await case.bed.server.changed()
        await asyncio.sleep(10)
        assert len(case.bed.runs(case.agent)) == 10
        assert case.mark.open == ()
        await case.lift(**scope)
        await case.bed.quiet()

    assert Case().play(script) == [*range(100, 110), *range(10)]


def test_a_quarantine_is_of_one_agent_if_that_is_named_and_the_newest_word_decides() -> None:
    async def script(case: Case) -> None:
        await case.hold(key="k", agent="another")
        await case.start(0)
        await case.bed.quiet()
        await case.hold(key="k")
        await case.start(1)
        await case.lift(key="k", agent="another")
        await case.start(0, key="other")
        await asyncio.sleep(60)
        assert case.ended == [0, 0]
        await case.lift(key="k", agent="worker")
        await case.bed.quiet()

    assert Case().play(script) == [0, 0, 1]


def test_a_run_of_a_key_in_quarantine_stops_and_other_keys_take_over() -> None:
    async def works(case: Case, event: Started, ctx: Context) -> None:
        await ctx.step(case.tried(f"first of {event.n}"))
        if event.n == 0:
            case.begun.set()
            await asyncio.sleep(1)
        await ctx.step(case.tried(f"second of {event.n}"))

    async def script(case: Case) -> None:
        await case.start(0, 1)
        await case.begun.wait()
        await case.hold(key="k")
        await case.start(2)
        await case.start(3, key="other")
        await asyncio.sleep(60)
        case.did.append("released")
        await case.lift(key="k")
        await case.bed.quiet()

    case = Case(works)

    assert case.play(script) == [3, 0, 1, 2]
    assert case.did[:2] == ["began 0", "first of 0"]
    assert case.did[5:] == [
        *("released", "began 0", "second of 0"),
        *("began 1", "first of 1", "second of 1"),
        *("began 2", "first of 2", "second of 2"),
    ]


def test_answers_to_a_run_in_quarantine_wake_it_when_it_is_released_also_under_another_owner() -> None:
    async def waits(case: Case, event: Started, ctx: Context) -> None:
        await ctx.wait(Answered)
        await ctx.sleep(5)
        case.did.append("woke")

    async def live(case: Case) -> list[int]:
        async with case.unowned() as bed:
            async with running(bed.crew(case.agent)):
                await bed.owned()
                await case.start(0)
                await bed.settled()
                await case.hold(key="k")
                await bed.publish(Answered(), key="k")
                await asyncio.sleep(10)
                assert case.mark.open == ()
            async with running(bed.crew(case.agent)):
                await asyncio.sleep(120)
                case.did.append("released")
                await case.lift(key="k")
                await bed.quiet()
                return case.ended

    case = Case(waits)

    assert run_virtual(live(case)) == [0]
    assert case.did == ["began 0", "released", "began 0", "began 0", "woke"]


def test_events_in_quarantine_are_handled_once_each_in_order_however_often_their_owner_changes() -> None:
    async def live(case: Case) -> list[int]:
        async with case.unowned() as bed:
            for round_ in range(3):
                log = bed.server.connect()
                crew = asyncio.ensure_future(bed.crew_on(log, case.agent).run())
                await bed.owned()
                if round_ == 0:
                    await case.hold(key="k")
                await case.start(*range(3 * round_, 3 * round_ + 3))
                await case.start(100 + round_, key="other")
                await asyncio.sleep(20)
                log.kill()
                crew.cancel()
                await asyncio.wait([crew])
            async with running(bed.crew(case.agent)):
                await case.lift(key="k")
                await bed.quiet()
                return case.ended

    case = Case()

    assert run_virtual(live(case)) == [100, 101, 102, *range(9)]


def test_what_is_in_quarantine_can_be_cancelled_without_being_released() -> None:
    async def works(case: Case, event: Started, ctx: Context) -> None:
        await ctx.step(case.tried("step"))
        case.begun.set()
        await asyncio.sleep(1)
        await ctx.step(case.tried("never"))

    async def script(case: Case) -> None:
        await case.start(0, 1)
        await case.begun.wait()
        await case.hold(saga="s")
        await asyncio.sleep(10)
        await case.bed.publish(CancelRequested(saga="s", by="ada"), key="s")
        await case.bed.quiet()
        case.did += [f"cancelled by {told.by}" for told in case.bed.events(RunCancelled)]

    case = Case(works)

    assert case.play(script) == []
    assert case.did == ["began 0", "step", "began 0", "cancelled by ada", "cancelled by ada"]


def test_an_agent_that_looks_after_sagas_goes_on_unless_it_is_named() -> None:
    async def live() -> list[int]:
        keeper = Agent("keeper", heeds_cancels=False)

        @keeper.on(Started)
        async def keep(event: Started) -> Ended:
            return Ended(n=event.n)

        async with Bed(keeper) as bed:
            await bed.publish(HoldPlaced(saga="s", by="ada"), key="s")
            await bed.publish(Started(n=1), key="s", saga="s")
            await bed.quiet()
            await bed.publish(HoldPlaced(agent="keeper", by="ada"), key="s")
            await bed.publish(Started(n=2), key="s", saga="s")
            await asyncio.sleep(60)
            return [ended.n for ended in bed.events(Ended)]

    assert run_virtual(live()) == [1]


def test_a_pause_goes_to_every_shard_and_the_newest_word_tells_what_is_held() -> None:
    async def live() -> list[tuple[str, str, str | None, int]]:
        clock = LoopClock()
        logs = [MemoryServer(shard=shard, clock=clock).connect() for shard in range(3)]
        async with open_bus(logs, publisher="test", clock=clock) as bus:
            await say(bus, HoldPlaced(agent="worker", by="ada"))
            await say(bus, HoldPlaced(key="k", agent="one", by="ada"))
            await say(bus, HoldPlaced(key="k", agent="two", by="ada"))
            await say(bus, HoldLifted(key="k", agent="one", by="ada"))
            await say(bus, HoldPlaced(saga="s", agent="one", by="ada"))
            await say(bus, HoldLifted(saga="s", by="ada"))
            return [(hold.kind, hold.name, hold.agent, hold.shard) for hold in await held(bus)]

    assert sorted(run_virtual(live()), key=str) == [
        *(("agent", "worker", None, shard) for shard in range(3)),
        ("key", "k", "two", shard_of("k", 3)),
    ]


def test_an_audit_takes_what_is_held_for_no_mistake() -> None:
    async def script(case: Case) -> None:
        await case.hold(saga="s")
        await case.start(0)
        await case.start(1, saga="other")
        while not case.ended:
            await case.bed.server.changed()
        await asyncio.sleep(1)  # the cursor follows
        before = await audit(case.bed.bus, {"worker": case.agent.consumes})
        await case.lift(saga="s")
        await case.bed.quiet()
        after = await audit(case.bed.bus, {"worker": case.agent.consumes})
        case.did += [finding.code for finding in (*before.findings, *after.findings)]

    case = Case()

    assert case.play(script) == [1, 0]
    assert case.did[2:] == ["held-run"]
