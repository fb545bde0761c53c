"""What nothing can undo: it waits for an approval or a pivot, and that is passed on from agent to agent."""

from typing import Any

import pytest

from hocket import Agent, Context
from hocket.errors import UsageError
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event
from hocket_schemas.undoing import EffectDone

EVENTS = Catalog()


class Written(Event, type="letter.written.v1", catalog=EVENTS):
    first: str = ""
    """`approve` or `pivot`: what comes before it is sent on."""


class Ready(Event, type="letter.ready.v1", catalog=EVENTS):
    pass


class Chosen(Event, type="letter.chosen.v1", catalog=EVENTS):
    pass


class Post:
    """One agent writes a letter, another posts it, and that cannot be undone."""

    def __init__(self, *, waits: bool = False) -> None:
        self.posted: list[str] = []
        self.writer = Agent("writer")
        self.poster = Agent("poster")

        @self.writer.effect(pivot=True)
        async def seal() -> None:
            """After this there is only forward."""

        @self.writer.on(Written)
        async def write(event: Written, ctx: Context) -> Ready | None:
            if event.first == "pivot":
                await ctx.step(seal)
            if event.first == "approve" and not (await ctx.approve("Send it?")).approved:
                ctx.emit(Ready())
            return Ready()

        @self.poster.effect(irreversible=True)
        async def post(to: str) -> None:
            self.posted.append(to)

        async def send(event: Event, ctx: Context) -> None:
            if waits:
                await ctx.wait(Ready)
            await ctx.step(post, "ada")

        self.poster.on(Chosen if waits else Ready, waits=[Ready] if waits else [])(send)

    def play(self, *events: Event, decide: str = "") -> list[Any]:
        """Publish events, decide if asked; return the errors of the dead letters."""

        async def live() -> list[Any]:
            async with Bed(self.writer, self.poster) as bed:
                for event in events:
                    await bed.publish(event, key="k", saga="s")
                    await bed.settled()
                if decide:
                    await bed.decide(decide)
                await bed.settled()
                self.told = bed.events(EffectDone)
                return [letter["reason"] for letter in bed.dead(self.poster)]

        return run_virtual(live())


def test_it_is_refused_when_nothing_came_before_it() -> None:
    post = Post()

    dead = post.play(Written())

    assert (dead, post.posted) == (["NotCleared"], [])


@pytest.mark.parametrize(("first", "decide"), [("approve", "approve"), ("pivot", "")])
def test_it_is_done_after_an_approval_or_a_pivot_of_the_agent_that_led_to_it(first: str, decide: str) -> None:
    post = Post()

    dead = post.play(Written(first=first), decide=decide)

    assert (dead, post.posted) == ([], ["ada"])
    assert [done.pivot for done in post.told if done.agent == "poster"] == [True]


def test_a_refusal_clears_nothing() -> None:
    post = Post()

    dead = post.play(Written(first="approve"), decide="deny")

    assert (set(dead), post.posted) == ({"NotCleared"}, [])


def test_an_answer_that_was_waited_for_clears_as_well() -> None:
    post = Post(waits=True)

    dead = post.play(Chosen(), Written(first="pivot"))

    assert (dead, post.posted) == ([], ["ada"])


def test_what_is_irreversible_has_no_undo() -> None:
    agent = Agent("a")

    @agent.effect(irreversible=True)
    async def post() -> None:
        """Nothing undoes it."""

    with pytest.raises(UsageError, match="irreversible"):

        @post.undo
        async def fetch_back(outcome: None) -> None:
            """It cannot be."""
