"""The process that `hocket bench poison` measures: an agent that handles most events, and goes wrong at some."""

import asyncio
import os
import sys
from typing import Any

from hocket.agent import Agent
from hocket.bench.load import answer, own_costs
from hocket.host.crew import Crew, running
from hocket.host.runtime import run
from hocket.log import jetstream
from hocket.policy import Limits, Retry
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
KINDS = ("raises", "hangs", "garbage")
MORTAL = "mortal"

DRAIN_S = 0.2
"""What they get to finish when their process has to go. Whoever exhausts its memory does not, and all wait for it."""

PIECE_BYTES = 4 << 20
PIECES_MAX = 150
PIECE_S = 0.02
"""How fast memory is exhausted, and where it ends."""


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


def mortal() -> Agent:
    """An agent whose poison ends its process: two attempts, once it is known to do that."""
    agent = Agent(MORTAL, limits=Limits(drain_s=DRAIN_S))
    held: list[bytes] = []

    @agent.on(Dosed, emits=[Survived], retry=Retry(attempts_max=2, first_s=0.1))
    async def take(event: Dosed) -> Any:
        match event.kind:
            case "exits":
                os._exit(1)
            case "exhausts memory":
                while len(held) < PIECES_MAX:
                    held.append(b"x" * PIECE_BYTES)
                    await asyncio.sleep(PIECE_S)
                await asyncio.Event().wait()
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
