"""Cancelling from outside: where requests go, who is waited for, and what is said in the end."""

import asyncio
import random

import pytest

from hocket import Agent, Context
from hocket.client import open_bus
from hocket.clock import LoopClock, ServerClock
from hocket.crashpoints import pass_by
from hocket.engine.cursor import Mark
from hocket.errors import NotFound
from hocket.host.crew import Crew, running
from hocket.log.base import Write
from hocket.log.memory import MemoryServer
from hocket.observe.cancels import Outcome, outcome, request
from hocket.observe.history import Remembered, history
from hocket.observe.why import why
from hocket.process import Process
from hocket.subjects import shard_of
from hocket.testing import Bed, run_virtual
from hocket_schemas.cancels import CancelRequested, RunCancelled
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()


class Begun(Event, type="stop.begun.v1", catalog=EVENTS):
    pass


def sleeper() -> Agent:
    agent = Agent("sleeper")

    @agent.on(Begun)
    async def begin(event: Begun, ctx: Context) -> None:
        await ctx.step(asyncio.sleep, 0)
        try:
            await ctx.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(3)
            raise

    return agent


async def cancelled(bed: Bed, timeout_s: float = 30.0, **scope: str) -> Outcome:
    made = await request(bed.bus, CancelRequested(by="ada", reason="enough", **scope))
    return await outcome(bed.bus, made, alive=lambda: [("sleeper", 0)], listen_s=1.0, timeout_s=timeout_s)


def test_what_came_of_a_request_is_known_when_all_that_it_is_about_has_ended() -> None:
    async def live() -> Outcome:
        async with Bed(sleeper(), server=MemoryServer(clock=LoopClock())) as bed:
            await bed.publish(Begun(), key="a", saga="s")
            await bed.publish(Begun(), key="b", saga="s")
            await bed.publish(Begun(), key="c", saga="other")
            await bed.settled()
            return await cancelled(bed, saga="s")

    found = run_virtual(live())

    assert sorted(run.key for run in found.runs) == ["a", "b"]
    assert found.complete


def test_whoever_has_not_dealt_with_it_in_time_is_named() -> None:
    async def live() -> Outcome:
        async with Bed(sleeper(), server=MemoryServer(clock=LoopClock())) as bed:
            await bed.publish(Begun(), key="a", saga="s")
            await bed.settled()
            return await cancelled(bed, timeout_s=1.5, key="a")

    found = run_virtual(live())

    assert (found.runs, found.behind, [run.key for run in found.left]) == ((), ("sleeper",), ["a"])
    assert not found.complete


def test_an_agent_that_is_not_heard_is_not_waited_for() -> None:
    async def live() -> tuple[Outcome, float]:
        async with Bed(sleeper(), server=MemoryServer(clock=LoopClock())) as bed:
            await bed.publish(Begun(), key="a", saga="s")
            await bed.settled()
            await bed.bus.logs[0].append([Write(bed.names.cursor("gone"), Mark(1).to_json())])
            began_s = asyncio.get_running_loop().time()
            return await cancelled(bed, saga="s"), asyncio.get_running_loop().time() - began_s

    found, took_s = run_virtual(live())

    assert found.complete
    assert took_s < 5


def test_a_saga_or_run_that_the_log_does_not_know_is_not_cancelled() -> None:
    async def live() -> None:
        async with Bed(sleeper(), server=MemoryServer(clock=LoopClock())) as bed:
            for scope in ({"saga": "unheard of"}, {"run": "unheard of"}):
                with pytest.raises(NotFound):
                    await cancelled(bed, **scope)

    run_virtual(live())


def test_asking_again_with_the_same_id_is_one_request() -> None:
    async def live() -> list[CancelRequested]:
        async with Bed(sleeper(), server=MemoryServer(clock=LoopClock())) as bed:
            await bed.publish(Begun(), key="a", saga="s")
            asked = CancelRequested(saga="s", by="ada")
            first = await request(bed.bus, asked, event_id="enough")
            again = await request(bed.bus, asked, event_id="enough")
            assert [r.seq for r in first.receipts] == [r.seq for r in again.receipts]
            return bed.events(CancelRequested)

    assert len(run_virtual(live())) == 1


def test_history_and_why_tell_of_it() -> None:
    async def live() -> None:
        async with Bed(sleeper(), server=MemoryServer(clock=LoopClock())) as bed:
            begun = await bed.publish(Begun(), key="s", saga="s")
            await bed.settled()
            run = (await cancelled(bed, saga="s")).runs[0]
            entries = await history(bed.bus, "s")
            of_request, of_cause = await why(bed.bus, run.request), await why(bed.bus, begun.id)
        journal = [(e.kind, e.result) for e in entries if isinstance(e, Remembered)]
        assert journal[-1] == ("cancel", {"by": "ada", "reason": "enough"})
        assert [fact.type for fact in of_request.led_to] == [RunCancelled.event_type]
        assert [fact.type for fact in of_cause.led_to] == [RunCancelled.event_type]

    run_virtual(live())


def test_a_saga_is_cancelled_on_every_shard_that_holds_something_of_it() -> None:
    async def live() -> Outcome:
        clock = LoopClock()
        servers = [MemoryServer(clock=clock, shard=shard) for shard in range(2)]
        keys = {shard_of(key, 2): key for key in "abcdefgh"}
        process = Process("one", ServerClock(clock), random.Random(1), pass_by)
        agent = sleeper()
        crew = Crew([agent], [server.connect() for server in servers], process=process)
        async with open_bus([server.connect() for server in servers], clock=clock) as bus, running(crew):
            await crew.owning()
            for key in keys.values():
                await bus.publish(Begun(), key=key, saga="s")
            await asyncio.sleep(1)
            made = await request(bus, CancelRequested(saga="s", by="ada"))
            assert {r.shard for r in made.receipts} == {0, 1}
            assert "s" in {r.key for r in made.receipts}
            return await outcome(bus, made, alive=lambda: [("sleeper", 0), ("sleeper", 1)], listen_s=1, timeout_s=30)

    found = run_virtual(live())

    assert len(found.runs) == 2
    assert found.complete
