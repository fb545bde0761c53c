"""An agent's process ends and another goes on: at whatever moment, and with whatever code, nothing is asked twice."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from pydantic_ai import Agent as Asked
from pydantic_ai import Tool
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.unit.scripted import Answered, Put, Script, asking, call

from hocket import Agent, Context
from hocket.clock import LoopClock
from hocket.crashpoints import Reach, pass_by
from hocket.llm import ask_model, effect_tool
from hocket.log.memory import MemoryLog, MemoryServer
from hocket.observe.history import Remembered, history
from hocket.testing import Bed, run_virtual
from hocket_schemas.approvals import ApprovalRequested

Handle = Callable[[Context], Awaitable[str]]

EACH = int(os.environ.get("HOCKET_MODEL_MOMENTS", "7"))
"""One process in so many ends: at every 7th of its moments; 1 tries all of them."""


class Killed(BaseException):
    """The process has ended here."""


@dataclass
class Moments:
    """All that happens in a process, one moment after the other; at one of them it ends."""

    last: int = 0
    """The how-manieth is the last, from 1; 0: none is."""

    told: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def pass_by(self, moment: str) -> None:
        if self.over.is_set():
            raise Killed
        self.told.append(moment)
        if len(self.told) == self.last:
            self.over.set()
            raise Killed


@dataclass
class World:
    """What there is outside of the processes: a model, a shop, and what was asked of them."""

    moments: Moments
    before: list[str] = field(default_factory=list)
    """The moments of the first process."""

    answered: list[int] = field(default_factory=list)
    looked: list[int] = field(default_factory=list)
    ordered: dict[str, str] = field(default_factory=dict)
    orders: int = 0

    def crew(self) -> Agent:
        """The agent of hocket; every process has one of its own."""
        script = Script([call("look", x=1), call("look", x=2)], [call("order", what="tea"), call("look", x=3)])
        crew = Agent("crew")

        @crew.effect()
        async def order(what: str, *, key: str) -> str:
            self.moments.pass_by("before order")
            self.ordered[key] = what
            self.orders += 1
            self.moments.pass_by("after order")
            return f"{what} is ordered"

        @order.verify
        async def ordered(what: str, *, key: str) -> str | None:
            return f"{what} is ordered" if key in self.ordered else None

        async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            self.moments.pass_by("before request")
            response = await script.respond(messages, info)
            self.answered.append(script.requests[-1])
            self.moments.pass_by("after request")
            return response

        asked = Asked(FunctionModel(respond), name="asked", tools=[effect_tool(order)])

        @asked.tool_plain
        async def look(x: int) -> int:
            self.moments.pass_by("before look")
            self.looked.append(x)
            await asyncio.sleep(0.1 * x)
            self.moments.pass_by("after look")
            return x * x

        crew.on(Put)(_handler(asking(asked, fails=0)))
        return crew


def _handler(answer: Handle) -> Callable[[Put, Context], Awaitable[Answered]]:
    async def handle(event: Put, ctx: Context) -> Answered:
        return Answered(text=await answer(ctx))

    return handle


@asynccontextmanager
async def process(bed: Bed, line: MemoryLog, reach: Reach = pass_by) -> AsyncIterator[None]:
    """A process with the bed's agents, for as long as the block lasts."""
    work = asyncio.create_task(bed.crew_on(line, reach=reach).run())
    await bed.owned()
    yield
    line.kill()
    work.cancel()
    with suppress(asyncio.CancelledError, BaseExceptionGroup, Killed):
        await work


async def goes_on(bed: Bed, agent: Agent, script: Callable[[], Awaitable[None]] | None = None) -> str:
    """Let another process take over and come to the end; what was answered."""
    bed.agents = (agent,)
    async with process(bed, bed.server.connect()):
        if script is not None:
            await bed.settled()
            await script()
        await bed.quiet()
    return str([answer.text for answer in bed.events(Answered)] or bed.dead(agent))


