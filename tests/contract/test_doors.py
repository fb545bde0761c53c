"""What several processes share on a log: of all who ask at once one is let through, and a rate is never exceeded."""

import asyncio

import pytest
from tests.contract.worlds import World, scanned

from hocket.breaker import Breaker
from hocket.clock import ServerClock, SystemClock
from hocket.doors import Caller, Permit
from hocket.engine.doors import SharedDoors
from hocket.errors import CircuitOpen, RateExceeded
from hocket.process import Process
from hocket.rate import Calls, Rate
from hocket.subjects import token
from hocket_schemas.breakers import BreakerHalfOpened

CALLER = Caller("buyer", "buy", "k")
OPENED = Breaker(failures=1, open_s=0.3, name="api")


class SetClock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.at_s = SystemClock().now_s()

    def now_s(self) -> float:
        return self.at_s


async def doors(world: World, clock: SetClock | SystemClock, number: int = 3) -> list[SharedDoors]:
    """The same breakers and rates, as several processes have them."""
    logs = [await world.connect() for _ in range(number)]
    return [SharedDoors([log], Process(instance=f"p-{n}", clock=ServerClock(clock))) for n, log in enumerate(logs)]


async def admitted(processes: list[SharedDoors], each: int = 5) -> tuple[list[tuple[int, Permit]], int]:
    """Ask in all processes at once; who was let through, and how many were not."""

    async def ask(n: int) -> tuple[int, Permit | None]:
        try:
            return n, await processes[n].admit(OPENED, CALLER)
        except CircuitOpen:
            return n, None

    answers = await asyncio.gather(*(ask(n) for n in range(len(processes)) for _ in range(each)))
    let = [(n, permit) for n, permit in answers if permit is not None]
    return let, len(answers) - len(let)


async def test_in_each_period_of_an_open_circuit_one_call_is_let_through_until_one_succeeds(world: World) -> None:
    clock = SetClock()
    processes = await doors(world, clock)
    await processes[0].settle(await processes[0].admit(OPENED, CALLER), OSError("down"))

    at_once, refused = await admitted(processes)
    clock.at_s += 0.31
    [(first, probe)], _ = await admitted(processes)
    await processes[first].settle(probe, OSError("still down"))
    within, _ = await admitted(processes)
    clock.at_s += 0.31
    [_], _ = await admitted(processes)  # nothing is heard of this one again
    clock.at_s += 0.31
    [(last, probe)], _ = await admitted(processes)
    await processes[last].settle(probe, None)
    after, _ = await admitted(processes)

    pattern = world.subject(f"evt.{token(BreakerHalfOpened.event_type)}.api.buyer.*.*")
    assert (at_once, refused) == ([], 15)
    assert within == []
    assert len(after) == 15
    assert len(await scanned(world.log, [pattern])) == 3


async def test_failures_count_together_and_nothing_is_written_for_successes(world: World) -> None:
    breaker = Breaker(failures=7, name="api")
    processes = await doors(world, SetClock())

    async def fail(process: SharedDoors) -> None:
        await process.settle(await process.admit(breaker, CALLER), OSError("down"))

    await processes[0].settle(await processes[0].admit(breaker, CALLER), None)
    untouched = await world.log.end()
    await asyncio.gather(*(fail(process) for process in processes for _ in range(2)))
    await processes[0].look(breaker, CALLER)
    await fail(processes[1])

    assert untouched == 0
    with pytest.raises(CircuitOpen):
        await processes[2].look(breaker, CALLER)


async def test_a_rate_lets_no_more_through_than_it_says_however_many_ask_at_once(world: World) -> None:
    rate = Rate(5, per_s=0.2, name="api")
    processes = await doors(world, SystemClock())

    began_s = asyncio.get_running_loop().time()
    await asyncio.gather(*(process.take(rate, CALLER) for process in processes for _ in range(5)))
    took_s = asyncio.get_running_loop().time() - began_s
    times: list[float] = []
    for message in await scanned(world.log, [world.subject("rate.api")]):
        times += Calls.from_json(message.data).at_s
    slow = Rate(1, per_s=60, name="slow")
    await processes[0].take(slow, CALLER)

    assert 0.4 <= took_s < 5
    assert len(times) == 5
    assert times == sorted(times)
    with pytest.raises(RateExceeded) as refused:
        await processes[1].take(slow, CALLER)
    assert 55 < refused.value.retry_after_s <= 60
