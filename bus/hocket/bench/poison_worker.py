"""The process that `hocket bench poison` measures: an agent that handles most events, and goes wrong at some."""

import asyncio
import sys
from typing import Any

from hocket.agent import Agent
from hocket.bench.load import answer, own_costs
from hocket.host.crew import Crew, running
from hocket.host.runtime import run
from hocket.log import jetstream
from hocket.policy import Retry
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
KINDS = ("raises", "hangs", "garbage")


class Dosed(Event, type="bench.dosed.v1", catalog=EVENTS):
    """What the agent handles; empty kind: well."""

    number: int
    kind: str = ""


class Survived(Event, type="bench.survived.v1", catalog=EVENTS):
    """It was handled."""

    number: int


def patient() -> Agent:
    """The agent. Each poison event takes two attempts, and hangs for half a second in each if it hangs."""
    agent = Agent("patient")

    @agent.on(Dosed, emits=[Survived], timeout_s=0.5, retry=Retry(attempts_max=2, first_s=0.1))
    async def take(event: Dosed) -> Any:
        match event.kind:
            case "raises":
                raise ValueError(event.number)
            case "hangs":
                await asyncio.Event().wait()
            case "garbage":
                return "no event"
        return Survived(number=event.number)

    return agent


async def main(url: str) -> None:
    """Work until the measuring process closes our standard input."""
    async with jetstream.connect(url) as logs:
        crew = Crew([patient()], logs)
        async with running(crew):
            await crew.owning()
            await answer(own_costs)


if __name__ == "__main__":
    run(main(sys.argv[1]))
