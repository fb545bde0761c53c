"""Asking more people when those who were asked do not answer."""

import asyncio
from typing import Any

import pytest
from tests.unit.test_collect import until_parked
from tests.unit.test_waits import DAY_S, Case, Ended, Notes, Started, told

from hocket import Context
from hocket.approval import judge
from hocket.cli.approving import _asked
from hocket.host.crew import running
from hocket.observe.runs import decide, open_runs
from hocket_schemas.approvals import ApprovalDecided, ApprovalEscalated, ApprovalRequested


async def ask(ctx: Context[Notes], **options: Any) -> str:
    ctx.state.lines.append("before")
    asked = {"approvers": ["ada", "bob"], "timeout": 30 * DAY_S, "escalate_after": 3 * DAY_S, "escalate_to": ["eve"]}
    decision = await ctx.approve("Buy?", details={"cents": 100}, **{**asked, **options})
    return f"{told(decision)} {ctx.state.lines}"


APPROVED_BY = "approve by {}: {{'cents': 100}} ['before']"


def test_after_three_of_thirty_days_the_same_is_asked_of_more_people() -> None:
    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.later(3 * DAY_S - 20)
        assert case.bed.events(ApprovalEscalated) == []
        await case.later(20)
        (requested,), (escalated,) = case.bed.events(ApprovalRequested), case.bed.events(ApprovalEscalated)
        same = ("approval", "agent", "question", "details", "digest", "options", "quorum", "expires")
        assert all(getattr(escalated, name) == getattr(requested, name) for name in same)
        assert escalated.approvers == ["ada", "bob", "eve"]
        await case.later(10 * DAY_S)
        await case.decide("eve")

    assert Case(ask).play(script) == [APPROVED_BY.format("eve")]


def test_the_timeout_counts_from_the_first_question() -> None:
    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.later(3 * DAY_S)
        await case.later(26 * DAY_S)
        assert case.bed.events(Ended) == []
        await case.later(DAY_S)
        await case.decide("eve")

    case = Case(ask)

    assert case.play(script) == ["expired by nobody: {'cents': 100} ['before']"]
    assert case.refusals == ["it was decided before: expired"]


def test_with_nobody_there_for_all_of_the_time_it_expires_without_being_escalated() -> None:
    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.later(31 * DAY_S)
        assert case.bed.events(ApprovalEscalated) == []

    assert Case(ask).play(script) == ["expired by nobody: {'cents': 100} ['before']"]


def test_what_was_decided_before_counts_after_it() -> None:
    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.decide("ada")
        await case.later(4 * DAY_S)
        await case.decide("ada")
        await case.decide("eve")

    case = Case(lambda ctx: ask(ctx, quorum=2))

    assert case.play(script) == [APPROVED_BY.format("ada,eve")]
    assert case.refusals == ["ada has decided before"]


def test_what_did_not_count_before_does_not_count_after_it() -> None:
    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.decide("eve", "deny")
        await case.later(4 * DAY_S)
        assert case.bed.events(Ended) == [], "eve has to say it again"
        await case.decide("eve")

    case = Case(ask)

    assert case.play(script) == [APPROVED_BY.format("eve")]
    assert case.refusals == ["eve is none of those who may decide: ada, bob"]


def test_decided_in_time_it_is_never_escalated() -> None:
    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.decide("bob", "deny")
        await case.later(4 * DAY_S)
        assert case.bed.events(ApprovalEscalated) == []

    assert Case(ask).play(script) == ["deny by bob: {'cents': 100} ['before']"]


def test_two_approvals_of_one_run_are_escalated_each_in_its_own_time() -> None:
    async def twice(ctx: Context[Notes]) -> str:
        return f"{await ask(ctx)} | {await ask(ctx)}"

    async def script(case: Case) -> None:
        await case.publish(Started())
        await case.later(3 * DAY_S)
        await case.decide("eve")
        await case.decide("eve")
        await case.later(3 * DAY_S)
        await case.decide("eve")

    case = Case(twice)

    (said,) = case.play(script)
    assert said.count("approve by eve") == 2
    assert case.refusals == ["eve is none of those who may decide: ada, bob"]


@pytest.mark.parametrize("point", ["before append", "after append"])
def test_an_owner_that_dies_while_it_escalates_leaves_one_escalation(point: str) -> None:
    async def script(case: Case) -> None:
        bed = case.bed
        log = bed.server.connect()
        dying = False

        def reach(now: str) -> None:
            if dying and now == point:
                log.kill()

        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(bed.crew_on(log, case.agent, reach=reach).run())
            await asyncio.sleep(1)  # of virtual time
            await bed.publish(Started(), key="k")
            await until_parked(case)
            dying = True
            case.clock.advance(3 * DAY_S)
            await asyncio.sleep(20)
            assert log.killed
            async with running(bed.crew(case.agent)) as crew:
                await crew.owning()
                await asyncio.sleep(20)
                counts.append(len(bed.events(ApprovalEscalated)))
                await case.decide("eve")
                while not bed.events(Ended):
                    await bed.server.changed()
            first.cancel()

    counts: list[int] = []
    case = Case(ask)
    case.bed.agents = ()

    assert case.play(script) == [APPROVED_BY.format("eve")]
    assert counts == [1]


def test_who_may_decide_is_shown_and_held_to_before_a_decision_is_sent() -> None:
    shown: list[str] = []

    async def script(case: Case) -> None:
        async def look() -> None:
            async for run in open_runs(case.bed.bus):
                assert run.request is not None
                shown.append(_asked(run.request))

        await case.publish(Started())
        await look()
        await case.later(3 * DAY_S)
        await look()
        [run] = [run async for run in open_runs(case.bed.bus)]
        assert run.request is not None
        yes = ApprovalDecided(approval=run.request.approval, digest=run.request.digest, option="approve", by="eve")
        await decide(case.bed.bus, run, yes)
        await case.bed.settled()

    assert Case(ask).play(script) == [APPROVED_BY.format("eve")]
    assert shown == ["ada, bob", "ada, bob, eve (escalated)"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"escalate_to": []}, "wants both"),
        ({"escalate_after": None}, "wants both"),
        ({"approvers": []}, "anybody may decide from the start"),
        ({"escalate_after": 30 * DAY_S}, "never comes"),
    ],
)
def test_an_escalation_that_cannot_be_is_refused(options: dict[str, Any], why: str) -> None:
    case = Case(lambda ctx: ask(ctx, **options))

    assert case.play(lambda case: case.publish(Started())) == []
    assert why in case.dead[0]["error"]


def test_where_in_the_log_somebody_decides_says_whether_it_counts() -> None:
    shown: dict[str, Any] = {"approval": "r.0", "question": "Buy?", "digest": "d", "options": ["approve", "deny"]}
    request = ApprovalRequested(agent="a", approvers=["ada"], escalate_to=["eve"], **shown)
    wider = ApprovalEscalated(agent="a", approvers=["ada", "eve"], **shown)
    yes = ApprovalDecided(approval="r.0", digest="d", option="approve", by="eve")

    early, _ = judge(request, [yes, wider])
    late, refusals = judge(request, [yes, wider, yes])

    assert early is None
    assert late is not None
    assert late.by == ("eve",)
    assert refusals == ["eve is none of those who may decide: ada", None, None]
