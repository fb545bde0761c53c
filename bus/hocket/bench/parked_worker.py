"""The process that `hocket bench parked` measures: one agent whose runs wait for people, or for their time."""

import sys
from datetime import UTC, datetime

from hocket.agent import Agent, Context
from hocket.bench.load import TEXT, answer, own_costs
from hocket.host.crew import Crew, running
from hocket.host.runtime import run
from hocket.log import jetstream
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
NAME = "keeper"


class Wanted(Event, type="bench.wanted.v1", catalog=EVENTS):
    """What the client publishes: ask a person."""

    number: int


class Granted(Event, type="bench.granted.v1", catalog=EVENTS):
    """A person has decided."""

    number: int
    approved: bool


class TimerWanted(Event, type="bench.timer-wanted.v1", catalog=EVENTS):
    """What the client publishes: ring at a certain time."""

    number: int
    due_s: float
    """In seconds since the Unix epoch."""


class TimerSet(Event, type="bench.timer-set.v1", catalog=EVENTS):
    """The run sleeps: this is committed with the wait."""

    number: int


class TimerRang(Event, type="bench.timer-rang.v1", catalog=EVENTS):
    """The time has come."""

    number: int
    due_s: float
    at_s: float
    """When the run went on, in seconds since the Unix epoch."""


def keeper() -> Agent:
    """The agent."""
    agent = Agent(NAME)

    @agent.on(Wanted)
    async def ask(event: Wanted, ctx: Context) -> Granted:
        decision = await ctx.approve("May it go ahead?", details={"number": event.number, "text": TEXT})
        return Granted(number=event.number, approved=decision.approved)

    @agent.on(TimerWanted, emits=[TimerSet, TimerRang])
    async def wait(event: TimerWanted, ctx: Context) -> TimerRang:
        ctx.emit(TimerSet(number=event.number))
        await ctx.sleep(datetime.fromtimestamp(event.due_s, UTC) - ctx.now())
        return TimerRang(number=event.number, due_s=event.due_s, at_s=ctx.now().timestamp())

    return agent


async def main(url: str) -> None:
    """Work until the measuring process closes our standard input."""
    async with jetstream.connect(url) as logs:
        crew = Crew([keeper()], logs)
        async with running(crew):
            await crew.owning()
            await answer(own_costs)


if __name__ == "__main__":
    run(main(sys.argv[1]))
