"""Waiting in the middle of a handler: for events, for people, and for a time."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from hocket import Agent, Context, WaitExpired
from hocket.approval import Decision
from hocket.clock import LoopClock
from hocket.engine.runs import LONGEST_LOOK_S
from hocket.errors import UsageError
from hocket.host.crew import running
from hocket.log.memory import MemoryServer
from hocket.run import Run
from hocket.testing import Bed, run_virtual
from hocket_schemas.approvals import ApprovalDecided, ApprovalRefused, ApprovalRequested
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
DAY_S = 86_400.0


class Started(Event, type="wait.started.v1", catalog=EVENTS):
    pass


class Asked(Event, type="wait.asked.v1", catalog=EVENTS):
    n: int


class Answered(Event, type="wait.answered.v1", catalog=EVENTS):
    n: int


class Ended(Event, type="wait.ended.v1", catalog=EVENTS):
    said: str


class Notes(BaseModel):
    lines: list[str] = []


class Case:
    """One waiting handler on a bed, with a clock that can be set."""

    def __init__(
        self,
        handler: Callable[[Context[Notes]], Awaitable[str]],
        *,
        waits: Sequence[type[Event]] = (Answered, Asked),
    ) -> None:
        self.agent = Agent("waiter", state=Notes)

        @self.agent.on(Started, emits=[Ended], waits=waits)
        async def start(event: Started, ctx: Context[Notes]) -> Ended:
            return Ended(said=await handler(ctx))

        self.clock = LoopClock()
        self.bed = Bed(self.agent, server=MemoryServer(clock=self.clock))

    def play(self, script: Callable[["Case"], Awaitable[None]]) -> list[str]:
        """Run a script on the bed; return what the handler said in the end."""

        async def live() -> list[str]:
            async with self.bed:
                await script(self)
                self.dead = self.bed.dead(self.agent)
                self.refusals = [refused.reason for refused in self.bed.events(ApprovalRefused)]
                self.questions = [asked.question for asked in self.bed.events(ApprovalRequested)]
                return [ended.said for ended in self.bed.events(Ended)]

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

    async def decide(self, by: str = "ada", option: str = "approve", **changes: Any) -> None:
        asked = self.bed.events(ApprovalRequested)[-1]
        decided = {"approval": asked.approval, "digest": asked.digest, "option": option, "by": by, **changes}
        await self.bed.bus.command(ApprovalDecided(**decided), to="waiter", key="k")
        await self.bed.settled()


async def one_answer(ctx: Context[Notes]) -> str:
    ctx.state.lines.append("before")
    answer = await ctx.wait(Answered, where=lambda event: event.n > 0, timeout=DAY_S)
    ctx.state.lines.append("after")
    return f"{answer.n} {ctx.state.lines}"


def test_a_run_goes_on_with_the_first_answer_that_fits() -> None:
    said = Case(one_answer).play(lambda case: case.publish(Started(), Answered(n=0), Answered(n=7), Answered(n=8)))

    assert said == ["7 ['before', 'after']"]


def test_an_answer_that_came_before_the_wait_was_reached_is_found() -> None:
    async def late_to_wait(ctx: Context[Notes]) -> str:
        await ctx.sleep(60)
        return str((await ctx.wait(Answered)).n)

    async def script(case: Case) -> None:
        await case.publish(Started(), Answered(n=1))
        await case.later(61)

    assert Case(late_to_wait).play(script) == ["1"]


def test_an_answer_from_before_the_run_does_not_count() -> None:
    async def script(case: Case) -> None:
        await case.publish(Answered(n=1), Started(), Answered(n=2))

    assert Case(one_answer).play(script) == ["2 ['before', 'after']"]


def test_each_wait_takes_another_answer() -> None:
    async def quorum(ctx: Context[Notes]) -> str:
        return str([(await ctx.wait(Answered)).n for _ in range(3)])

    said = Case(quorum).play(lambda case: case.publish(Started(), Answered(n=1), Answered(n=2), Answered(n=3)))

    assert said == ["[1, 2, 3]"]


def test_nothing_is_done_at_a_wait_that_stands_behind_it_in_a_finally() -> None:
    cleaned: list[str] = []

    async def clean() -> None:
        cleaned.append("up")

    async def tidy(ctx: Context[Notes]) -> str:
        try:
            return str((await ctx.wait(Answered)).n)
        finally:
            await ctx.step(clean)

    async def script(case: Case) -> None:
        await case.publish(Started())
        assert cleaned == []
        await case.publish(Answered(n=1))

    assert Case(tidy).play(script) == ["1"]
    assert cleaned == ["up"]


def test_a_wait_that_expired_stays_expired_whatever_comes_later() -> None:
    async def patient(ctx: Context[Notes]) -> str:
        try:
            await ctx.wait(Answered, timeout=DAY_S)
        except WaitExpired:
            await ctx.sleep(DAY_S)
            return "expired"
        return "answered"

    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.later(DAY_S + 1)
        await case.publish(Answered(n=1))
        await case.later(DAY_S + 1)

    assert Case(patient).play(script) == ["expired"]


def test_a_type_is_either_handled_or_waited_for() -> None:
    agent = Agent("both")

    @agent.on(Answered)
    async def take(event: Answered) -> None: ...

    with pytest.raises(UsageError, match="both handles and waits"):
        agent.on(Started, waits=[Answered])(take)


def test_each_question_gets_its_own_answer() -> None:
    asker, other = Agent("asker"), Agent("other")

    @asker.on(Started, emits=[Asked], waits=[Answered])
    async def start(event: Started, ctx: Context) -> Ended:
        first = await ctx.ask(Asked(n=1), reply=Answered)
        second = await ctx.ask(Asked(n=2), reply=Answered)
        try:
            await ctx.ask(Asked(n=0), reply=Answered, timeout=5)
        except WaitExpired:
            return Ended(said=f"{first.n} {second.n} and no third")
        return Ended(said="too much")

    @other.on(Asked)
    async def answer(event: Asked) -> list[Answered]:
        return [Answered(n=event.n * 10), Answered(n=event.n * 100)] if event.n else []

    async def live() -> list[str]:
        async with Bed(asker, other) as bed:
            await bed.publish(Started(), key="k")
            await bed.quiet()
            return [ended.said for ended in bed.events(Ended)]

    assert run_virtual(live()) == ["10 20 and no third"]


async def ask(ctx: Context[Notes]) -> str:
    decision = await ctx.approve("Buy?", details={"cents": 100}, approvers=["ada", "bob"], timeout=30 * DAY_S)
    return told(decision)


def told(decision: Decision) -> str:
    return f"{decision.option} by {','.join(decision.by) or 'nobody'}: {decision.details}"


def test_a_decision_of_an_approver_counts_once_and_the_second_is_refused() -> None:
    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.decide("ada")
        await case.decide("bob", "deny")

    case = Case(ask)

    assert case.play(script) == ["approve by ada: {'cents': 100}"]
    assert case.refusals == ["it was decided before: approve by ada"]


def test_decisions_right_behind_each_other_count_once() -> None:
    async def script(case: Case) -> None:
        await case.publish(Started())
        asked = case.bed.events(ApprovalRequested)[-1]
        for by in ("ada", "bob", "ada"):
            decided = ApprovalDecided(approval=asked.approval, digest=asked.digest, option="approve", by=by)
            await case.bed.bus.command(decided, to="waiter", key="k")
        await case.bed.settled()

    case = Case(ask)

    assert case.play(script) == ["approve by ada: {'cents': 100}"]
    assert case.refusals == ["it was decided before: approve by ada"] * 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"by": "eve"}, "eve is none of those who may decide: ada, bob"),
        ({"digest": "0" * 32}, "it was about something else than what is asked now"),
        ({"option": "maybe"}, "'maybe' is none of the options: approve, deny"),
        ({"approval": "nothing.0"}, "nothing waits for a decision on 'nothing.0'"),
        ({"approval": "garbage"}, "nothing waits for a decision on 'garbage'"),
        ({"approval": "x" * 300 + ".0"}, f"nothing waits for a decision on {'x' * 300 + '.0'!r}"),
    ],
)
def test_a_decision_that_does_not_count_says_why_and_the_run_waits_on(changes: dict[str, str], reason: str) -> None:
    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.decide(**changes)
        await case.decide("bob", "deny", reason="too dear")

    case = Case(ask)

    assert case.play(script) == ["deny by bob: {'cents': 100}"]
    assert case.refusals == [reason]


def test_a_run_that_sleeps_for_28_days_goes_on_when_the_clock_is_a_month_ahead() -> None:
    async def sleeper(ctx: Context[Notes]) -> str:
        await ctx.sleep(28 * DAY_S)
        return "slept"

    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.later(27 * DAY_S)
        assert case.bed.events(Ended) == []
        await case.later(3 * DAY_S)

    assert Case(sleeper).play(script) == ["slept"]


def test_a_thirty_day_approval_expires_and_a_decision_after_that_is_refused() -> None:
    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.later(29 * DAY_S)
        assert case.bed.events(Ended) == []
        await case.later(DAY_S)
        await case.decide("ada")

    case = Case(ask)

    assert case.play(script) == ["expired by nobody: {'cents': 100}"]
    assert case.refusals == ["it was decided before: expired"]


@pytest.mark.parametrize("away_s", [10.0, 31 * DAY_S])
def test_a_decision_counts_once_when_the_process_dies_before_the_run_has_gone_on(away_s: float) -> None:
    case = Case(ask)
    bed, left = case.bed, 2

    async def story() -> list[str]:
        died = asyncio.Event()
        log = bed.server.connect()

        def reach(point: str) -> None:
            nonlocal left
            left -= point == "after handler"
            if left == 0:
                log.kill()
                died.set()

        agents, bed.agents = bed.agents, ()
        async with bed:
            bed.agents = agents
            dying = asyncio.ensure_future(bed.crew_on(log, reach=reach).run())
            await bed.owned()
            await bed.publish(Started(), key="k")
            await bed.settled()
            asked = bed.events(ApprovalRequested)[-1]
            decided = ApprovalDecided(approval=asked.approval, digest=asked.digest, option="approve", by="ada")
            await bed.bus.command(decided, to="waiter", key="k")
            await died.wait()
            dying.cancel()
            await asyncio.wait([dying])
            assert bed.events(Ended) == []
            case.clock.advance(away_s)
            async with running(bed.crew()):
                await bed.quiet()
                await asyncio.sleep(60)
                assert bed.events(ApprovalRefused) == []
                return [ended.said for ended in bed.events(Ended)]

    assert run_virtual(story()) == ["approve by ada: {'cents': 100}"]


def test_a_run_that_an_answer_has_woken_holds_nothing_up() -> None:
    async def slow(ctx: Context[Notes]) -> str:
        answer = await ctx.wait(Answered)
        await asyncio.sleep(600)
        return str(answer.n)

    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.bed.publish(Answered(n=1), key="k")
        await asyncio.sleep(60)
        (head,) = case.bed.runs(case.agent)
        assert not case.bed._waits(head), "whoever recovers now goes on with it"
        assert case.bed._finished(case.agent), "its answer holds up the floor"
        await asyncio.sleep(600)

    assert Case(slow).play(script) == ["1"]


def test_an_edited_detail_is_what_was_decided() -> None:
    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.decide("ada", edited={"cents": 90})

    assert Case(ask).play(script) == ["approve by ada: {'cents': 90}"]


def test_a_quorum_takes_different_people() -> None:
    async def both(ctx: Context[Notes]) -> str:
        return told(await ctx.approve("Buy?", approvers=["ada", "bob"], quorum=2))

    async def script(case: Case) -> None:
        await case.publish(Started())
        for by in ("ada", "ada", "bob"):
            await case.decide(by)

    case = Case(both)

    assert case.play(script) == ["approve by ada,bob: None"]
    assert case.refusals == ["ada has decided before"]


def test_two_approvals_of_one_run_are_asked_and_decided_one_after_the_other() -> None:
    async def twice(ctx: Context[Notes]) -> str:
        first = await ctx.approve("First?")
        second = await ctx.approve("Second?")
        return f"{first.option} {second.option}"

    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.decide("ada")
        await case.decide("ada", "deny")

    case = Case(twice)

    assert case.play(script) == ["approve deny"]
    assert case.questions == ["First?", "Second?"]


def test_a_handling_that_has_ended_or_waits_leaves_nothing_to_be_collected() -> None:
    agent = Agent("sleeper")

    @agent.on(Asked)
    async def sleep(event: Asked, ctx: Context) -> Ended:
        await ctx.sleep(600)
        return Ended(said=str(event.n))

    def kept() -> int:
        return sum(isinstance(each, Run | Context) for each in gc.get_objects())

    async def story() -> list[int]:
        counts = [kept()]
        async with Bed(agent) as bed:
            for n in range(20):
                await bed.publish(Asked(n=n))
            await bed.settled()
            await asyncio.sleep(1)
            counts.append(kept())
            await asyncio.sleep(1200)
            await bed.quiet()
            assert len(bed.events(Ended)) == 20
            counts.append(kept())
        return counts

    gc.collect()
    gc.disable()
    try:
        before, waiting, ended = run_virtual(story())
    finally:
        gc.enable()

    assert (waiting, ended) == (before, before)
