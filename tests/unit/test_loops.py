"""What goes round in circles is stopped, and an event says who and where."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hocket import Agent, Context, Limits
from hocket.errors import LoopDetected
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event
from hocket_schemas.limits import LimitExceeded

EVENTS = Catalog()
MOST = 3


class Begun(Event, type="loop.begun.v1", catalog=EVENTS):
    pass


class Ping(Event, type="loop.ping.v1", catalog=EVENTS):
    pass


class Pong(Event, type="loop.pong.v1", catalog=EVENTS):
    pass


class Ended(Event, type="loop.ended.v1", catalog=EVENTS):
    pass


def test_agents_that_answer_each_other_for_ever_are_stopped_and_an_event_says_so() -> None:
    back, forth = Agent("back"), Agent("forth")

    @back.on(Ping)
    async def ping(event: Ping) -> Pong:
        return Pong()

    @forth.on(Pong)
    async def pong(event: Pong) -> Ping:
        return Ping()

    async def story() -> tuple[list[dict[str, Any]], list[LimitExceeded]]:
        async with Bed(back, forth) as bed:
            await bed.publish(Ping(), key="k")
            await bed.quiet()
            return [*bed.dead(back), *bed.dead(forth)], bed.events(LimitExceeded, key="k")

    letters, trips = run_virtual(story())

    assert [(letter["agent"], letter["reason"]) for letter in letters] == [("forth", "LoopDetected")]
    assert [(trip.limit, trip.most, trip.count, trip.agent) for trip in trips] == [("hops", 32, 33, "forth")]
    assert trips[0].event == letters[0]["id"]


class Looper:
    """A handler that calls, and how often it really was called."""

    def __init__(self, handler: Callable[["Looper", Context], Awaitable[None]]) -> None:
        self.agent = Agent("looper", limits=Limits(repeats_max=MOST))
        self.calls: list[Any] = []

        @self.agent.effect(idempotent=True)
        async def order(what: str, *, key: str) -> None:
            self.calls.append(what)

        @self.agent.effect(polls=True)
        async def poll(what: str) -> None:
            self.calls.append(what)

        self.order, self.poll = order, poll

        @self.agent.on(Begun)
        async def begin(event: Begun, ctx: Context) -> Ended:
            await handler(self, ctx)
            return Ended()

    async def look(self, what: str) -> None:
        self.calls.append(what)

    def play(self) -> tuple[list[str], list[LimitExceeded]]:
        async def story() -> tuple[list[str], list[LimitExceeded]]:
            async with Bed(self.agent) as bed:
                await bed.publish(Begun(), key="k")
                await bed.quiet()
                self.ended = len(bed.events(Ended))
                return [letter["reason"] for letter in bed.dead(self.agent)], bed.events(LimitExceeded)

        return run_virtual(story())


async def repeats_a_step(looper: Looper, ctx: Context) -> None:
    while True:
        await ctx.step(looper.look, "same")


async def repeats_an_effect(looper: Looper, ctx: Context) -> None:
    while True:
        await ctx.step(looper.order, "same")


async def repeats_a_step_over_sleeps(looper: Looper, ctx: Context) -> None:
    while True:
        await ctx.step(looper.look, "same")
        await ctx.sleep(1)


@pytest.mark.parametrize(
    ("handler", "name"),
    [(repeats_a_step, "look"), (repeats_an_effect, "order"), (repeats_a_step_over_sleeps, "look")],
)
def test_the_same_call_again_and_again_is_stopped_before_it_is_made(
    handler: Callable[[Looper, Context], Awaitable[None]], name: str
) -> None:
    looper = Looper(handler)

    reasons, trips = looper.play()

    assert looper.calls == ["same"] * MOST
    assert reasons == ["LoopDetected"]
    assert [(trip.limit, trip.most, trip.count) for trip in trips] == [("repeats", MOST, MOST + 1)]
    assert trips[0].what.endswith(name)
    assert len(trips[0].digest) == 16


async def calls_with_other_arguments(looper: Looper, ctx: Context) -> None:
    for n in range(2 * MOST):
        await ctx.step(looper.look, str(n))
        await ctx.step(looper.order, str(n))


async def polls(looper: Looper, ctx: Context) -> None:
    for _ in range(2 * MOST):
        await ctx.step_with(looper.look, "same", step_polls=True)
        await ctx.step(looper.poll, "same")


@pytest.mark.parametrize("handler", [calls_with_other_arguments, polls])
def test_other_arguments_and_what_polls_are_no_loop(handler: Callable[[Looper, Context], Awaitable[None]]) -> None:
    looper = Looper(handler)

    reasons, trips = looper.play()

    assert (reasons, trips, looper.ended) == ([], [], 1)
    assert len(looper.calls) == 4 * MOST


def test_a_handler_may_get_over_a_loop_of_its_own() -> None:
    async def stops_by_itself(looper: Looper, ctx: Context) -> None:
        with pytest.raises(
            LoopDetected, match=r"look was called 4 times with the same arguments \(\w+\), the limit is 3"
        ):
            await repeats_a_step(looper, ctx)

    looper = Looper(stops_by_itself)

    reasons, trips = looper.play()

    assert (reasons, trips, looper.ended) == ([], [], 1)
