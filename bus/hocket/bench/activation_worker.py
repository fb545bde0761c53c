"""The process that `hocket bench activation` measures: one agent that keeps a record for each key."""

import sys

from pydantic import BaseModel

from hocket.agent import Agent, Context
from hocket.bench.load import TEXT, answer, own_costs
from hocket.host.crew import Crew, running
from hocket.host.runtime import run
from hocket.log import jetstream
from hocket.policy import Limits
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
NAME = "teller"


class Tally(BaseModel):
    """What is kept of a key."""

    times: int = 0
    text: str = TEXT


class Touched(Event, type="bench.touched.v1", catalog=EVENTS):
    """What the client publishes."""

    number: int


class Told(Event, type="bench.told.v1", catalog=EVENTS):
    """How often a key has been touched."""

    number: int
    times: int


def teller(cached: int) -> Agent[Tally]:
    """The agent, which keeps so many states in memory."""
    agent = Agent(NAME, state=Tally, limits=Limits(actors_cached=cached))

    @agent.on(Touched)
    async def tell(event: Touched, ctx: Context[Tally]) -> Told:
        ctx.state.times += 1
        return Told(number=event.number, times=ctx.state.times)

    return agent


async def main(url: str, cached: str) -> None:
    """Work until the measuring process closes our standard input."""
    async with jetstream.connect(url) as logs:
        crew = Crew([teller(int(cached))], logs)
        async with running(crew):
            await crew.owning()
            await answer(own_costs)


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
