"""An answer or a dead letter that went to the log without a cursor: whoever owns next finds it, and does not handle the
event again.
"""

import asyncio
from contextlib import suppress

import pytest

from hocket import Agent, Retry
from hocket.clock import LoopClock
from hocket.log.memory import MemoryServer
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()


class Given(Event, type="buried.given.v1", catalog=EVENTS):
    pass


class Taken(Event, type="buried.taken.v1", catalog=EVENTS):
    pass


class Killed(BaseException):
    """A process dies here."""


@pytest.mark.parametrize("then", ["works", "fails"])
@pytest.mark.parametrize("first", ["works", "fails"])
def test_an_event_that_came_to_its_end_before_its_owner_died_is_not_handled_again(first: str, then: str) -> None:
    agent, calls = Agent("digger"), []

    @agent.on(Given, retry=Retry(attempts_max=1))
    async def take(event: Given) -> Taken:
        calls.append(then if calls else first)
        if calls[-1] == "fails":
            raise ValueError
        return Taken()

    async def story() -> tuple[int, int]:
        server = MemoryServer(clock=LoopClock())
        async with Bed(server=server) as bed, asyncio.timeout(60):
            bed.agents = (agent,)
            log = server.connect()
            ends = [f"{bed.names.root}.dead.{agent.name}.>", bed.names.events_of_type(Taken.event_type)]

            def reach(point: str) -> None:
                if point in ("after append", "before cursor flush") and server.since(1, ends, 1 << 30):
                    log.kill()
                    raise Killed

            one = asyncio.create_task(bed.crew_on(log, agent, reach=reach).run())
            await bed.owned()
            await bed.publish(Given(), key="k")
            with suppress(Killed, BaseExceptionGroup):
                await one
            other = asyncio.create_task(bed.crew_on(server.connect(), agent).run())
            await bed.quiet()
            other.cancel()
            return len(bed.dead(agent)), len(bed.events(Taken))

    letters, taken = run_virtual(story())

    assert (letters, taken) == ((1, 0) if first == "fails" else (0, 1))
    assert calls == [first]
