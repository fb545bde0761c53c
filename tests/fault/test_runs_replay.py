"""A run executed again: whatever its code decides this time, nothing it did is lost, doubled or left running."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel

from hocket import Agent, Context, Retry, WaitExpired
from hocket.clock import LoopClock
from hocket.effect import NotDone
from hocket.engine.runs import LONGEST_LOOK_S
from hocket.errors import UsageError
from hocket.log.memory import MemoryServer
from hocket.run import Entry
from hocket.testing import Bed, run_virtual
from hocket_schemas.approvals import EffectResolved
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
DAY_S = 86_400.0


class Begun(Event, type="replay.begun.v1", catalog=EVENTS):
    pass


class Nudged(Event, type="replay.nudged.v1", catalog=EVENTS):
    pass


class Said(Event, type="replay.said.v1", catalog=EVENTS):
    text: str


class Lines(BaseModel):
    lines: list[str] = []


Handler = Callable[[Context[Lines]], Awaitable[str | None]]
Script = Callable[["Case"], Awaitable[None]]


class Case:
    """One handler on a bed, with a clock that can be set."""

    def __init__(self, handler: Handler, agent: Agent[Lines] | None = None, **options: Any) -> None:
        self.agent = agent or Agent("runner", state=Lines)

        @self.agent.on(Begun, emits=[Said], waits=[Nudged], **{"retry": Retry(attempts_max=3, first_s=0.1), **options})
        async def begin(event: Begun, ctx: Context[Lines]) -> Said | None:
            text = await handler(ctx)
            return Said(text=text) if text is not None else None

        self.clock = LoopClock()
        self.server = MemoryServer(clock=self.clock)
        self.bed = Bed(self.agent, server=self.server)

    def play(self, script: Script | None = None) -> list[str]:
        """Begin a run, follow the script, and return what was said in the end."""

        async def live() -> list[str]:
            async with self.bed:
                await self.publish(Begun())
                if script is not None:
                    await script(self)
                self.state = self.bed.state(self.agent, "k")
                self.dead = self.bed.dead(self.agent)
                return [said.text for said in self.bed.events(Said)]

        return run_virtual(live())

    async def publish(self, *events: Event) -> None:
        for event in events:
            await self.bed.publish(event, key="k")
            await self.bed.settled()

    async def later(self, by_s: float) -> None:
        """Set the clock forward, and let the loop's own time pass until somebody looks at it."""
        self.clock.advance(by_s)
        await asyncio.sleep(LONGEST_LOOK_S + 1)
        await self.bed.settled()


async def an_hour(case: Case) -> None:
    await case.later(3600)


@pytest.mark.parametrize(("first", "again"), [(2, 0), (0, 2), (1, 3)])
def test_what_is_emitted_after_a_wait_counts_whatever_was_emitted_before_it_this_time(first: int, again: int) -> None:
    decisions = iter([first, again])

    async def undecided(ctx: Context[Lines]) -> str:
        for n in range(next(decisions)):
            ctx.emit(Said(text=f"before {n}"))
        await ctx.sleep(60)
        ctx.emit(Said(text="after"))
        return "end"

    said = Case(undecided).play(an_hour)

    assert said == [*(f"before {n}" for n in range(first)), "after", "end"]


def test_a_sleep_that_is_over_at_once_forgets_nothing() -> None:
    async def hasty(ctx: Context[Lines]) -> str:
        ctx.state.lines.append("before")
        await ctx.sleep(0)
        return str(ctx.state.lines)

    assert Case(hasty).play() == ["['before']"]


def test_what_was_changed_before_a_wait_that_expired_is_changed_once() -> None:
    async def patient(ctx: Context[Lines]) -> str:
        ctx.state.lines.append("before")
        with suppress(WaitExpired):
            await ctx.wait(Nudged, timeout=60)
        ctx.state.lines.append("after")
        await ctx.sleep(60)
        return str(ctx.state.lines)

    async def two_hours(case: Case) -> None:
        await an_hour(case)
        await an_hour(case)

    assert Case(patient).play(two_hours) == ["['before', 'after']"]


