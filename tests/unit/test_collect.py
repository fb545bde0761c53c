"""Several answers as one wait: which of them count, when they are enough, and what becomes of the others."""

import asyncio

import pytest
from tests.unit.test_waits import DAY_S, Answered, Asked, Case, Ended, Notes, Started

from hocket import Awaited, Context, WaitExpired
from hocket.engine.runs import LONGEST_LOOK_S
from hocket.host.crew import running
from hocket.run import BEGUN, DONE, Entry


def numbers(events: list[Answered]) -> str:
    return str([event.n for event in events])


async def three(ctx: Context[Notes]) -> str:
    ctx.state.lines.append("before")
    found = await ctx.collect(Answered, count=3, quorum=2, where=lambda event: event.n > 0, timeout=DAY_S)
    return f"{numbers(found)} {ctx.state.lines}"


def test_all_of_them_come_back_in_the_order_of_the_log() -> None:
    answers = [Answered(n=n) for n in (3, 0, 1, 2)]

    assert Case(three).play(lambda case: case.publish(Started(), *answers)) == ["[3, 1, 2] ['before']"]


def test_what_came_before_the_wait_was_reached_counts_too() -> None:
    async def late(ctx: Context[Notes]) -> str:
        await ctx.sleep(60)
        return numbers(await ctx.collect(Answered, count=2))

    async def script(case: Case) -> None:
        await case.publish(Started(), Answered(n=1), Answered(n=2))
        await case.later(61)

    assert Case(late).play(script) == ["[1, 2]"]


def test_a_quorum_is_enough_when_the_time_is_up_and_what_comes_later_changes_nothing() -> None:
    async def patient(ctx: Context[Notes]) -> str:
        found = await ctx.collect(Answered, count=5, quorum=2, timeout=DAY_S)
        await ctx.sleep(DAY_S)
        return numbers(found)

    async def script(case: Case) -> None:
        await case.publish(Started(), Answered(n=1), Answered(n=2), Answered(n=3))
        assert case.bed.events(Ended) == []
        await case.later(DAY_S + 1)
        await case.publish(Answered(n=4))
        await case.later(DAY_S + 1)

    assert Case(patient).play(script) == ["[1, 2, 3]"]


def test_fewer_than_the_quorum_expire_by_number_and_stay_for_other_waits() -> None:
    async def disappointed(ctx: Context[Notes]) -> str:
        try:
            await ctx.collect(Answered, count=5, quorum=3, timeout=DAY_S)
        except WaitExpired as expired:
            await ctx.sleep(60)
            return f"{expired}: {numbers(await ctx.collect(Answered, count=2))}"
        return "enough"

    async def script(case: Case) -> None:
        await case.publish(Started(), Answered(n=1), Answered(n=2))
        await case.later(DAY_S + 1)
        await case.later(61)

    (said,) = Case(disappointed).play(script)
    assert said.startswith("2 of 5 wait.answered.v1 came until 2026-01-02T00:00:00")
    assert said.endswith(", wants at least 3: [1, 2]")


def test_what_comes_when_the_run_has_ended_counts_as_handled_and_nothing_follows_from_it() -> None:
    async def two(ctx: Context[Notes]) -> str:
        return numbers(await ctx.collect(Answered, count=3, quorum=2, timeout=DAY_S))

    async def script(case: Case) -> None:
        await case.publish(Started(), Answered(n=1), Answered(n=2))
        await case.later(DAY_S + 1)
        await case.publish(Answered(n=3))
        await case.bed.quiet()
        stored = [event.n for event in case.bed.events(Answered)]
        assert stored == [1, 2, 3]

    case = Case(two)

    assert case.play(script) == ["[1, 2]"]
    assert case.dead == []


def test_of_duplicates_the_first_counts_and_the_others_stay_for_other_waits() -> None:
    async def distinct(ctx: Context[Notes]) -> str:
        found = await ctx.collect(Answered, count=3, distinct=lambda event: event.n % 10)
        return f"{numbers(found)}, then {(await ctx.wait(Answered)).n}"

    answers = [Answered(n=n) for n in (1, 11, 2, 12, 3, 4)]

    assert Case(distinct).play(lambda case: case.publish(Started(), *answers)) == ["[1, 2, 3], then 11"]


def test_rounds_of_answers_do_not_share_any() -> None:
    async def rounds(ctx: Context[Notes]) -> str:
        first = await ctx.collect(Answered, count=2)
        second = await ctx.collect(Answered, count=2)
        return f"{numbers(first)} {numbers(second)}"

    answers = [Answered(n=n) for n in range(4)]

    assert Case(rounds).play(lambda case: case.publish(Started(), *answers)) == ["[0, 1] [2, 3]"]


