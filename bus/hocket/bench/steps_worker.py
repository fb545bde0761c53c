"""The process that `hocket bench steps` measures: one agent whose handler takes ten steps, one after the other."""

import sys
from time import perf_counter

from hocket.agent import Agent, Context
from hocket.bench.load import answer, own_costs
from hocket.host.crew import Crew, running
from hocket.host.runtime import run
from hocket.log import jetstream
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
STEPS = 10


class Climbed(Event, type="bench.climbed.v1", catalog=EVENTS):
    """What the client publishes: take the steps."""

    number: int


class Arrived(Event, type="bench.arrived.v1", catalog=EVENTS):
    """All steps are taken."""

    number: int
    took_s: float
    """From the first step's beginning to the last one's end."""

    steps: int


def climber() -> Agent:
    """The agent."""
    agent = Agent("climber")

    @agent.on(Climbed)
    async def climb(event: Climbed, ctx: Context) -> Arrived:
        began_s = perf_counter()
        taken: list[dict[str, int]] = [await ctx.step(step, n, event.number) for n in range(STEPS)]
        return Arrived(number=event.number, took_s=perf_counter() - began_s, steps=len(taken))

    return agent


async def step(n: int, number: int) -> dict[str, int]:
    """What is remembered: as little as a step can be about."""
    return {"step": n, "of": number}


async def main(url: str) -> None:
    """Work until the measuring process closes our standard input."""
    async with jetstream.connect(url) as logs:
        crew = Crew([climber()], logs)
        async with running(crew):
            await crew.owning()
            await answer(lambda: own_costs() | {"commits": sum(c.commits for c in crew.committers)})


if __name__ == "__main__":
    run(main(sys.argv[1]))