def test_an_answer_that_was_taken_is_remembered_longer_than_the_log_keeps_the_event() -> None:
    async def slow(ctx: Context[Lines]) -> str:
        await ctx.wait(Nudged)
        await ctx.sleep(DAY_S)
        return "end"

    async def nudge(case: Case) -> None:
        await case.publish(Nudged())
        nudged = case.bed.names.events_of_key("k", Nudged.event_type)
        for message in case.server.since(1, [nudged], 10):
            case.server._newest.pop(message.subject)
            case.server._forget(message)  # as its retention would
        await case.later(DAY_S + 1)

    assert Case(slow).play(nudge) == ["end"]


def test_a_person_s_word_on_one_call_says_nothing_of_the_next() -> None:
    agent, calls = Agent("runner", state=Lines), []

    @agent.effect()
    async def buy(*, key: str) -> str:
        calls.append(key)
        raise ConnectionError("the line went dead")

    async def resolve(case: Case) -> None:
        (parked,) = case.bed.runs(case.agent)
        assert parked.parked
        await case.bed.bus.command(EffectResolved(effect=calls[0], happened=False, by="ada"), to="runner", key="k")
        await case.bed.settled()

    case = Case(lambda ctx: ctx.step(buy), agent)

    async def script(case: Case) -> None:
        await resolve(case)
        assert len(calls) == 2, "called again, since it had not happened"
        await resolve(case)
        assert len(calls) == 3

    case.play(script)

    assert case.dead == []


def test_a_person_s_word_on_one_call_says_nothing_of_another_with_the_same_key() -> None:
    agent, calls = Agent("runner", state=Lines), []

    @agent.effect()
    async def buy(*, key: str) -> str:
        calls.append(key)
        raise ConnectionError("the line went dead")

    async def twice(ctx: Context[Lines]) -> str:
        return f"{await ctx.step(buy)} and {await ctx.step(buy)}"

    async def resolve(case: Case) -> None:
        for n in (1, 2):
            (parked,) = case.bed.runs(case.agent)
            assert parked.parked
            resolved = EffectResolved(effect=calls[0], happened=True, result=f"ticket {n}", by="ada")
            await case.bed.bus.command(resolved, to="runner", key="k")
            await case.bed.settled()

    assert Case(twice, agent).play(resolve) == ["ticket 1 and ticket 2"]


def test_a_call_after_one_that_came_to_nothing_has_an_intent_of_its_own() -> None:
    agent, calls, phases = Agent("runner", state=Lines), [], []

    @agent.effect()
    async def buy(*, key: str) -> str:
        calls.append(key)
        entries = case.server.since(1, [f"{case.bed.names.root}.jrn.runner.>"], 10)
        phases.append(Entry.from_json(entries[-1].data).phase)
        if len(calls) < 3:
            raise NotDone("the counter is closed")
        return "ticket"

    case = Case(lambda ctx: ctx.step(buy), agent)

    assert case.play() == ["ticket"]
    assert phases == ["begun"] * 3


def test_an_idempotent_receiver_that_never_answers_is_no_proof_that_nothing_happened() -> None:
    agent, calls = Agent("runner", state=Lines), []

    @agent.effect(idempotent=True, retry=Retry(attempts_max=2, first_s=0.1))
    async def buy(*, key: str) -> str:
        calls.append(key)
        raise ConnectionError("the line went dead")

    async def resolve(case: Case) -> None:
        (parked,) = case.bed.runs(case.agent)
        assert parked.parked
        await case.bed.bus.command(EffectResolved(effect="another", happened=True, by="ada"), to="runner", key="k")
        await case.bed.settled()
        resolved = EffectResolved(effect=calls[0], happened=True, result="ticket", by="ada")
        await case.bed.bus.command(resolved, to="runner", key="k")
        await case.bed.settled()

    assert Case(lambda ctx: ctx.step(buy), agent).play(resolve) == ["ticket"]
    assert len(calls) == 2


