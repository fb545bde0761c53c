"""The agent whose process `hocket bench recovery` kills: its runs wait for people, and it answers at once."""

from hocket.agent import Agent, Context
from hocket.bench.load import TEXT
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
KEEPER = "keeper"


class Wanted(Event, type="bench.decision-wanted.v1", catalog=EVENTS):
    """Opens a run that asks a person, and is never answered."""

    number: int


class Probed(Event, type="bench.probed.v1", catalog=EVENTS):
    """Is answered at once."""

    number: int


class Seen(Event, type="bench.seen.v1", catalog=EVENTS):
    """The answer."""

    number: int


def keeper() -> Agent:
    """The agent."""
    agent = Agent(KEEPER)

    @agent.on(Wanted)
    async def ask(event: Wanted, ctx: Context) -> None:
        await ctx.approve("May it go ahead?", details={"number": event.number, "text": TEXT})

    @agent.on(Probed)
    async def see(event: Probed) -> Seen:
        return Seen(number=event.number)

    return agent
