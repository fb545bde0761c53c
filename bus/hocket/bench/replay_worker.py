"""The process that `hocket bench replay` measures: an agent that is added when the log is full already.

It has a state for each key, which every event changes, and emits one event of its own, when it has handled as many as
it was told to expect.
"""

import sys
from time import perf_counter, process_time

from pydantic import BaseModel

from hocket.agent import Agent, Context
from hocket.bench.load import answer, own_costs
from hocket.bench.said import EVENTS, Said
from hocket.host.crew import Crew, running
from hocket.host.runtime import run
from hocket.log import jetstream
from hocket_schemas.event import Event


class CaughtUp(Event, type="bench.caught-up.v1", catalog=EVENTS):
    """The agent has handled all that there was."""

    took_s: float
    """From the first event's handling on; as for the CPU's time."""

    cpu_s: float


class Heard(BaseModel):
    """What the agent knows of a key."""

    count: int = 0
    sum: int = 0


def latecomer(name: str, expected: int) -> Agent[Heard]:
    """The agent."""
    agent = Agent(name, state=Heard)
    began_s = began_cpu_s = 0.0
    count = 0

    @agent.on(Said, emits=[CaughtUp])
    async def hear(event: Said, ctx: Context[Heard]) -> CaughtUp | None:
        nonlocal began_s, began_cpu_s, count
        if not count:
            began_s, began_cpu_s = perf_counter(), process_time()
        count += 1
        ctx.state.count += 1
        ctx.state.sum += event.number
        if count < expected:
            return None
        return CaughtUp(took_s=perf_counter() - began_s, cpu_s=process_time() - began_cpu_s)

    return agent


async def main(url: str, name: str, expected: str) -> None:
    """Work until the measuring process closes our standard input."""
    async with jetstream.connect(url) as logs:
        crew = Crew([latecomer(name, int(expected))], logs, replay={name: True})
        async with running(crew):
            await crew.owning()
            await answer(own_costs)


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