def test_answers_of_several_types_count_together() -> None:
    async def mixed(ctx: Context[Notes]) -> str:
        found = await ctx.collect(Answered, Asked, count=3)
        return str([(type(event).__name__, event.n) for event in found])

    said = Case(mixed).play(lambda case: case.publish(Started(), Asked(n=1), Answered(n=2), Asked(n=3)))

    assert said == ["[('Asked', 1), ('Answered', 2), ('Asked', 3)]"]


def test_a_collecting_run_goes_on_under_another_owner() -> None:
    async def script(case: Case) -> None:
        bed = case.bed
        async with running(bed.crew(case.agent)) as crew:
            await crew.owning()
            await bed.publish(Started(), key="k")
            await bed.publish(Answered(n=1), key="k")
            await until_parked(case)
        await bed.publish(Answered(n=2), key="k")
        async with running(bed.crew(case.agent)) as crew:
            await crew.owning()
            await bed.publish(Answered(n=3), key="k")
            while not bed.events(Ended):
                await bed.server.changed()
            journal = bed.server.since(1, [bed.names.all_journals], 100)
            phases.extend(Entry.from_json(message.data).phase for message in journal)

    phases: list[str] = []
    case = Case(three)
    case.bed.agents = ()

    assert case.play(script) == ["[1, 2, 3] ['before']"]
    assert phases == [BEGUN, DONE], "one wait, however often it was woken"


async def until_parked(case: Case) -> None:
    while not any(run.waiting for run in case.bed.runs(case.agent)):
        await case.bed.server.changed()


def test_many_large_answers_are_remembered_longer_than_the_log_keeps_the_events() -> None:
    async def long(ctx: Context[Notes]) -> str:
        found = await ctx.collect(Ended, count=5)
        await ctx.sleep(DAY_S)
        return str([len(event.said) for event in found])

    case = Case(long, waits=[Ended])

    async def script(case: Case) -> None:
        await case.publish(Started(), *(Ended(said="x" * 300_000 + str(n)) for n in range(5)))
        found = case.bed.names.events_of_type(Ended.event_type)
        for message in case.bed.server.since(1, [found], 10):
            case.bed.server._newest.pop(message.subject)
            case.bed.server._forget(message)  # as its retention would
        await case.later(DAY_S + 1)

    assert case.play(script) == [str([300_001] * 5)]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"count": 2, "quorum": 3, "timeout": 1}, "a quorum of 3 out of 2"),
        ({"count": 0}, "a quorum of 0 out of 0"),
        ({"count": 2, "quorum": 1}, "give a timeout"),
    ],
)
def test_what_can_never_be_is_refused(options: dict[str, int], why: str) -> None:
    case = Case(lambda ctx: ctx.collect(Answered, **options))  # type: ignore[arg-type,return-value]  # on purpose

    assert case.play(lambda case: case.publish(Started())) == []
    assert why in case.dead[0]["error"]


async def either(ctx: Context[Notes]) -> str:
    first = await ctx.first(Awaited(Asked, where=lambda event: event.n > 9), Answered, timeout=DAY_S)
    return f"{type(first).__name__} {first.n}"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([Asked(n=1), Answered(n=2)], "Answered 2"),
        ([Asked(n=10), Answered(n=2)], "Asked 10"),
        ([Answered(n=3), Asked(n=10)], "Answered 3"),
    ],
)
def test_the_first_in_the_log_wins_whose_own_condition_lets_it_through(answers: list[Asked], said: str) -> None:
    assert Case(either).play(lambda case: case.publish(Started(), *answers)) == [said]


def test_none_of_several_in_time_expires_once() -> None:
    async def patient(ctx: Context[Notes]) -> str:
        try:
            return await either(ctx)
        except WaitExpired as expired:
            return str(expired)

    async def script(case: Case) -> None:
        await case.publish(Started(), Asked(n=1))
        await case.later(DAY_S + 1)

    (said,) = Case(patient).play(script)
    assert said.startswith("none of wait.answered.v1, wait.asked.v1 came until 2026-01-02T00:00:00")


def test_waits_side_by_side_each_end_in_their_own_time() -> None:
    async def chain(ctx: Context[Notes]) -> None:
        await ctx.sleep(30)
        await ctx.sleep(30)

    async def both(ctx: Context[Notes]) -> str:
        async def look() -> float:
            return ctx.now().timestamp()

        began_s = await ctx.step(look)
        await asyncio.gather(ctx.sleep(60), chain(ctx), ctx.wait(Answered))
        return f"{ctx.now().timestamp() - began_s:.0f}"

    async def script(case: Case) -> None:
        await case.publish(Started(), Answered(n=1))
        await asyncio.sleep(60 + LONGEST_LOOK_S)
        await case.bed.settled()

    assert Case(both).play(script) == ["60"]
