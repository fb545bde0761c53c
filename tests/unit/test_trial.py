"""Events that end the process that handles them: found, given up, and no harm to anybody else."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from hocket import Agent, Context, Limits, Retry
from hocket.beside import beside, pass_on_cancellation
from hocket.clock import LoopClock, ServerClock
from hocket.engine.cursor import Mark, Tried
from hocket.engine.trial import COMPANY_S, Trials
from hocket.errors import ConsumerLost
from hocket.host.crew import Crew
from hocket.log.memory import MemoryLog, MemoryServer
from hocket.process import Process
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
LIMITS = Limits(heartbeat_s=0.3, silence_s=1.0, silence_at_start_s=0.5, drain_s=1.0)


class Given(Event, type="trial.given.v1", catalog=EVENTS):
    n: int


class Taken(Event, type="trial.taken.v1", catalog=EVENTS):
    n: int


class Answered(Event, type="trial.answered.v1", catalog=EVENTS):
    n: int


class Killed(BaseException):
    """The process dies here."""


class Processes:
    """One process after another, each until something ends it, as a supervisor would keep them."""

    def __init__(self, *, forgotten: bool = False) -> None:
        self.forgotten = forgotten
        """Whether the server forgets each time what it has handed out."""

        self.ends = 0
        """How many have died."""

        self.starts = 0
        self._changed = asyncio.Event()
        self._log: MemoryLog
        self._crew: Crew
        self._life: asyncio.Task[None]

    async def run(self, bed: Bed, agent: Agent[Any], starts_max: int = 20) -> None:
        """Start again after each end; AssertionError after too many."""
        while True:
            self._log = bed.server.connect()
            self._crew = bed.crew_on(self._log, agent)
            self._life = asyncio.ensure_future(self._crew.run())
            with suppress(BaseExceptionGroup, Killed, asyncio.CancelledError):
                await self._life
            pass_on_cancellation()
            if self.forgotten:
                bed.server.delete_consumer(agent.name)
            self.ends += self._log.killed
            self.starts += 1
            self._changed.set()
            assert self.starts <= starts_max, "it ends again and again"

    async def until(self, *, ends: int) -> None:
        """Wait until so many have died."""
        while self.ends < ends:
            self._changed.clear()
            await self._changed.wait()

    def die(self) -> None:
        """End the process that runs now, where it stands: nothing more of it reaches the log."""
        self._log.kill()
        raise Killed

    def cut(self) -> None:
        """The same, from outside."""
        self._log.kill()
        self._life.cancel()

    def stop(self) -> None:
        """Ask it to leave in good order."""
        self._crew.drain()

    def deafen(self) -> None:
        """Let it come to doubt its tenure, and begin another one."""
        for instance in self._crew.instances:
            assert instance._worker is not None
            instance._worker.tenure.end(ConsumerLost("for a test"))


class Left(NamedTuple):
    """What is in the log in the end."""

    letters: list[dict[str, Any]]
    taken: list[int]


async def lived(agent: Agent[Any], processes: Processes, events: Sequence[tuple[Event, str]]) -> Left:
    """Keep processes running until these events, each with its key, are handled; return what there is then."""
    async with Bed(server=MemoryServer(clock=LoopClock())) as bed, beside(processes.run(bed, agent)):
        bed.agents = (agent,)
        await bed.owned()
        for event, key in events:
            await bed.publish(event, key=key)
        await bed.quiet()
        return Left(bed.dead(agent), [taken.n for taken in bed.events(Taken)])


@pytest.mark.parametrize(("attempts_max", "forgotten"), [(1, False), (3, False), (3, True), (5, False)])
def test_an_event_that_kills_its_process_is_given_up_and_all_others_are_handled_once(
    attempts_max: int, forgotten: bool
) -> None:
    agent, calls, processes = Agent("kills", limits=LIMITS), [], Processes(forgotten=forgotten)

    @agent.on(Given, retry=Retry(attempts_max=attempts_max))
    async def take(event: Given) -> Taken:
        calls.append(event.n)
        if event.n == 7:
            processes.die()
        await asyncio.sleep(0.3)
        return Taken(n=event.n)

    letters, taken = run_virtual(lived(agent, processes, [(Given(n=n), f"k{n % 10}") for n in range(30)]))

    most = max(2, attempts_max)
    [letter] = letters
    assert (letter["reason"], letter["attempts"]) == ("ProcessEnded", most)
    assert letter["error"] == f"its process ended {most} times while it was handled"
    assert sorted(taken) == [n for n in range(30) if n != 7]
    assert calls.count(7) == processes.ends == most + 1


def test_what_came_before_an_end_is_handled_before_the_one_that_has_one_attempt_left() -> None:
    agent, calls, processes = Agent("last", limits=LIMITS), [], Processes()
    more = asyncio.Event()

    @agent.on(Given, retry=Retry(attempts_max=2))
    async def take(event: Given) -> Taken:
        calls.append(event.n)
        if event.n == 0:
            if calls.count(0) == 2:
                more.set()
            if calls.count(0) > 1:
                await asyncio.sleep(1.0)
            processes.die()
        await asyncio.sleep(0.1)
        return Taken(n=event.n)

    async def story() -> None:
        async with Bed() as bed, asyncio.timeout(60):
            bed.agents = (agent,)
            async with beside(processes.run(bed, agent)):
                await bed.owned()
                await bed.publish(Given(n=0), key="poison")
                await more.wait()
                await asyncio.sleep(0.99)  # they are in the log, and not begun
                for n in (1, 2, 3):
                    await bed.publish(Given(n=n), key="k")
                await bed.quiet()

    run_virtual(story())

    assert calls.count(0) == processes.ends == 3
    assert [n for n in calls if n] == [1, 1, 2, 3]
    assert calls[-1] == 0


@pytest.mark.parametrize("woken_by", ["time", "answer"])
def test_a_run_that_kills_its_process_after_a_wait_is_given_up_too(woken_by: str) -> None:
    agent, processes = Agent("waits", limits=LIMITS), Processes()

    @agent.on(Given, emits=[Taken], waits=[Answered], retry=Retry(attempts_max=3))
    async def take(event: Given, ctx: Context) -> None:
        if woken_by == "time":
            await ctx.sleep(5.0)
        else:
            await ctx.wait(Answered)
        if event.n == 0:
            processes.die()
        ctx.emit(Taken(n=event.n))

    events = [(Given(n=n), f"k{n}") for n in range(5)]
    events += [(Answered(n=n), f"k{n}") for n in range(5) if woken_by == "answer"]
    letters, taken = run_virtual(lived(agent, processes, events))

    assert [(letter["reason"], letter["attempts"]) for letter in letters] == [("ProcessEnded", 3)]
    assert sorted(taken) == [1, 2, 3, 4]
    assert processes.ends == 4


def test_a_run_that_comes_further_each_time_is_never_given_up() -> None:
    agent, processes = Agent("steps", limits=LIMITS), Processes()

    async def work(i: int) -> int:
        return i

    @agent.on(Given, retry=Retry(attempts_max=2))
    async def take(event: Given, ctx: Context) -> Taken:
        done = await asyncio.gather(*(ctx.step(work, i) for i in range(processes.ends)))
        if len(done) < 8:
            await ctx.step(work, len(done))
            processes.die()
        return Taken(n=len(done))

    letters, taken = run_virtual(lived(agent, processes, [(Given(n=0), "k")]))

    assert letters == []
    assert taken == [8]


@pytest.mark.parametrize("interruption", ["stop", "recovery"])
def test_neither_leaving_in_good_order_nor_a_doubt_within_the_process_counts(interruption: str) -> None:
    agent, began, processes = Agent("cut", limits=LIMITS), [], Processes()

    @agent.on(Given, retry=Retry(attempts_max=2))
    async def take(event: Given) -> Taken:
        began.append(event.n)
        if len(began) == 1:
            processes.die()
        if len(began) < 8:
            if interruption == "stop":
                processes.stop()
            else:
                processes.deafen()
            await asyncio.sleep(1000)
        return Taken(n=event.n)

    letters, taken = run_virtual(lived(agent, processes, [(Given(n=0), "k")]))

    assert letters == []
    assert taken == [0]
    assert len(began) == 8


def test_those_that_are_tried_alone_take_no_slot_from_new_events() -> None:
    agent, processes = Agent("narrow", limits=replace(LIMITS, concurrency=2, slow_s=20.0)), Processes()

    @agent.on(Given)
    async def take(event: Given) -> Taken:
        if event.n < 2 and processes.ends < 2:
            await asyncio.sleep(1.0)
            processes.die()
        await asyncio.sleep(10.0 if event.n < 2 else 0.5)
        return Taken(n=event.n)

    async def story() -> Left:
        async with Bed(server=MemoryServer(clock=LoopClock())) as bed, beside(processes.run(bed, agent)):
            bed.agents = (agent,)
            await bed.owned()
            for n in range(2):
                await bed.publish(Given(n=n), key=f"k{n}")
            await processes.until(ends=2)
            for n in range(10, 20):
                await bed.publish(Given(n=n), key=f"k{n}")
            await bed.quiet()
            return Left(bed.dead(agent), [taken.n for taken in bed.events(Taken)])

    letters, taken = run_virtual(story())

    assert letters == []
    assert sorted(taken) == [0, 1, *range(10, 20)]
    assert taken[-1] < 2, "no new one waited for both of those that were under suspicion"


def test_an_event_that_is_tried_alone_may_still_ask_to_be_reminded() -> None:
    agent, processes = Agent("reminds", limits=LIMITS), Processes()

    @agent.on(Given)
    async def take(event: Given, ctx: Context) -> Taken | None:
        if processes.ends < 2:
            processes.die()
        if not ctx.reminded:
            ctx.remind(1.0)
            return None
        return Taken(n=event.n)

    letters, taken = run_virtual(lived(agent, processes, [(Given(n=0), "k")]))

    assert (letters, taken) == ([], [0])


SUSPECTS = 10
LIFE_S = 20.0
"""How long a process lives; a handling takes three quarters of it."""


async def takeovers_of_the_last() -> int:
    """How many processes have ended when the last of some slow suspects is handled, with no end to the kills."""
    agent, processes, done = Agent("slow", limits=LIMITS), Processes(), list[int]()

    @agent.on(Given)
    async def take(event: Given) -> Taken:
        await asyncio.sleep(LIFE_S * 3 / 4)
        done.append(processes.ends)
        return Taken(n=event.n)

    async def kill() -> None:
        while True:
            await asyncio.sleep(LIFE_S)
            processes.cut()

    async with (
        Bed(server=MemoryServer(clock=LoopClock())) as bed,
        beside(processes.run(bed, agent)),
    ):
        bed.agents = (agent,)
        await bed.owned()
        for n in range(SUSPECTS):
            await bed.publish(Given(n=n), key=f"k{n}")
        for ends in (1, 2):  # the first time they are begun side by side, and all are under suspicion after the second
            await asyncio.sleep(4.0)
            processes.cut()
            await processes.until(ends=ends)
        async with beside(kill()), asyncio.timeout(LIFE_S * SUSPECTS * 2):
            while len(bed.events(Taken)) < SUSPECTS:
                await bed.server.changed()
        assert bed.dead(agent) == []
    return done[-1] - 2


def test_however_often_their_process_is_killed_slow_suspects_do_not_wait_for_one_another_for_long() -> None:
    assert run_virtual(takeovers_of_the_last()) <= 2


def test_those_that_count_for_as_long_as_they_are_tried_starve_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Trials.__init__

    def for_a_minute(self: Trials, *given: Any, **named: Any) -> None:
        tried(self, *given, **named)
        self._slow_s = 60.0

    monkeypatch.setattr(Trials, "__init__", for_a_minute)

    assert run_virtual(takeovers_of_the_last()) > 3


def test_what_is_known_of_attempts_is_kept_for_what_is_unfinished_and_counted_when_a_process_ended() -> None:
    tried = (Tried(3, 1, True), Tried(4, 1, True), Tried(7, 0, True, 5), Tried(8, 0, False), Tried(9, 2, False))
    mark = Mark.from_json(Mark(7, (3, 7), tried).to_json())

    ended, left = mark.taken_over({9}, unclean=True), mark.taken_over({9}, unclean=False)

    assert ended.tried == (Tried(3, 2, False), Tried(7, 1, False, 5), Tried(9, 2, False))
    assert left.tried == (Tried(3, 1, False), Tried(9, 2, False))
    assert b"tried" not in Mark(7, (3,)).to_json()


@pytest.mark.parametrize("another_comes", [True, False])
def test_where_one_stood_by_suspects_wait_a_moment_for_another_to_stand_by_and_no_others_do(
    another_comes: bool,
) -> None:
    agent, began_s, loop_s = Agent("followed", limits=LIMITS), dict[str, list[float]](), asyncio.get_running_loop

    @agent.on(Given)
    async def take(event: Given, ctx: Context) -> Taken:
        began_s.setdefault(ctx.key, []).append(loop_s().time())
        if ctx.key == "suspect" and len(began_s[ctx.key]) == 1:
            await asyncio.sleep(1000)
        return Taken(n=event.n)

    async def main() -> list[float]:
        async with Bed(server=MemoryServer(clock=LoopClock())) as bed:
            bed.agents, log = (agent,), bed.server.connect()
            async with AsyncExitStack() as processes:
                life = asyncio.create_task(bed.crew_on(log, agent).run())
                await bed.owned()
                second = bed.crew(agent)
                await processes.enter_async_context(beside(second.run()))
                await bed.publish(Given(n=0), key="suspect")
                await asyncio.sleep(1.1)  # the first one's heartbeats are known
                log.kill()
                life.cancel()
                await bed.publish(Given(n=2), key="unowned")
                await second.owning()
                owned_s = loop_s().time()
                await bed.publish(Given(n=1), key="new")
                await asyncio.sleep(0.2)
                if another_comes:
                    await processes.enter_async_context(beside(bed.crew(agent).run()))
                await asyncio.sleep(2)
        marks = [Mark.from_json(m.data) for m in bed.server.history if m.subject == bed.names.cursor(agent.name)]
        begun.update({tried.seq for mark in marks for tried in mark.tried})
        return [began_s[key][-1] - owned_s for key in ("suspect", "unowned", "new")]

    begun = set[int]()
    suspect_s, unowned_s, new_s = run_virtual(main())

    assert max(unowned_s, new_s) < 0.1
    assert len(begun) == 1, "an attempt is written down of what the process had been given, and of nothing else"
    assert suspect_s == pytest.approx(0.2 if another_comes else COMPANY_S, abs=0.1)


def test_a_process_that_has_to_stop_says_to_its_end_which_event_it_was_trying_again() -> None:
    agent, began, told = Agent("stopped", limits=LIMITS), asyncio.Event(), list[str | None]()

    @agent.on(Given)
    async def take(event: Given) -> None:
        began.set()
        await asyncio.sleep(1000)

    async def main() -> str:
        async with Bed(server=MemoryServer(clock=LoopClock())) as bed:
            bed.agents = (agent,)
            receipt = await bed.publish(Given(n=0), key="k")
            for stops in (False, False, True):
                log = bed.server.connect()
                process = Process(clock=ServerClock(bed.server.clock), trying=told.append)
                crew = Crew([agent], [log], process=process, replay={agent.name: True})
                life = asyncio.create_task(crew.run())
                began.clear()
                await began.wait()
                if stops:
                    crew.drain()
                    await life
                else:
                    log.kill()
                    life.cancel()
            return receipt.id

    event_id = run_virtual(main())

    assert told[-1] == event_id


def test_slow_ones_are_not_given_up_for_standing_beside_a_slow_one_that_ends_its_process() -> None:
    agent, processes = Agent("company", limits=LIMITS), Processes()

    @agent.on(Given, retry=Retry(attempts_max=3))
    async def take(event: Given) -> Taken:
        await asyncio.sleep(3.0)
        if event.n == 2:
            processes.die()
        await asyncio.sleep(0.5)
        return Taken(n=event.n)

    letters, taken = run_virtual(lived(agent, processes, [(Given(n=n), f"k{n}") for n in range(5)]))

    assert [(letter["reason"], letter["attempts"]) for letter in letters] == [("ProcessEnded", 3)]
    assert sorted(taken) == [0, 1, 3, 4]
    assert processes.ends == 4


def test_what_has_waited_for_another_to_stand_by_is_begun_no_more_at_once_than_anything_else() -> None:
    agent, at_work, most = Agent("bounded", limits=replace(LIMITS, concurrency=3)), set[int](), list[int]()

    @agent.on(Given)
    async def take(event: Given) -> Taken:
        at_work.add(event.n)
        most.append(len(at_work))
        await asyncio.sleep(1.0)
        at_work.discard(event.n)
        return Taken(n=event.n)

    async def main() -> int:
        async with Bed(server=MemoryServer(clock=LoopClock())) as bed:
            bed.agents, log = (agent,), bed.server.connect()
            life = asyncio.create_task(bed.crew_on(log, agent).run())
            await bed.owned()
            second = bed.crew(agent)
            async with beside(second.run()):
                await asyncio.sleep(1.1)  # the first one's heartbeats are known
                for n in range(20):
                    await bed.publish(Given(n=n), key=f"k{n}")
                log.kill()
                life.cancel()
                at_work.clear()
                most.clear()
                await second.owning()
                await bed.quiet()
            return len(bed.events(Taken))

    assert run_virtual(main()) == 20
    assert max(most) == 3
