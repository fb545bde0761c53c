"""Attempts that failed before one succeeded: in the history with what succeeded, and nowhere else."""

from datetime import timedelta

import pytest

from hocket import Agent, Context, Retry
from hocket.cli.deeds import named, outcome
from hocket.observe.history import Remembered, history
from hocket.observe.why import why
from hocket.run import ATTEMPTS
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()


class Asked(Event, type="kept.asked.v1", catalog=EVENTS):
    pass


class Answered(Event, type="kept.answered.v1", catalog=EVENTS):
    pass


class Moody:
    """Fails so often, then answers; before and after a sleep, if it takes one."""

    def __init__(self, *failures: int, sleeps: bool = False, reminds: bool = False) -> None:
        self.left = list(failures)
        self.agent = Agent("moody")

        @self.agent.on(Asked, retry=Retry(attempts_max=20, first_s=1.0, factor=1.0))
        async def answer(event: Asked, ctx: Context) -> Answered | None:
            self.fail()
            if sleeps:
                await ctx.sleep(60)
                self.fail()
            if reminds and not ctx.reminded:
                ctx.remind(60)
                return None
            return Answered()

    def fail(self) -> None:
        """Be in a mood, if it is not over."""
        if self.left and self.left[0]:
            self.left[0] -= 1
            raise OSError(f"{self.left[0]} more")
        if self.left:
            self.left.pop(0)

    def play(self) -> tuple[list[Remembered], list[Remembered]]:
        """What the journal says of failed attempts: as the key's history shows it, and as `why` does."""

        async def live() -> tuple[list[Remembered], list[Remembered]]:
            async with Bed(self.agent) as bed:
                await bed.publish(Asked(), key="k", event_id="web-1")
                await bed.settled()
                await bed.pass_time(timedelta(minutes=2))
                await bed.quiet()
                assert len(bed.events(Answered)) == 1
                entries = await history(bed.bus, "k")
                chain = await why(bed.bus, "web-1")
                shown = [deed for handling in chain.handlings for deed in handling.did]
                return [e for e in entries if isinstance(e, Remembered) and e.kind == ATTEMPTS], shown

        return run_virtual(live())


def test_attempts_that_failed_are_shown_with_the_one_that_succeeded() -> None:
    [kept], [shown] = Moody(2).play()

    assert [each["error"] for each in kept.result] == ["OSError: 1 more", "OSError: 0 more"]
    assert kept.result[0]["at"] < kept.result[1]["at"] < kept.stored
    assert shown == kept
    assert named(shown) == "failed"
    assert outcome(shown).startswith("2026-01-01 00:00:0")
    assert "OSError: 0 more" in outcome(shown)


def test_what_succeeds_at_once_writes_nothing_of_attempts() -> None:
    assert Moody().play() == ([], [])


def test_of_very_many_the_newest_are_kept() -> None:
    [kept], _ = Moody(15).play()

    assert [each["error"] for each in kept.result] == [f"OSError: {n} more" for n in reversed(range(10))]


def test_attempts_before_a_wait_are_stored_with_it_and_those_after_it_with_the_end() -> None:
    before, after = Moody(1, 2, sleeps=True).play()[0]

    assert [len(kept.result) for kept in (before, after)] == [1, 2]


@pytest.mark.parametrize("failures", [(1,), (1, 1)])
def test_a_handling_that_failed_may_still_ask_to_be_reminded(failures: tuple[int, ...]) -> None:
    kept, _ = Moody(*failures, reminds=True).play()

    assert [len(each.result) for each in kept] == [1] * len(failures)


@pytest.mark.parametrize("kind", ["step", "effect"])
def test_attempts_of_a_step_or_an_effect_are_shown_with_its_outcome(kind: str) -> None:
    agent, calls, twice = Agent("caller"), list[str](), Retry(attempts_max=3, first_s=1.0)

    @agent.effect(idempotent=True, retry=twice)
    async def call(what: str, *, key: str = "") -> str:
        calls.append(what)
        if len(calls) < 3:
            raise OSError(f"call {len(calls)} of {what}")
        return "done"

    async def called(what: str) -> str:
        return await call.function(what)

    @agent.on(Asked)
    async def answer(event: Asked, ctx: Context) -> Answered:
        await (ctx.step(call, "a") if kind == "effect" else ctx.step_with(called, "a", step_retry=twice))
        return Answered()

    async def live() -> Remembered:
        async with Bed(agent) as bed:
            await bed.publish(Asked(), key="k")
            await bed.quiet()
            return [entry for entry in await history(bed.bus, "k") if isinstance(entry, Remembered)][-1]

    done = run_virtual(live())

    assert [failure.partition(" ")[2] for failure in done.failures] == ["OSError: call 1 of a", "OSError: call 2 of a"]
    assert done.failures[0] < done.failures[1]
    assert outcome(done) == f"done; before: {done.failures[0]}; before: {done.failures[1]}"
