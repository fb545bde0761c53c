"""Sagas of which nothing is heard: what counts as a sign of life, what is said when there is none, and what follows."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from tests.fault.services import coordinator

from hocket import Agent, Context, Event, Saga
from hocket.cli import looking
from hocket.errors import WaitExpired
from hocket.observe.sagas import SagaLine, facts_in, fold
from hocket.testing import Bed, run_virtual
from hocket_schemas.errors import BadSaga
from hocket_schemas.event import Catalog
from hocket_schemas.limits import LimitExceeded
from hocket_schemas.runtime import SagaCompensated, SagaCompleted, SagaExpired, SagaFailed

EVENTS = Catalog()
DAY = timedelta(days=1)
QUIET = timedelta(minutes=10)
MINUTE = timedelta(minutes=1)


class Asked(Event, type="quiet.asked.v1", catalog=EVENTS):
    pass


class AskedUrgently(Event, type="quiet.asked.urgently.v1", catalog=EVENTS):
    pass


class AskedPatiently(Event, type="quiet.asked.patiently.v1", catalog=EVENTS):
    pass


class Begun(Event, type="quiet.begun.v1", catalog=EVENTS):
    """Has the agent do what the test is about."""


class Noted(Event, type="quiet.noted.v1", catalog=EVENTS):
    pass


class Answered(Event, type="quiet.answered.v1", catalog=EVENTS):
    pass


TOLD = Saga("quiet-told", starts=Asked, done=Answered, deadline=DAY, quiet=QUIET)
ENDED = Saga("quiet-ended", starts=AskedUrgently, done=Answered, deadline=DAY, quiet=QUIET, on_quiet="abort")
LEFT = Saga("quiet-left", starts=AskedPatiently, done=Answered, deadline=DAY)
COORDINATOR = coordinator()

Does = Callable[[Context], Awaitable[None]]
Script = Callable[[Bed], Awaitable[None]]
SAID = (LimitExceeded, SagaFailed, SagaExpired, SagaCompensated, SagaCompleted)


async def nothing(ctx: Context) -> None:
    """An agent that leaves it at that."""


def worker(does: Does) -> Agent:
    agent = Agent("worker")

    @agent.on(Begun, emits=[Noted], waits=[Answered])
    async def go(event: Begun, ctx: Context) -> None:
        await does(ctx)

    return agent


def play(script: Script, does: Does = nothing) -> tuple[list[Event], SagaLine]:
    """What the coordinator says of the saga, and how it is listed at the end."""

    async def live() -> tuple[list[Event], SagaLine]:
        async with Bed(COORDINATOR, worker(does)) as bed:
            await script(bed)
            facts = [fact async for fact in facts_in(bed.bus, "s-1")]
            [line] = fold([TOLD, ENDED, LEFT], facts, bed.server.clock.now_s())
            return bed.events(*SAID), line

    return run_virtual(live())


async def publish(bed: Bed, *events: Event) -> None:
    for event in events:
        await bed.publish(event, key="s-1")
        await bed.settled()


def test_a_saga_of_which_nothing_is_heard_is_told_of_once_and_shown() -> None:
    async def script(bed: Bed) -> None:
        await publish(bed, Asked())
        for _ in range(5):
            await bed.pass_time(QUIET)

    [told], line = play(script)

    assert (told.limit, told.most, told.agent) == ("quiet", 600.0, "coordinator")
    assert 600.0 <= told.count < 700.0
    assert told.what == "quiet.asked.v1 by test"
    assert (line.state, line.last_heard) == ("running", told.what)
    assert line.quiet_since
    assert line.quiet_since < line.last


def test_a_saga_that_began_with_a_watch_has_its_deadline_when_its_policy_has_none_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    early: list[Event] = []

    async def script(bed: Bed) -> None:
        await publish(bed, Asked())
        object.__setattr__(TOLD, "quiet", None)
        await bed.pass_time(2 * QUIET)
        early.extend(bed.events(*SAID))
        await bed.pass_time(DAY)

    try:
        said, _ = play(script)
    finally:
        object.__setattr__(TOLD, "quiet", QUIET)

    assert early == []
    assert [type(event) for event in said] == [SagaExpired, SagaCompensated]


def test_a_quiet_saga_is_printed_with_what_was_heard_last(capsys: pytest.CaptureFixture[str]) -> None:
    async def script(bed: Bed) -> None:
        await publish(bed, Asked())
        await bed.pass_time(QUIET + MINUTE)

    looking._print_sagas([play(script)[1]])

    assert (
        "s-1: nothing heard since 2026-01-01 00:00:00.000; the last was quiet.asked.v1 by test"
        in capsys.readouterr().err
    )


def test_it_may_be_quiet_for_as_long_as_is_said_counted_from_the_last_sign_of_life() -> None:
    async def script(bed: Bed) -> None:
        await publish(bed, Asked())
        for _ in range(5):
            await bed.pass_time(QUIET - MINUTE)
            await publish(bed, Noted())

    said, line = play(script)

    assert (said, line.quiet_since) == ([], None)


def test_a_step_is_a_sign_of_life_and_so_is_whatever_else_is_stored_on_its_key() -> None:
    async def slow(ctx: Context) -> None:
        for _ in range(5):
            await ctx.step(look)
            await ctx.sleep(QUIET - MINUTE)

    async def look() -> str:
        return "there"

    async def script(bed: Bed) -> None:
        await publish(bed, Asked(), Begun())
        for _ in range(5):
            await bed.pass_time(QUIET - MINUTE)

    assert play(script, slow)[0] == []


async def sleep(ctx: Context) -> None:
    await ctx.sleep(12 * QUIET)


async def wait_in_time(ctx: Context) -> None:
    with pytest.raises(WaitExpired):
        await ctx.wait(Answered, timeout=12 * QUIET)


async def ask_people(ctx: Context) -> None:
    await ctx.approve("Go on?")


@pytest.mark.parametrize("does", [sleep, wait_in_time, ask_people])
def test_who_waits_by_design_is_not_quiet(does: Does) -> None:
    async def script(bed: Bed) -> None:
        await publish(bed, Asked(), Begun())
        for _ in range(10):
            await bed.pass_time(QUIET)

    assert play(script, does)[0] == []


def test_after_the_end_of_a_wait_it_is_quiet_like_after_anything_else() -> None:
    async def script(bed: Bed) -> None:
        await publish(bed, Asked(), Begun())
        for _ in range(16):
            await bed.pass_time(QUIET)

    [told], _ = play(script, sleep)

    assert (told.limit, told.what) == ("quiet", "a run of worker")


def test_who_waits_for_an_event_that_never_comes_is_quiet() -> None:
    async def wait(ctx: Context) -> None:
        await ctx.wait(Answered)

    async def script(bed: Bed) -> None:
        await publish(bed, Asked(), Begun())
        await bed.pass_time(QUIET + MINUTE)

    assert [told.what for told in play(script, wait)[0]] == ["a run of worker"]


def test_it_is_not_quiet_any_more_once_something_is_heard_and_told_of_when_it_is_again() -> None:
    async def script(bed: Bed) -> None:
        await publish(bed, Asked())
        await bed.pass_time(QUIET + MINUTE)
        await publish(bed, Noted())
        lines.extend(fold([TOLD], [fact async for fact in facts_in(bed.bus, "s-1")], bed.server.clock.now_s()))
        await bed.pass_time(2 * QUIET)

    lines: list[SagaLine] = []
    said, line = play(script)

    assert lines[0].quiet_since is None
    assert [told.what for told in said] == ["quiet.asked.v1 by test", "quiet.noted.v1 by test"]
    assert line.quiet_since


def test_a_saga_that_may_not_be_quiet_fails_by_it_and_is_undone() -> None:
    async def script(bed: Bed) -> None:
        await publish(bed, AskedUrgently())
        await bed.pass_time(QUIET + MINUTE)

    said, line = play(script)

    assert [type(each) for each in said] == [LimitExceeded, SagaFailed, SagaCompensated]
    assert said[-1].reason == "nothing was heard of it for 0:10:00; the last: quiet.asked.urgently.v1 by test"
    assert (line.state, line.quiet_since) == ("compensated", None)


def test_its_deadline_passes_as_if_nobody_looked() -> None:
    async def script(bed: Bed) -> None:
        await publish(bed, Asked())
        await bed.pass_time(DAY - MINUTE)
        await bed.pass_time(2 * MINUTE)

    assert [type(each) for each in play(script)[0]] == [LimitExceeded, SagaExpired, SagaCompensated]


def test_nobody_looks_after_a_saga_that_has_ended_or_that_may_be_quiet() -> None:
    async def ended(bed: Bed) -> None:
        await publish(bed, Asked(), Answered())
        await bed.pass_time(3 * QUIET)
        assert bed.runs(COORDINATOR) == []

    async def left(bed: Bed) -> None:
        await publish(bed, AskedPatiently())
        [until_s] = [head.until_s for head in bed.runs(COORDINATOR)]
        await bed.pass_time(3 * QUIET)
        assert [head.until_s for head in bed.runs(COORDINATOR)] == [until_s]

    assert [type(each) for each in play(ended)[0]] == [SagaCompleted]
    assert play(left)[0] == []


def test_no_time_at_all_is_refused() -> None:
    with pytest.raises(BadSaga, match="quiet is 0:00:00"):
        Saga("never-quiet", starts=Asked, done=Answered, deadline=DAY, quiet=timedelta())
