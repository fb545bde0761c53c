"""A brief that comes out the same though somebody of the crew is killed each second, or just as it is written."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import pytest
import pytest_asyncio

from hocket.beside import beside
from hocket.clock import SystemClock
from hocket.demo import cast, invariants
from hocket.demo.chaos import RESTARTS, Blow, Moment, Strike
from hocket.demo.corpus import lay_out
from hocket.demo.play import Decision, Played, Published, play
from hocket.demo.stage import Stage, set_up
from hocket.demo.trial import attack
from hocket.observe.runs import effects
from hocket_schemas.approvals import ApprovalRequested
from hocket_schemas.briefs import BriefRequested

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICES = Path(__file__).parents[2] / "services"
CREW = ("librarian", "planner", "researcher", "writer", "reviewer", "publisher", "coordinator")
ROUNDS = int(os.environ.get("HOCKET_DEMO_ROUNDS", "1"))
"""More of them are more of the same, at ten seconds each."""

COPIES = 3
"""Of the language reference, so that the crew has work for some seconds even when it is left in peace."""

TRIES = 10
"""An effect takes a few milliseconds, and not every blow is so fast."""


@dataclass(frozen=True)
class Scene:
    """A crew at work, and a request that it has answered once in peace."""

    stage: Stage
    request: BriefRequested
    calm: Played


async def approve(request: ApprovalRequested) -> Decision:
    return Decision(True, "ann")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    place = tmp_path_factory.mktemp("demo")
    documents = place / "documents"
    documents.mkdir()
    for document in lay_out(place).iterdir():
        for copy in range(COPIES):
            shutil.copy(document, documents / f"{copy}-{document.name}")
    request = BriefRequested(folder=str(documents), out=str(place / "out" / "brief.md"))
    async with set_up(place / "home", cast.members(SERVICES), restarts=RESTARTS) as stage:
        yield Scene(stage, request, await play(stage, request, decide=approve))


@dataclass
class Reaper:
    """Kills one service each second, each of them in its turn."""

    stage: Stage
    blows: list[Blow] = field(default_factory=list)
    struck: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def reap(self) -> None:
        for second, service in enumerate(cycle(CREW), 1):
            await asyncio.sleep(1)
            self.stage.fleet.kill(service)
            blow = Blow(Strike(service, Moment("second", second)), (service,), int(SystemClock().now_s() * 1e9))
            async with self.struck:
                self.blows.append(blow)
                self.struck.notify_all()

    async def approve(self, request: ApprovalRequested) -> Decision:
        """Take so long to decide that whoever asks has been killed meanwhile."""
        before = len(self.blows)
        async with self.struck:
            await self.struck.wait_for(lambda: any(request.agent in blow.killed for blow in self.blows[before:]))
        return await approve(request)


async def test_a_kill_each_second_leaves_each_brief_as_it_is(scene: Scene) -> None:
    reaper = Reaper(scene.stage)
    rounds: list[Played] = []

    async with beside(reaper.reap()):
        for _ in range(ROUNDS):
            os.unlink(scene.request.out)
            rounds.append(await play(scene.stage, scene.request, decide=reaper.approve))

    assert isinstance(scene.calm.ending, Published)
    for played in rounds:
        assert isinstance(played.ending, Published)
        assert played.ending.data == scene.calm.ending.data
        assert played.ending.problems == ()
        assert [invariant for invariant in invariants.of_saga(played) if not invariant.holds] == []
        assert played.account.said == scene.calm.account.said
        assert "publisher" in {blow.strike.target for blow in reaper.blows if asks(played, blow)}


def asks(played: Played, blow: Blow) -> bool:
    """Whether a question to people was open when somebody was killed."""
    questions = [answer for answer in played.account.answers if answer.kind == "question"]
    return any(question.asked_ns < blow.at_ns < question.answered_ns for question in questions)


@pytest.mark.parametrize("effect", ["write_brief", "list_brief"])
async def test_a_kill_in_the_middle_of_a_write_leaves_it_done_once(scene: Scene, effect: str) -> None:
    strike = Strike("publisher", Moment(f"intent of {effect}", 1))

    for _ in range(TRIES):
        trial = await attack(scene.stage, scene.request, scene.calm, [strike])
        if trial.hits:
            break

    assert [invariant for invariant in trial.invariants if not invariant.holds] == []
    assert [done.state for done in await effects(scene.stage.bus, trial.stormy.saga)] == ["done", "done"]
