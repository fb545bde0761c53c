"""The process that `hocket bench chain` measures: four agents in a chain, each passing on what it gets.

There are two chains: nobody is interested in the one, and of the other the first event starts a declared saga and the
last completes it. The coordinator that follows it has a process of its own, as under `hocket up`; that is this module
too, told the coordinator's folder.
"""

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from hocket.agent import Agent
from hocket.bench.load import answer, own_costs
from hocket.host import loader
from hocket.host.crew import Crew, running
from hocket.host.runtime import run
from hocket.log import jetstream
from hocket_schemas.event import Catalog, Event
from hocket_schemas.sagas import Saga

EVENTS = Catalog()
LENGTH = 4
DEADLINE = timedelta(hours=1)
"""Of the saga. No run comes near it: what is measured is what it costs to keep it."""


class Passed(Event, type="bench.passed.v1", catalog=EVENTS):
    """The base of what is passed on."""

    number: int
    text: str


def _family(word: str) -> list[type[Passed]]:
    """What the client publishes, and then what each agent passes on."""
    made: list[type[Passed]] = []
    for i in range(LENGTH + 1):

        class Link(Passed, type=f"bench.{word}-{i}.v1", catalog=EVENTS):
            """From the i-th agent; 0: from the client."""

        made.append(Link)
    return made


FREE_CHAIN = "free"
FOLLOWED_CHAIN = "followed"
FREE = _family("free")
FOLLOWED = _family("followed")
"""Those that a saga's policy is about."""


def agents(types: Sequence[type[Passed]]) -> list[Agent]:
    """The chain."""
    name = types[0].event_type.split(".")[1].removesuffix("-0")
    return [_link(f"{name}-{i + 1}", types[i], types[i + 1]) for i in range(LENGTH)]


def _link(name: str, takes: type[Passed], gives: type[Passed]) -> Agent:
    agent = Agent(name)

    @agent.on(takes, emits=[gives])
    async def pass_on(event: Passed) -> Passed:
        return gives(number=event.number, text=event.text)

    return agent


async def main(url: str, domain: str, role: str) -> None:
    """Work until the measuring process closes our standard input."""
    policy = Saga("bench", starts=FOLLOWED[0], done=FOLLOWED[-1], deadline=DEADLINE)
    if role in (FREE_CHAIN, FOLLOWED_CHAIN):
        members: Sequence[Agent[Any]] = agents(FREE if role == FREE_CHAIN else FOLLOWED)
    else:
        members = loader.load(role).agents
        assert any(policy.done.event_type in agent.consumes for agent in members), "it follows what is declared by now"
    async with jetstream.connect(url, domain=domain) as logs:
        crew = Crew(members, logs)
        async with running(crew):
            await crew.owning()
            await answer(lambda: own_costs() | {"commits": sum(c.commits for c in crew.committers)})


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
