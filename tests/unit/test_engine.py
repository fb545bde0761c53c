"""The engine on the twin: order, state, slow handlers, bounds, dead letters, and leaving in good order."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from hocket import Agent, Context, Limits, Retry
from hocket.clock import LoopClock
from hocket.engine.cursor import Mark
from hocket.engine.owner import Claim
from hocket.errors import NotFound, UsageError
from hocket.host.crew import running
from hocket.log.memory import MemoryServer
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()


class Given(Event, type="engine.given.v1", catalog=EVENTS):
    n: int


class Taken(Event, type="engine.taken.v1", catalog=EVENTS):
    n: int


class Tally(BaseModel):
    numbers: list[int] = []


def virtual(agent: Agent[Any], *agents: Agent[Any]) -> Bed:
    return Bed(agent, *agents, server=MemoryServer(clock=LoopClock()))


def tallying(limits: Limits | None = None) -> Agent[Tally]:
    agent = Agent("tally", state=Tally, limits=limits)

    @agent.on(Given)
    async def take(event: Given, ctx: Context[Tally]) -> Taken:
        ctx.state.numbers.append(event.n)
        return Taken(n=event.n)

    return agent


def test_a_key_is_handled_in_order_while_others_go_ahead() -> None:
    agent, order = Agent("slow-first"), []

    @agent.on(Given)
    async def take(event: Given, ctx: Context) -> None:
        await asyncio.sleep(1.0 if event.n == 0 else 0.0)
        order.append((ctx.key, event.n))

    async def story() -> None:
        async with virtual(agent) as bed:
            for n, key in ((0, "a"), (1, "a"), (2, "b")):
                await bed.publish(Given(n=n), key=key)
            await bed.quiet()

    run_virtual(story())

    assert order == [("b", 2), ("a", 0), ("a", 1)]


def test_states_that_were_let_go_are_read_again() -> None:
    agent = tallying(Limits(actors_cached=2))

    async def story() -> list[Tally]:
        async with virtual(agent) as bed:
            for n in range(30):
                await bed.publish(Given(n=n), key=f"k{n % 10}")
                await bed.quiet()
            return [bed.state(agent, f"k{k}") for k in range(10)]

    assert [state.numbers for state in run_virtual(story())] == [[k, k + 10, k + 20] for k in range(10)]


def test_a_slow_handler_holds_up_neither_the_cursor_nor_the_window() -> None:
    agent = Agent("slow", limits=Limits(slow_s=1.0, window=3))
    gate = asyncio.Event()

    @agent.on(Given)
    async def take(event: Given) -> Taken:
        if event.n == 0:
            await gate.wait()
        return Taken(n=event.n)

    async def story() -> tuple[Mark, list[int], int]:
        async with virtual(agent) as bed:
            for n in range(20):
                await bed.publish(Given(n=n), key=f"k{n}")
            async with asyncio.timeout(60):
                while len(bed.events(Taken)) < 19 or not bed.runs(agent):
                    await bed.server.changed()
            record = bed.server.newest(bed.names.cursor("slow"))
            assert record
            held = Mark.from_json(record.data)
            open_runs = len(bed.runs(agent))
            gate.set()
            await bed.quiet()
            return held, [taken.n for taken in bed.events(Taken)], open_runs

    mark, taken, open_runs = run_virtual(story())

    assert mark.open == ()
    assert open_runs == 1
    assert sorted(taken) == list(range(20))
    assert taken[-1] == 0


def test_no_more_is_taken_while_what_is_in_hand_is_large() -> None:
    agent = Agent("gated", limits=Limits(window_bytes=2000))
    gate, begun = asyncio.Event(), []

    @agent.on(Given)
    async def take(event: Given) -> Taken:
        begun.append(event.n)
        await gate.wait()
        return Taken(n=event.n)

    async def story() -> tuple[list[int], int, list[int]]:
        async with virtual(agent) as bed:
            for n in range(20):
                await bed.publish(Given(n=n), key=f"k{n}")
                await asyncio.sleep(0.05)
            held, size = list(begun), len(bed.server.since(1, [bed.names.all_events], 1)[0].data)
            gate.set()
            await bed.quiet()
            return held, size, [taken.n for taken in bed.events(Taken)]

    held, size, taken = run_virtual(story())

    assert len(held) * size >= 2000 > (len(held) - 1) * size
    assert len(taken) == 20


def test_a_failing_handler_is_tried_again_and_then_its_event_is_dead_lettered_and_the_key_goes_on() -> None:
    agent, attempts = Agent("fails", state=Tally), []

    @agent.on(Given, retry=Retry(attempts_max=3, first_s=0.1))
    async def take(event: Given, ctx: Context[Tally]) -> Taken:
        ctx.state.numbers.append(event.n)
        if event.n == 0:
            attempts.append(ctx.attempt)
            raise ValueError("not this one")
        return Taken(n=event.n)

    async def story() -> tuple[list[dict[str, Any]], Tally, list[Taken]]:
        async with virtual(agent) as bed:
            for n in range(3):
                await bed.publish(Given(n=n), key="k")
            await bed.quiet()
            return bed.dead(agent), bed.state(agent, "k"), bed.events(Taken)

    letters, state, taken = run_virtual(story())

    assert attempts == [1, 2, 3]
    assert [(letter["reason"], letter["attempts"]) for letter in letters] == [("AttemptsExhausted", 3)]
    assert "not this one" in letters[0]["error"]
    assert "take" in letters[0]["trace"]
    assert state.numbers == [1, 2]
    assert [event.n for event in taken] == [1, 2]


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("text", "BadReturn"),
        ([1], "BadReturn"),
        (Given(n=1), "UndeclaredEvent"),
        ([Taken(n=0)] * 1000, "BadReturn"),
    ],
)
def test_what_a_handler_must_not_return_is_dead_lettered_at_once(returned: Any, reason: str) -> None:
    agent = Agent("wrong")

    @agent.on(Given, emits=[Taken])
    async def take(event: Given) -> Any:
        return returned

    async def story() -> list[dict[str, Any]]:
        async with virtual(agent) as bed:
            await bed.publish(Given(n=0))
            await bed.quiet()
            return bed.dead(agent)

    letters = run_virtual(story())

    assert [letter["reason"] for letter in letters] == [reason]


def test_a_handler_that_takes_too_long_is_ended_and_says_so() -> None:
    agent = Agent("hangs")

    @agent.on(Given, timeout_s=1.0, retry=Retry(attempts_max=2, first_s=0.1))
    async def take(event: Given) -> None:
        await asyncio.sleep(1000)

    async def story() -> list[dict[str, Any]]:
        async with virtual(agent) as bed:
            await bed.publish(Given(n=0))
            await bed.quiet()
            return bed.dead(agent)

    assert [letter["reason"] for letter in run_virtual(story())] == ["HandlerTimeout"]


def test_agents_that_answer_each_other_for_ever_are_stopped_at_the_hop_limit() -> None:
    ping, pong = Agent("ping"), Agent("pong")

    @ping.on(Given)
    async def back(event: Given) -> Taken:
        return Taken(n=event.n + 1)

    @pong.on(Taken)
    async def forth(event: Taken) -> Given:
        return Given(n=event.n + 1)

    async def story() -> list[dict[str, Any]]:
        async with virtual(ping, pong) as bed:
            await bed.publish(Given(n=0))
            await bed.quiet()
            return [*bed.dead(ping), *bed.dead(pong)]

    letters = run_virtual(story())

    assert [letter["reason"] for letter in letters] == ["LoopDetected"]
    assert '"hkhops":33' in letters[0]["event"]


def test_history_is_what_the_key_heard_before_the_event_and_nothing_else() -> None:
    agent, heard = Agent("reader"), []

    @agent.on(Taken)
    async def read(event: Taken, ctx: Context) -> None:
        heard.append([given.n for given in await ctx.history(Given)])

    async def story() -> None:
        async with virtual(agent) as bed:
            await bed.publish(Given(n=1), key="k")
            await bed.publish(Given(n=2), key="other")
            await bed.publish(Given(n=3), key="k")
            await bed.publish(Taken(n=0), key="k")
            await bed.publish(Given(n=4), key="k")
            await bed.quiet()

    run_virtual(story())

    assert heard == [[1, 3]]


def test_an_agent_that_is_new_begins_now_or_at_the_start_as_it_asks() -> None:
    async def story(replay: bool) -> list[int]:
        agent = tallying()
        async with virtual(agent) as bed:
            await bed.publish(Given(n=0), key="k")
            await bed.quiet()
            late = Agent("late", state=Tally)
            late.on(Given)(agent.handlers[Given.event_type].function)
            late.handlers[Given.event_type] = agent.handlers[Given.event_type]
            bed.agents = (agent, late)
            async with running(bed.crew(late, replay={"late": replay})):
                await bed.owned()
                await bed.publish(Given(n=1), key="k")
                await bed.quiet()
                return bed.state(late, "k").numbers

    assert run_virtual(story(False)) == [1]
    assert run_virtual(story(True)) == [0, 1]


def test_asked_to_stop_it_finishes_commits_and_releases_its_claim() -> None:
    agent = tallying()

    async def story() -> tuple[Claim, int, int]:
        async with virtual(agent) as bed:
            for n in range(10):
                await bed.publish(Given(n=n), key="k")
        claim = bed.server.newest(bed.names.owner("tally"))
        cursor = bed.server.newest(bed.names.cursor("tally"))
        assert claim
        assert cursor
        mark = Mark.from_json(cursor.data)
        given = bed.server.since(1, [bed.names.events_of_type(Given.event_type)], 100)
        finished = [message for message in given if message.seq <= mark.upto and message.seq not in mark.open]
        return Claim.from_json(claim.data), len(finished), len(bed.events(Taken))

    claim, finished, taken = run_virtual(story())

    assert claim.released
    assert finished == taken


def test_a_handler_cut_off_by_a_stop_goes_on_under_the_next_owner() -> None:
    agent, calls = Agent("cut", limits=Limits(drain_s=1.0)), []

    async def look() -> int:
        calls.append("look")
        return 7

    @agent.on(Given)
    async def take(event: Given, ctx: Context) -> Taken:
        seven = await ctx.step(look)
        calls.append("wait")
        if len(calls) == 2:
            await asyncio.sleep(1000)
        return Taken(n=seven)

    async def story() -> list[Taken]:
        server = MemoryServer(clock=LoopClock())
        async with Bed(agent, server=server) as first:
            await first.publish(Given(n=0), key="k")
            async with asyncio.timeout(10):
                while len(calls) < 2:
                    await server.changed()
        async with Bed(agent, server=server) as second:
            await second.quiet()
            return second.events(Taken)

    assert [event.n for event in run_virtual(story())] == [7]
    assert calls == ["look", "wait", "wait"]


def test_a_state_that_no_longer_fits_its_type_stops_the_agent_and_loses_nothing() -> None:
    class Other(BaseModel):
        word: str = ""
        model_config = {"extra": "forbid"}

    old, new = tallying(), Agent("tally", state=Other)

    @new.on(Given)
    async def take(event: Given, ctx: Context[Other]) -> None: ...

    async def story() -> tuple[int, list[dict[str, Any]]]:
        server = MemoryServer(clock=LoopClock())
        async with Bed(old, server=server) as bed:
            await bed.publish(Given(n=1), key="k")
            await bed.quiet()
        async with Bed(server=server) as bed:
            await bed.publish(Given(n=2), key="k")
            with pytest.raises(ExceptionGroup) as stopped:
                await bed.crew(new).run()
            assert stopped.group_contains(UsageError, match="does not fit")
            bed.agents = (new,)
            return len(bed.events(Given)), bed.dead(new)

    assert run_virtual(story()) == (2, [])


async def test_an_event_that_is_not_there_is_not_found() -> None:
    async with Bed() as bed:
        with pytest.raises(NotFound):
            await bed.bus.find("nothing")


def test_a_log_that_is_away_while_a_handler_reads_is_no_failure_of_the_handler() -> None:
    agent, attempts = Agent("reader"), []

    async def story() -> tuple[list[Taken], list[dict[str, Any]]]:
        server = MemoryServer(clock=LoopClock())

        @agent.on(Given, retry=Retry(attempts_max=1))
        async def take(event: Given, ctx: Context) -> Taken:
            attempts.append(ctx.attempt)
            if len(attempts) < 4:
                server.stop()
            earlier = await ctx.history(Given)
            return Taken(n=len(earlier))

        async with Bed(agent, server=server) as bed:
            await bed.publish(Given(n=0), key="k")
            while len(attempts) < 4:
                await asyncio.sleep(1.0)
                server.start()
            await bed.quiet()
            return bed.events(Taken), bed.dead(agent)

    taken, letters = run_virtual(story())

    assert [event.n for event in taken] == [0]
    assert letters == []
    assert attempts == [1, 1, 1, 1]
