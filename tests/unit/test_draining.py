"""An owner that stops because it holds too much memory: nobody waits for whoever is to blame."""

import asyncio
from contextlib import AsyncExitStack

from hocket import Agent, Limits
from hocket.beside import beside
from hocket.clock import LoopClock, ServerClock
from hocket.engine.owner import Claim
from hocket.host.crew import Crew
from hocket.log.memory import MemoryServer
from hocket.process import Process
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
DRAIN_S = 5.0


class Given(Event, type="drained.given.v1", catalog=EVENTS):
    n: int


class Taken(Event, type="drained.taken.v1", catalog=EVENTS):
    n: int


def test_while_the_last_ones_get_their_time_all_others_go_on_and_then_somebody_follows_at_once() -> None:
    agent = Agent("hoards", limits=Limits(drain_s=DRAIN_S))
    hoarding = asyncio.Event()

    @agent.on(Given)
    async def take(event: Given) -> Taken:
        if event.n == 0 and not hoarding.is_set():
            hoarding.set()
            await asyncio.Event().wait()
        return Taken(n=event.n)

    async def story() -> tuple[list[float], Claim, list[int]]:
        server = MemoryServer(clock=LoopClock())
        loop = asyncio.get_running_loop()
        async with Bed(server=server) as bed, AsyncExitStack() as stack:
            bed.agents = (agent,)
            spent = Process(instance="spent", clock=ServerClock(server.clock), spent=hoarding.is_set)
            first = Crew((agent,), [server.connect()], process=spent)
            await stack.enter_async_context(beside(first.run()))
            await bed.owned()
            await bed.publish(Given(n=0), key="k0")
            await hoarding.wait()
            first.drain()
            took_s = []
            for n in range(1, 20):
                began_s = loop.time()
                await bed.publish(Given(n=n), key=f"k{n}")
                while len(bed.events(Taken)) < n:
                    await server.changed()
                took_s.append(loop.time() - began_s)
                await asyncio.sleep(DRAIN_S / 25)
            while not (claim := Claim.from_json(server.newest(bed.names.owner(agent.name)).data)).released:
                await server.changed()
            await stack.enter_async_context(beside(bed.crew_on(server.connect(), agent).run()))
            await bed.quiet()
            return took_s, claim, [event.n for event in bed.events(Taken)]

    took_s, claim, taken = run_virtual(story())

    assert max(took_s) < 0.5
    assert claim.doubt is None  # whatever was cut off may be why
    assert sorted(taken) == list(range(20))
