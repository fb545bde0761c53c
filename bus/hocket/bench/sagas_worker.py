"""The processes that `hocket bench sagas` measures: four agents with an effect each, and the coordinator.

What the effects reach is a receiver in the same process, which counts its calls. The fourth agent refuses every saga
whose number says so; then the coordinator has the three effects before it, and its own, undone.
"""

import sys
from collections import Counter
from datetime import timedelta
from functools import partial

from hocket.agent import Agent, Context
from hocket.bench.load import TEXT, answer, own_costs
from hocket.host import loader
from hocket.host.crew import Crew, running
from hocket.host.runtime import run
from hocket.log import jetstream
from hocket_schemas.event import Catalog, Event
from hocket_schemas.sagas import Saga

EVENTS = Catalog()
LENGTH = 4
REFUSED_EVERY = 10
"""One saga in so many fails at its last step."""


class Stepped(Event, type="bench.stepped.v1", catalog=EVENTS):
    """The base of what is passed on from step to step."""

    number: int
    text: str = TEXT


class Refused(Stepped, type="bench.refused.v1", catalog=EVENTS):
    """The last step did not like what it saw."""


def _steps() -> list[type[Stepped]]:
    made: list[type[Stepped]] = []
    for i in range(LENGTH + 1):

        class Step(Stepped, type=f"bench.step-{i}.v1", catalog=EVENTS):
            """From the i-th agent; 0: from the client."""

        made.append(Step)
    return made


STEPS = _steps()

WORK = "work"


def refused(number: int) -> bool:
    """Whether a saga is one of those that fail."""
    return number % REFUSED_EVERY == REFUSED_EVERY - 1


def agents(calls: Counter[str]) -> list[Agent]:
    """The four; `calls` is the receiver's book."""
    return [_stepper(i, calls) for i in range(LENGTH)]


def _stepper(i: int, calls: Counter[str]) -> Agent:
    agent = Agent(f"step-{i + 1}")
    takes, gives = STEPS[i], STEPS[i + 1]
    last = i == LENGTH - 1

    @agent.effect(idempotent=True)
    async def reserve(number: int, nth: int) -> str:
        calls["done"] += 1
        return f"{number}-{nth}"

    @reserve.undo
    async def release(number: int, nth: int, reserved: str) -> None:
        calls["undone"] += 1

    @agent.on(takes, emits=[gives, Refused] if last else [gives])
    async def step(event: Stepped, ctx: Context) -> Stepped:
        await ctx.step(reserve, event.number, i)
        return Refused(number=event.number) if last and refused(event.number) else gives(number=event.number)

    return agent


async def main(url: str, role: str) -> None:
    """Work until the measuring process closes our standard input."""
    policy = Saga("bench", starts=STEPS[0], done=STEPS[-1], fails=[Refused], deadline=timedelta(hours=1))
    calls: Counter[str] = Counter(done=0, undone=0)
    members = agents(calls) if role == WORK else loader.load(role).agents
    assert role == WORK or any(policy.done.event_type in agent.consumes for agent in members)
    async with jetstream.connect(url) as logs:
        crew = Crew(members, logs)
        async with running(crew):
            await crew.owning()
            await answer(partial(_told, calls))


def _told(calls: Counter[str]) -> dict[str, float]:
    return own_costs() | calls


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
