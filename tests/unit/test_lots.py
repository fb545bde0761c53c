"""What is too much for one append: it goes in several, and stops nobody."""

import pytest

from hocket import Agent, Context
from hocket.beside import beside
from hocket.engine.cursor import Cursor, Mark
from hocket.engine.transition import LOT_MAX, Tenure, Transition
from hocket.log.base import APPEND_MESSAGES_MAX, Seq, Write
from hocket.subjects import Names
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()


class Asked(Event, type="lots.asked.v1", catalog=EVENTS):
    n: int


class Ended(Event, type="lots.ended.v1", catalog=EVENTS):
    pass


class Taken(Event, type="lots.taken.v1", catalog=EVENTS):
    n: int


def test_all_reminders_of_an_actor_are_dismissed_however_many_they_are() -> None:
    agent = Agent("reminds")

    @agent.on(Asked)
    async def wait(event: Asked, ctx: Context) -> Taken | None:
        if ctx.reminded:
            return Taken(n=event.n)
        ctx.remind(3600.0)
        return None

    @agent.on(Ended)
    async def end(event: Ended, ctx: Context) -> Taken:
        ctx.dismiss()
        return Taken(n=-1)

    async def story() -> tuple[int, list[Taken]]:
        async with Bed() as bed:
            bed.agents = (agent,)
            crew = bed.crew()
            async with beside(crew.run()):
                await bed.owned()
                for n in range(APPEND_MESSAGES_MAX // 2):  # the end of each takes two messages
                    await bed.publish(Asked(n=n), key="k")
                await bed.settled()
                await bed.publish(Ended(), key="k")
                await bed.quiet()
            return crew.instances[0].tenures, bed.events(Taken)

    assert run_virtual(story()) == (1, [Taken(n=-1)])


@pytest.mark.parametrize("ahead", [0, 10, LOT_MAX - 2, LOT_MAX - 1, LOT_MAX, 2 * LOT_MAX + 1])
async def test_what_is_too_much_goes_ahead_and_what_is_not_goes_together(ahead: int) -> None:
    names = Names("hocket", 0)
    tenure = Tenure("agent", names, Seq(7), 0, Cursor(Mark(6)))
    records = [Write(names.run("agent", "k", f"r{n}"), b"") for n in range(ahead)]
    own = [Write(names.dead("agent", "k", "e"), b"{}")]
    transition = Transition(tenure, Seq(8), [Write("event", b"{}")], records=list(own), ahead=list(records))

    *before, last = transition.lots()

    split = ahead + len(transition.events) + len(own) > LOT_MAX
    assert last is transition
    assert bool(before) == split
    assert last.records == (own if split else own + records)
    assert [write for lot in before for write in lot.records] == (records if split else [])
    assert all(lot.finishes is None and len(lot.records) <= LOT_MAX for lot in before)
