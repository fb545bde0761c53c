"""A command to one agent, when the process that sent it dies before its cursor says so."""

import asyncio
from contextlib import suppress

from pydantic import BaseModel
from tests.fault.simulation import Killed

from hocket import Agent, Context
from hocket.clock import LoopClock
from hocket.log.memory import MemoryServer
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()


class Wanted(Event, type="command.wanted.v1", catalog=EVENTS):
    pass


class Ordered(Event, type="command.ordered.v1", catalog=EVENTS):
    pass


class Count(BaseModel):
    orders: int = 0


sender = Agent("sender")
receiver = Agent("receiver", state=Count)


@sender.on(Wanted, emits=[Ordered])
async def want(event: Wanted, ctx: Context) -> None:
    ctx.emit(Ordered(), to="receiver")


@receiver.on(Ordered)
async def take(event: Ordered, ctx: Context[Count]) -> None:
    ctx.state.orders += 1


def test_a_command_is_handled_once_though_its_sender_dies_when_it_is_stored() -> None:
    async def story() -> tuple[int, bool]:
        async with Bed(receiver, server=MemoryServer(clock=LoopClock())) as bed:
            log = bed.server.connect()
            died = False

            def reach(name: str) -> None:
                nonlocal died
                if name == "after append":
                    died = True
                    log.kill()
                    raise Killed(name)

            bed.agents = (receiver, sender)

            async def first() -> None:
                with suppress(Killed, BaseExceptionGroup):
                    await bed.crew_on(log, sender, reach=reach).run()

            dying = asyncio.create_task(first())
            await bed.owned()
            await bed.publish(Wanted(), key="k")
            await dying
            bed.agents = (receiver,)
            await bed.quiet()  # the first copy, if there is to be another, has been handled before it comes
            bed.agents = (receiver, sender)
            second = asyncio.create_task(bed.crew_on(bed.server.connect(), sender).run())
            await bed.quiet()
            second.cancel()
            with suppress(asyncio.CancelledError):
                await second
            return bed.state(receiver, "k").orders, died

    orders, died = run_virtual(story())

    assert died
    assert orders == 1
