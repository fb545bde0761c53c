"""A policy agent on the bus decides what a model may do; where none answers in time, nothing is done."""

from datetime import timedelta

import pytest
from pydantic_ai import Agent as Asked
from tests.unit.scripted import Script, breaks, call

from hocket import Agent, Context
from hocket.errors import UsageError
from hocket.llm import Guarded, ask_model
from hocket.llm.policy import PolicyAgent
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event
from hocket_schemas.guards import CallJudged, CallProposed

EVENTS = Catalog()


class Put(Event, type="policy.put.v1", catalog=EVENTS):
    pass


class Answered(Event, type="policy.answered.v1", catalog=EVENTS):
    text: str


class World:
    """A clerk that is watched, and maybe a warden that judges."""

    def __init__(self, *judged: CallJudged, warden: bool = True, crashes: int = 0, requests: bool = False) -> None:
        self.looked = list[int]()
        self.script = Script([call("look", x=n) for n in range(max(1, len(judged)))])
        self.clerk, self.warden = Agent("clerk"), Agent("warden")
        self.judged = list(judged)
        self.has_warden = warden
        asked, fail = Asked(self.script.model, name="asked"), breaks(crashes)

        @asked.tool_plain
        async def look(x: int) -> int:
            self.looked.append(x)
            return x

        @self.clerk.on(Put, emits=[CallProposed], waits=[CallJudged])
        async def answer(event: Put, ctx: Context) -> Answered:
            guard = PolicyAgent(timedelta(minutes=1), requests=requests)
            result = await ask_model(ctx, asked, "look", guards=[guard])
            fail()
            return Answered(text=result.output)

        @self.warden.on(CallProposed)
        async def judge(event: CallProposed, ctx: Context) -> CallJudged:
            return self.judged[event.arguments["x"]] if event.tool else CallJudged(verdict="skip", result=event.prompt)

    def play(self) -> str:
        async def live() -> str:
            async with Bed(self.clerk, *([self.warden] if self.has_warden else [])) as bed:
                await bed.publish(Put(), key="k")
                await bed.settled()
                await bed.pass_time(timedelta(minutes=2))
                self.proposed = bed.events(CallProposed)
                return bed.events(Answered)[0].text

        return run_virtual(live())


def test_a_policy_agent_decides_about_each_call_and_a_replay_decides_the_same() -> None:
    world = World(
        CallJudged(verdict="proceed"),
        CallJudged(verdict="deny", reason="enough"),
        CallJudged(verdict="change", arguments={"x": 9}),
        CallJudged(verdict="skip", result="nothing"),
        crashes=2,
    )

    assert world.play() == "[0, 'The call was denied: enough', 9, 'nothing']"
    assert world.looked == [0, 9]
    assert [proposed.arguments["x"] for proposed in world.proposed] == [0, 1, 2, 3]


def test_what_no_policy_agent_has_judged_in_time_is_denied() -> None:
    world = World(warden=False)

    assert world.play() == "['The call was denied: no policy agent has answered within 60 s']"
    assert world.looked == []


def test_a_policy_agent_may_judge_requests_too() -> None:
    world = World(requests=True)

    assert world.play() == "look"
    assert world.script.requests == []


async def test_a_policy_agent_is_asked_from_a_run_only() -> None:
    world = World()

    with pytest.raises(UsageError, match="ask the agent by ask_model"):
        await Asked(world.script.model, name="x").run("look", capabilities=[Guarded(PolicyAgent(requests=True))])
