"""Cancelling while processes die: a run ends once, by itself or by being cancelled, and nothing of it is lost."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from tests.fault.simulation import Killed

from hocket.agent import Agent, Context
from hocket.beside import pass_on_cancellation
from hocket.clock import LoopClock
from hocket.crashpoints import POINTS
from hocket.engine.cursor import Mark
from hocket.log.memory import MemoryServer
from hocket.policy import Limits
from hocket.run import DONE, Entry
from hocket.subjects import address
from hocket.testing import Bed, run_virtual
from hocket_schemas.cancels import CancelRequested, RunCancelled
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()

ELSEWHERE = ("before dead letter", "before release", "after release", "before cursor flush", "after cursor flush")
REACHED = [point for point in POINTS if point not in ELSEWHERE]


class Begun(Event, type="cut.begun.v1", catalog=EVENTS):
    asks: bool


class Ended(Event, type="cut.ended.v1", catalog=EVENTS):
    pass


def told_late(bed: Bed, agent: Agent[Any]) -> list[int]:
    """The ends that were told after the cursor had said that of the request there is nothing more to come."""
    request, dealt_with, late = 0, False, []
    for message in bed.server.history:
        if message.subject == bed.names.cursor(agent.name):
            mark = Mark.from_json(message.data)
            dealt_with = bool(request) and mark.upto >= request and request not in mark.open
        elif ".evt." in message.subject:
            event_type = address(message.subject).type
            request = message.seq if event_type == CancelRequested.event_type else request
            late += [message.seq] if dealt_with and event_type == RunCancelled.event_type else []
    return late


class Life:
    """A run that takes an effect, works or waits, and cleans up when it is cancelled; its process may die."""

    def __init__(self, *, asks: bool, delay_s: float) -> None:
        limits = Limits(slow_s=0.2, heartbeat_s=0.2, silence_s=1.0, silence_at_start_s=0.3, append_s=1.0)
        self.agent = Agent("cutter", limits=limits)
        self.asks = asks
        self.delay_s = delay_s
        self.calls: list[str] = []
        self.died = False

        @self.agent.effect(idempotent=True)
        async def book(*, key: str) -> str:
            self.calls.append("book")
            return "seat"

        async def refund() -> None:
            self.calls.append("refund")
            await asyncio.sleep(2 * limits.cursor_lag_s)

        @self.agent.on(Begun)
        async def begin(event: Begun, ctx: Context) -> Ended:
            try:
                await ctx.step(book)
                if event.asks:
                    await asyncio.sleep(0.3)
                    await ctx.approve("Go on?", timeout=2.0)
                else:
                    await asyncio.sleep(0.5)
                    await ctx.step(asyncio.sleep, 0)
                    await asyncio.sleep(0.5)
            except asyncio.CancelledError:
                await ctx.step(refund)
                raise
            return Ended()

    async def play(self, point: str, count: int) -> Bed:
        """Begin it and cancel it a little later, while the first process dies at a point."""
        async with Bed(server=MemoryServer(clock=LoopClock())) as bed:
            bed.agents = (self.agent,)
            async with asyncio.TaskGroup() as tasks:
                lives = tasks.create_task(self._lives(bed, point, count))
                await bed.owned()
                await bed.publish(Begun(asks=self.asks), key="k", saga="s", event_id="one")
                await asyncio.sleep(self.delay_s)
                await bed.publish(CancelRequested(saga="s", by="ada"), key="s")
                await bed.quiet()
                lives.cancel()
            self.told = bed.events(RunCancelled)
            self.late = told_late(bed, self.agent)
            self.ended = bed.events(Ended)
            journal = bed.server.since(1, [f"{bed.names.root}.jrn.>"], 1 << 30)
            self.outcomes = [e.name for m in journal if (e := Entry.from_json(m.data)).phase == DONE]
            return bed

    async def _lives(self, bed: Bed, point: str, count: int) -> None:
        left = count
        while True:
            log = bed.server.connect()

            def reach(name: str, log=log) -> None:
                nonlocal left
                if name == point:
                    left -= 1
                    if left == 0:
                        log.kill()
                        raise Killed(point)

            task = asyncio.ensure_future(bed.crew_on(log, reach=reach).run())
            try:
                with suppress(BaseExceptionGroup, Killed):
                    await task
            finally:
                log.killed = True
                task.cancel()
                with suppress(asyncio.CancelledError, BaseExceptionGroup, Killed):
                    await task
            pass_on_cancellation()
            self.died = True


@pytest.mark.parametrize("asks", [True, False], ids=["waiting", "working"])
@pytest.mark.parametrize("point", REACHED)
def test_a_run_ends_once_wherever_its_process_dies(point: str, asks: bool) -> None:
    died = 0
    for count in (1, 2, 3):
        for delay_s in (0.0, 0.1, 0.3, 0.6):
            life = Life(asks=asks, delay_s=delay_s)

            run_virtual(life.play(point, count))

            where = f"{point}, time {count}, cancelled after {delay_s} s"
            ends = len(life.told) + len(life.ended)
            assert ends == 1 or (ends == 0 and life.outcomes == []), f"{where}: {ends} ends"
            done = life.outcomes.count("Life.__init__.<locals>.book")
            if life.told:
                assert [effect.status for effect in life.told[0].effects].count("done") == done, where
                assert not done or "refund" in life.calls, f"{where}: nothing was cleaned up"
            assert not life.late, f"{where}: told after the request was counted as dealt with"
            assert len(life.outcomes) == len(set(life.outcomes)), where
            died += life.died
    assert died, "the point was never reached, so nothing was proved"