def test_a_failed_attempt_leaves_no_call_behind_that_the_next_could_meet() -> None:
    agent, tickets = Agent("runner", state=Lines), []
    failures = iter([ConnectionError("no line")])

    @agent.effect()
    async def buy(*, key: str) -> str:
        await asyncio.sleep(5)
        tickets.append(key)
        return "ticket"

    @buy.verify
    async def find(*, key: str) -> str | None:
        return "ticket" if key in tickets else None

    async def look() -> None:
        await asyncio.sleep(1)
        for failure in failures:
            raise failure

    async def at_once(ctx: Context[Lines]) -> str:
        ticket, _ = await asyncio.gather(ctx.step(buy), ctx.step(look))
        return ticket

    said = Case(at_once, agent).play()

    assert said == ["ticket"]
    assert len(tickets) == 1


@pytest.mark.parametrize("group", [False, True], ids=["gather", "task group"])
def test_waits_side_by_side_all_come_to_their_end(group: bool) -> None:
    async def both(ctx: Context[Lines]) -> str:
        if not group:
            await asyncio.gather(ctx.sleep(60), ctx.wait(Nudged))
            return "both"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ctx.sleep(60))
            tasks.create_task(ctx.wait(Nudged))
        return "both"

    async def script(case: Case) -> None:
        await case.publish(Nudged())
        await an_hour(case)

    assert Case(both).play(script) == ["both"]


def test_a_wait_lets_what_is_done_beside_it_come_to_its_end() -> None:
    calls = []

    async def look() -> str:
        calls.append(1)
        await asyncio.sleep(5)
        return "seen"

    async def both(ctx: Context[Lines]) -> str:
        async def nested() -> str:
            _, seen = await asyncio.gather(ctx.sleep(60), ctx.step(look))
            return seen

        _, seen = await asyncio.gather(ctx.sleep(60), ctx.step_with(nested, step_name="nested"))
        return seen

    assert Case(both).play(an_hour) == ["seen"]
    assert len(calls) == 1


def test_a_task_that_a_handler_left_behind_does_nothing_durable() -> None:
    left: list[asyncio.Task[Any]] = []
    calls = []

    async def call() -> None:
        calls.append(1)

    async def hasty(ctx: Context[Lines]) -> str:
        async def later() -> None:
            await asyncio.sleep(5)
            await ctx.step(call)

        left.append(asyncio.create_task(later()))
        return "end"

    async def meet(case: Case) -> None:
        with pytest.raises(UsageError, match="left behind"):
            await left[0]

    assert Case(hasty).play(meet) == ["end"]
    assert calls == []


def test_a_wait_beside_something_that_fails_begins_again_with_the_next_attempt() -> None:
    failures = iter([ConnectionError("no line")])

    async def look() -> str:
        await asyncio.sleep(1)
        for failure in failures:
            raise failure
        return "seen"

    async def both(ctx: Context[Lines]) -> str:
        ctx.state.lines.append("before")
        ctx.emit(Said(text="before"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ctx.sleep(60))
            tasks.create_task(ctx.step(look))
        return str(ctx.state.lines)

    assert Case(both).play(an_hour) == ["before", "['before']"]


def test_an_attempt_that_times_out_while_its_outcome_is_written_knows_it_afterwards() -> None:
    agent, calls = Agent("runner", state=Lines), []
    slow: list[float] = []

    @agent.effect()
    async def buy(*, key: str) -> str:
        calls.append(key)
        slow.append(1)
        return "ticket"

    case = Case(lambda ctx: ctx.step(buy), agent, timeout_s=0.5)
    append = case.bed.server.connect().__class__.append

    async def dawdle(log: Any, writes: Sequence[Any], **options: Any) -> Any:
        if slow:
            slow.clear()
            await asyncio.sleep(1)
        return await append(log, writes, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hocket.log.memory.MemoryLog.append", dawdle)
        said = case.play()

    assert said == ["ticket"]
    assert len(calls) == 1


def test_a_function_that_a_handler_makes_for_a_step_is_gone_with_its_execution() -> None:
    made: list[weakref.ref[Any]] = []

    async def maker(ctx: Context[Lines]) -> str:
        async def look() -> str:
            return str(ctx.key)

        made.append(weakref.ref(look))
        return await ctx.step(look)

    said = Case(maker).play()
    gc.collect()

    assert said == ["k"]
    assert [ref() for ref in made] == [None]
