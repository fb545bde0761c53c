"""The process that `hocket bench chain` measures: four agents in a chain, each passing on what it gets."""

import sys

from hocket.agent import Agent
from hocket.bench.load import answer, own_costs
from hocket.host.crew import Crew, running
from hocket.host.runtime import run
from hocket.log import jetstream
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
LENGTH = 4


class Passed(Event, type="bench.passed.v1", catalog=EVENTS):
    """What the client publishes, and the base of what each agent passes on."""

    number: int
    text: str


class PassedOn1(Passed, type="bench.passed-on-1.v1", catalog=EVENTS):
    """From the first agent."""


class PassedOn2(Passed, type="bench.passed-on-2.v1", catalog=EVENTS):
    """From the second agent."""


class PassedOn3(Passed, type="bench.passed-on-3.v1", catalog=EVENTS):
    """From the third agent."""


class PassedOn4(Passed, type="bench.passed-on-4.v1", catalog=EVENTS):
    """From the last agent."""


TYPES: list[type[Passed]] = [Passed, PassedOn1, PassedOn2, PassedOn3, PassedOn4]
LAST = PassedOn4


def agents() -> list[Agent]:
    """The chain."""
    return [_link(i, TYPES[i], TYPES[i + 1]) for i in range(LENGTH)]


def _link(i: int, takes: type[Passed], gives: type[Passed]) -> Agent:
    agent = Agent(f"link-{i + 1}")

    @agent.on(takes, emits=[gives])
    async def pass_on(event: Passed) -> Passed:
        return gives(number=event.number, text=event.text)

    return agent


async def main(url: str) -> None:
    """Work until the measuring process closes our standard input."""
    async with jetstream.connect(url) as logs:
        crew = Crew(agents(), logs)
        async with running(crew):
            await crew.owning()
            await answer(lambda: own_costs() | {"commits": sum(c.commits for c in crew.committers)})


if __name__ == "__main__":
    run(main(sys.argv[1]))
