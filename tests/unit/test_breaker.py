"""Circuit breakers and rates that a fleet shares: how often the outside is called, by however many agents."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hocket import Agent, Context
from hocket.breaker import Breaker, Circuit, after_failure, after_success, probing, refuses_s
from hocket.clock import LoopClock
from hocket.effect import NotDone
from hocket.errors import CircuitOpen, UsageError
from hocket.host.crew import running
from hocket.log.memory import Faults, MemoryServer
from hocket.policy import Limits, Retry
from hocket.rate import Calls, Rate, free_s, taken
from hocket.testing import Bed, run_virtual
from hocket_schemas.breakers import BreakerClosed, BreakerHalfOpened, BreakerOpened
from hocket_schemas.cancels import CancelRequested
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
SHARED = Breaker(failures=3, window_s=30, open_s=10, name="payments-api")
ALWAYS = Retry(attempts_max=1000, first_s=0.01, factor=1)


class Wanted(Event, type="breaker.wanted.v1", catalog=EVENTS):
    pass


class Bought(Event, type="breaker.bought.v1", catalog=EVENTS):
    pass


class Outside:
    """A service that fails for as long as it is told to, and when it was called."""

    def __init__(self) -> None:
        self.fails = True
        self.calls: list[float] = []
        self.takes_s = 0.0

    async def call(self) -> str:
        self.calls.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes_s)
        if self.fails:
            raise NotDone("out of order")
        return "receipt"

    @property
    def apart(self) -> list[float]:
        """The times between two calls."""
        return [after - before for before, after in zip(self.calls, self.calls[1:], strict=False)]


def buyer(name: str, outside: Outside, **options: Any) -> Agent[None]:
    """An agent that calls the service for each event."""
    agent = Agent(name, limits=Limits(window=10, concurrency=4))

    @agent.effect(**{"retry": ALWAYS, **options})
    async def buy() -> str:
        return await outside.call()

    @agent.on(Wanted)
    async def want(event: Wanted, ctx: Context) -> Bought:
        await ctx.step(buy)
        return Bought()

    return agent


def on_a_bed(script: Callable[[Bed], Awaitable[None]], *agents: Agent[None]) -> None:
    async def live() -> None:
        async with Bed(*agents) as bed:
            await script(bed)

    run_virtual(live())


async def wanted(bed: Bed, number: int, first: int = 0) -> None:
    for n in range(first, first + number):
        await bed.publish(Wanted(), key=f"k-{n}", event_id=f"e-{n}")


async def handled(bed: Bed, number: int) -> None:
    async with asyncio.timeout(600):
        while len(bed.events(Bought)) < number:
            await bed.server.changed()


def test_a_breaker_opens_by_so_many_failures_within_its_window() -> None:
    breaker, circuit = Breaker(failures=3, window_s=10, open_s=5), Circuit()

    for at_s in (0.0, 9.0, 10.5):  # the first does not count any more
        circuit = after_failure(circuit, breaker, at_s, "a", "e", probe=False) or circuit
    assert refuses_s(circuit, 10.5) == 0
    circuit = after_failure(circuit, breaker, 11.0, "a", "e", probe=False) or circuit

    assert (circuit.state, circuit.until_s, refuses_s(circuit, 12.0)) == ("open", 16.0, 4.0)
    assert refuses_s(circuit, -3600.0) == 0, "a clock was an hour ahead of this one: nobody waits for that"


def test_a_probe_that_fails_opens_it_again_until_its_period_is_over_and_one_that_succeeds_closes_it() -> None:
    breaker = Breaker(failures=1, open_s=5)
    opened = after_failure(Circuit(), breaker, 0.0, "a", "e", probe=False)
    assert opened is not None

    tried = probing(opened, breaker, 6.0, "b")
    assert tried is not None
    failed = after_failure(tried, breaker, 7.0, "b", "e", probe=True)

    assert (tried.state, tried.until_s) == ("half-open", 11.0)
    assert failed is not None
    assert (failed.state, failed.until_s) == ("open", 11.0)
    assert (after_success(tried, 7.0, "b") or tried).state == "closed"
    assert after_failure(tried, breaker, 7.0, "c", "e", probe=False) is None


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"window_s": 0}, {"open_s": -1}, {"name": ""}])
def test_a_breaker_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Breaker(**wrong)


def test_in_any_period_a_rate_lets_no_more_calls_through_than_it_says() -> None:
    rate, calls, now_s = Rate(3, per_s=1.0), Calls(), 100.0
    times: list[float] = []
    for step_s in (0, 0, 0.5, 0, 0, 0.2, 3, 0, 0, 0):
        now_s += step_s
        times.append(free_s(calls, rate, now_s))
        calls = taken(calls, rate, times[-1], "m")

    assert times == sorted(times)
    assert all(later - earlier >= 1.0 for earlier, later in zip(times, times[3:], strict=False))
    assert len(calls.at_s) == 3


def test_while_a_circuit_is_open_two_agents_make_one_call_in_each_period() -> None:
    outside = Outside()

    async def script(bed: Bed) -> None:
        await wanted(bed, 20)
        await asyncio.sleep(60)
        failed = list(outside.calls)
        outside.fails = False
        await handled(bed, 40)
        opened, tried, closed = (bed.events(kind) for kind in (BreakerOpened, BreakerHalfOpened, BreakerClosed))
        assert [event.again for event in opened] == [False, *[True] * (len(opened) - 1)]
        assert {event.breaker for event in (*opened, *tried, *closed)} == {"payments-api"}
        assert (len(closed), len(tried)) == (1, len(opened))
        at_first = len(failed) - (len(opened) - 1)
        assert at_first <= 2 * 4, "no more than were under way when it opened"
        assert 5 <= len(opened) - 1 <= 6
        assert min(outside.apart[at_first - 1 : len(failed) - 1]) >= 10
        assert "NotDone: out of order" in opened[0].error

    on_a_bed(script, buyer("one", outside, breaker=SHARED), buyer("two", outside, breaker=SHARED))


def test_nobody_gives_up_while_a_circuit_is_open_and_slots_and_window_stay_free() -> None:
    outside, works = Outside(), Outside()
    works.fails = False
    agent = buyer("one", outside, breaker=Breaker(failures=1, open_s=60), retry=Retry(attempts_max=2))

    @agent.on(Bought)
    async def other(event: Bought) -> None:
        await works.call()

    async def script(bed: Bed) -> None:
        await wanted(bed, 20)  # more than its slots, and than its window
        await asyncio.sleep(30)
        for n in range(5):
            await bed.publish(Bought(), key=f"other-{n}")
        await asyncio.sleep(1)
        assert len(works.calls) == 5
        outside.fails = False
        await handled(bed, 20 + 5)
        assert bed.dead(agent) == []

    on_a_bed(script, agent)


def test_a_handler_whose_effect_does_not_retry_learns_that_the_circuit_is_open() -> None:
    outside, told = Outside(), list[float]()
    agent = Agent("one")

    @agent.effect(breaker=Breaker(failures=1, open_s=10))
    async def buy() -> str:
        return await outside.call()

    @agent.on(Wanted, retry=Retry(attempts_max=2, first_s=0.1))
    async def want(event: Wanted, ctx: Context) -> Bought:
        try:
            await ctx.step(buy)
        except CircuitOpen as refusal:
            told.append(refusal.retry_after_s)
            raise
        return Bought()

    async def script(bed: Bed) -> None:
        await wanted(bed, 1)
        await asyncio.sleep(9)
        outside.fails = False
        await handled(bed, 1)

    on_a_bed(script, agent)

    assert len(outside.calls) == 2
    assert len(told) == 1
    assert 9 < told[0] <= 10


def test_a_circuit_stays_open_across_owners_and_a_killed_probe_is_followed_by_one_in_the_next_period() -> None:
    outside = Outside()
    agent = buyer("one", outside, breaker=SHARED, idempotent=True)

    async def live() -> list[float]:
        async with Bed(server=MemoryServer(clock=LoopClock())) as bed:
            bed.agents = (agent,)
            for n in range(4):
                log = bed.server.connect()
                crew = asyncio.ensure_future(bed.crew_on(log, agent).run())
                await bed.owned()
                await wanted(bed, 3, 3 * n)
                await asyncio.sleep(17)
                outside.takes_s = 1000  # it is killed in the middle of a probe
                log.kill()
                crew.cancel()
                await asyncio.wait([crew])
            outside.takes_s = 0
            failed = outside.apart[3:]
            outside.fails = False
            async with running(bed.crew(agent)):
                await handled(bed, 12)
            return failed

    apart = run_virtual(live())

    assert len(apart) >= 3
    assert min(apart) >= 10


def test_the_circuit_opens_and_closes_exactly_with_answers_lost_and_late() -> None:
    outside = Outside()
    agents = [buyer(name, outside, breaker=SHARED, idempotent=True) for name in ("one", "two", "three")]

    async def live() -> list[float]:
        async with Bed(server=MemoryServer(clock=LoopClock())) as bed:
            bed.agents = tuple(agents)
            faults = [Faults(delay_s=0.05, lose_answer=0.05, late=0.02) for _ in agents]
            async with asyncio.TaskGroup() as crews:
                tasks = [
                    crews.create_task(bed.crew(agent, faults=fault).run())
                    for agent, fault in zip(agents, faults, strict=True)
                ]
                await bed.owned()
                await wanted(bed, 5)
                async with asyncio.timeout(60):
                    while not bed.events(BreakerOpened):
                        await bed.server.changed()
                await asyncio.sleep(1)
                before = len(outside.calls)
                await asyncio.sleep(120)
                apart = outside.apart[before:]
                outside.fails = False
                await handled(bed, 15)
                for task in tasks:
                    task.cancel()
            return apart

    apart = run_virtual(live())

    assert len(apart) >= 3
    assert min(apart) >= 9


def test_an_error_by_which_the_other_side_shows_that_it_works_does_not_count() -> None:
    class Refused(Exception):
        pass

    agent, calls = Agent("one"), list[str]()

    @agent.effect(breaker=Breaker(failures=1, open_s=1000), retry=Retry(never=(Refused,)))
    async def buy() -> str:
        calls.append("call")
        raise Refused("no money")

    @agent.on(Wanted, retry=Retry(attempts_max=1))
    async def want(event: Wanted, ctx: Context) -> None:
        await ctx.step(buy)

    async def script(bed: Bed) -> None:
        await wanted(bed, 3)
        await bed.quiet()
        assert len(bed.dead(agent)) == 3

    on_a_bed(script, agent)

    assert len(calls) == 3


def test_two_agents_together_call_no_more_often_than_their_rate() -> None:
    outside = Outside()
    outside.fails = False
    rate = Rate(5, per_s=2.0, name="api")

    async def script(bed: Bed) -> None:
        await wanted(bed, 30)
        await handled(bed, 60)

    on_a_bed(script, buyer("one", outside, rate=rate), buyer("two", outside, rate=rate))

    calls = sorted(outside.calls)
    assert len(calls) == 60
    assert min(later - earlier for earlier, later in zip(calls, calls[5:], strict=False)) >= 1.99
    assert calls[-1] - calls[0] < 1.3 * 60 / 5 * 2


def test_a_call_that_waits_for_its_turn_can_be_cancelled_and_its_key_goes_on() -> None:
    outside = Outside()
    outside.fails = False
    agent = buyer("one", outside, rate=Rate(1, per_s=3600))

    async def script(bed: Bed) -> None:
        await wanted(bed, 2)
        await asyncio.sleep(10)
        await bed.publish(CancelRequested(key="k-1", by="ada"), key="k-1")
        await bed.quiet()
        assert len(bed.events(Bought)) == 1

    on_a_bed(script, agent)

    assert len(outside.calls) == 1


def test_a_call_that_takes_too_long_has_failed_and_what_checks_it_passes_the_same_breaker() -> None:
    outside, checked = Outside(), list[float]()
    outside.takes_s = 1000
    agent = Agent("one")

    @agent.effect(timeout_s=1, breaker=Breaker(failures=1, open_s=10), retry=Retry(attempts_max=10))
    async def buy() -> str:
        return await outside.call()

    @buy.verify
    async def bought() -> str | None:
        checked.append(asyncio.get_running_loop().time())
        return None

    @agent.on(Wanted)
    async def want(event: Wanted, ctx: Context) -> Bought:
        await ctx.step(buy)
        return Bought()

    async def script(bed: Bed) -> None:
        await wanted(bed, 1)
        await asyncio.sleep(5)
        assert (len(outside.calls), len(checked)) == (1, 0)
        outside.takes_s, outside.fails = 0, False
        await handled(bed, 1)

    on_a_bed(script, agent)

    assert len(outside.calls) == 2
    assert [at - outside.calls[0] >= 10 for at in checked] == [True]
