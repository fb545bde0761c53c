"""The saga on hocket: four agents that pass an event on, or one handler that takes four steps."""

import asyncio
import sys

from lanes import HOPS, SETTINGS, serve, until_closed, worker

from hocket import __version__
from hocket.agent import Agent, Context
from hocket.bench.chain_worker import FREE, Passed, agents
from hocket.beside import beside
from hocket.client import open_bus
from hocket.host.crew import Crew, running
from hocket.host.runtime import run
from hocket.log import jetstream
from hocket_schemas.event import Catalog

CATALOG = Catalog()


class Asked(Passed, type="bench.compare-asked.v1", catalog=CATALOG):
    """From the client: take the four steps."""


class Done(Passed, type="bench.compare-done.v1", catalog=CATALOG):
    """The four steps are taken."""


def climber() -> Agent:
    """The agent whose one handler takes the steps."""
    agent = Agent("compare")

    @agent.on(Asked)
    async def climb(event: Asked, ctx: Context) -> Done:
        hops = 0
        for _ in range(HOPS):
            hops = (await ctx.step(step, hops, event.text))["hop"]
        assert hops == HOPS
        return Done(number=event.number, text=event.text)

    return agent


async def step(hop: int, text: str) -> dict[str, int | str]:
    """Pass on what came."""
    return {"hop": hop + 1, "text": text}


async def work() -> None:
    """The agents."""
    members = [climber()] if SETTINGS["form"] == "steps" else agents(FREE)
    async with jetstream.connect(SETTINGS["nats"], domain="compare") as logs:
        crew = Crew(members, logs)
        async with running(crew):
            await crew.owning()
            await until_closed()


async def main() -> None:
    """Publish first events, hear of the last ones, and be measured."""
    first, last = (Asked, Done) if SETTINGS["form"] == "steps" else (FREE[0], FREE[-1])
    arrived: dict[int, asyncio.Event] = {}
    async with (
        worker(),
        jetstream.connect(SETTINGS["nats"], domain="compare") as logs,
        open_bus(logs, publisher="bench") as bus,
        bus.subscribe(last) as deliveries,
    ):

        async def saga(number: int) -> None:
            over = arrived[number] = asyncio.Event()
            await bus.publish(first(number=number, text=SETTINGS["text"]))
            await over.wait()
            del arrived[number]

        async def listen() -> None:
            async for delivery in deliveries:
                arrived[delivery.envelope.data["number"]].set()

        async with beside(listen()):
            await serve(saga, told={"hocket": __version__})


if __name__ == "__main__":
    sys.exit(run(work() if SETTINGS.get("role") == "worker" else main()))
