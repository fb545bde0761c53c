"""Effects whose saga is cancelled while they are called: seen to their ends, if those come soon, and undone."""

import asyncio

from hocket import Agent, Context
from hocket.clock import LoopClock
from hocket.log.memory import MemoryServer
from hocket.policy import Limits
from hocket.testing import Bed, run_virtual
from hocket_schemas.cancels import CancelRequested, RunCancelled
from hocket_schemas.event import Catalog, Event
from hocket_schemas.undoing import EffectDone

EVENTS = Catalog()
GRACE_S = 5.0


class Wanted(Event, type="grace.wanted.v1", catalog=EVENTS):
    pass


class Had(Event, type="grace.had.v1", catalog=EVENTS):
    pass


def cancelled(call_s: float) -> tuple[list[RunCancelled], list[EffectDone], list[Had]]:
    """What is said when a saga is cancelled at the beginning of a call that takes so long."""
    agent = Agent("buyer", limits=Limits(grace_s=GRACE_S))
    begun = asyncio.Event()

    @agent.effect()
    async def buy(thing: str) -> str:
        begun.set()
        await asyncio.sleep(call_s)
        return f"receipt for {thing}"

    @buy.undo
    async def give_back(thing: str, receipt: str) -> None:
        """Only declared."""

    @agent.on(Wanted)
    async def want(event: Wanted, ctx: Context) -> Had:
        await ctx.step(buy, "a lamp")
        return Had()

    async def live() -> tuple[list[RunCancelled], list[EffectDone], list[Had]]:
        async with Bed(agent, server=MemoryServer(clock=LoopClock())) as bed:
            await bed.publish(Wanted(), key="s-1", saga="s-1")
            await begun.wait()
            await bed.publish(CancelRequested(saga="s-1", by="ada"), key="s-1", saga="s-1")
            await bed.quiet()
            return bed.events(RunCancelled), bed.events(EffectDone), bed.events(Had)

    return run_virtual(live())


def test_a_call_that_ends_in_time_is_seen_to_its_end_and_told() -> None:
    [run], [done], had = cancelled(call_s=GRACE_S - 1)

    assert (done.effect_key, done.result) == (run.effects[0].key, "receipt for a lamp")
    assert [effect.status for effect in run.effects] == ["done"]
    assert had == []


def test_a_call_that_takes_longer_has_an_unknown_outcome_and_is_told_with_what_finds_it_out() -> None:
    [run], done, had = cancelled(call_s=GRACE_S + 1)

    [effect] = run.effects
    assert (effect.status, effect.undoable, effect.arguments) == ("unknown", True, [["a lamp"], {}])
    assert (done, had) == ([], [])