def lived(last: int) -> World:
    """A world in which the first process ended at that moment."""

    async def story() -> World:
        world = World(Moments(last))
        async with Bed(server=MemoryServer(clock=LoopClock())) as bed:
            bed.agents = (world.crew(),)
            async with process(bed, bed.server.connect(), world.moments.pass_by):
                await bed.publish(Put(), key="k")
                await world.moments.over.wait()
            world.before, world.moments = world.moments.told, Moments()
            assert await goes_on(bed, world.crew()) == "[\"[1, 4, 'tea is ordered', 9]\"]"
        return world

    return run_virtual(story())


@pytest.mark.parametrize("last", range(5, 48, EACH))
def test_a_process_may_end_at_any_moment_and_another_goes_on_from_there(last: int) -> None:
    world = lived(last)

    told = world.before
    kept = max(place for place, moment in enumerate(told) if moment == "after append") if "after append" in told else 0
    unkept = told[kept:].count("after request")
    assert len(world.answered) == 3 + unkept, "a request is made again if its answer came, and was not in the log yet"
    assert sorted(set(world.answered)) == [0, 1, 2]
    assert world.orders == 1
    assert sorted(set(world.looked)) == [1, 2, 3]
    assert len(world.looked) <= 3 + 2, "of two calls side by side both may have been under way"


def test_an_approval_outlives_its_process_two_days_and_a_change_of_the_code() -> None:
    bought, stepped, seen = list[int](), list[str](), list[tuple[str | None, list[str]]]()
    old = Script([call("look", x=1)], [call("buy", cents=700)])
    new = Script([call("look", x=8)], [call("buy", cents=900)])

    async def look(x: int) -> str:
        return f"seen {x}"

    async def wrap() -> str:
        return "wrapped"

    async def buy(cents: int) -> str:
        bought.append(cents)
        return f"bought for {cents}"

    async def pack() -> None:
        stepped.append("packed")

    async def stow() -> None:
        stepped.append("stowed")

    async def before(ctx: Context) -> str:
        await ctx.step(pack)
        tools = [Tool(look), Tool(buy, requires_approval=True)]
        asked = Asked(old.model, name="buyer", tools=tools, instructions="Buy.")
        return (await ask_model(ctx, asked, "Buy it")).output

    async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append((info.instructions, sorted(tool.name for tool in info.function_tools)))
        return await new.respond(messages, info)

    async def after(ctx: Context) -> str:
        await ctx.step(stow)
        tools = [Tool(look), Tool(wrap), Tool(buy, requires_approval=True)]
        asked = Asked(FunctionModel(respond), name="buyer", tools=tools, instructions="Buy and wrap.")
        return (await ask_model(ctx, asked, "Buy another")).output

    async def story() -> tuple[str, int, list[str]]:
        async with Bed(server=MemoryServer(clock=LoopClock())) as bed:
            bed.agents = (crew_of(before),)
            line = bed.server.connect()
            async with process(bed, line):
                await bed.publish(Put(), key="k")
                await bed.settled()
                line.kill()
            await bed.pass_time(timedelta(days=2))
            said = await goes_on(bed, crew_of(after), bed.decide)
            entries = [entry.name for entry in await history(bed.bus, "k") if isinstance(entry, Remembered)]
            return said, len(bed.events(ApprovalRequested)), entries

    said, asked_for, entries = run_virtual(story())

    assert said == "[\"['seen 1', 'bought for 700']\"]", "what the old code was answered, and what was approved"
    assert (old.requests, new.requests) == ([0, 1], [2]), "no finished request is made again"
    assert (bought, asked_for) == ([700], 1)
    assert seen == [("Buy and wrap.", ["buy", "look", "wrap"])], "from here on it is the new code that speaks"
    assert stepped == ["packed", "stowed"]
    assert "notice" in entries, "what the new code did not ask for any more is told"


def crew_of(answer: Handle) -> Agent:
    crew = Agent("crew")
    crew.on(Put)(_handler(answer))
    return crew
