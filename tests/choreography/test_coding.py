"""The coding crew as `hocket up` runs it, killed each second: a model that plays a script, real git, and a person."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from examples.coding import repository
from examples.coding.rehearsal import CUES, plan, write
from examples.coding.schemas import ChangeMerged, TaskFailed, TaskGiven
from examples.coding.tasks import TASKS
from tests.fault.repositories import every_byte, git, made
from tests.fault.scripted_model import Served, scripted
from tests.fault.services import until

from hocket.beside import beside
from hocket.client import Bus, connect
from hocket.host.place import RUN_FILE, find_running
from hocket.ids import fresh
from hocket.observe import holds
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested
from hocket_schemas.cancels import CancelRequested
from hocket_schemas.event import Event
from hocket_schemas.holds import HoldLifted, HoldPlaced
from hocket_schemas.runtime import SagaCompensated, SagaCompleted

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("HOCKET_CODING_SEED", "11"))
KILLS = int(os.environ.get("HOCKET_CODING_KILLS", "1"))
"""How often each service is killed. The host gives one up that ends six times in a minute."""

KILLED_BEFORE = 3
"""How many have been killed, at least, when a person decides."""

SLOW_S = 0.2
"""How long the model thinks."""

SERVICES = 6
SAID = "up.txt"
"""What `hocket up` prints."""

ENDS = (SagaCompleted, SagaCompensated)

ONE = "def one():\n    return 1\n"
ONES = "import unittest\n\nimport one\n\n\nclass Ones(unittest.TestCase):\n    def test_it(self):\n"
ONES += "        self.assertEqual(one.one(), 1)\n"
ASIDE = [plan("one", "Write it."), write("one", ONE)]
"""What is scripted beside the example's own tasks."""


@dataclass
class Stage:
    """The crew at work, and what surrounds it."""

    bus: Bus
    model: Served
    place: Path
    """The git repository."""

    host: Path
    kills: list[str] = field(default_factory=list)

    def at_work(self) -> dict[str, int]:
        """The processes that work now, by service: those that `hocket up` says so of."""
        found = find_running(self.host / RUN_FILE)
        said = dict(line[9:].split(": ", 1) for line in (self.host / SAID).read_text().splitlines() if ": " in line)
        at_work = {name for name, what in said.items() if what == "at work"}
        return {name: pid for name, pid in found.services.items() if name in at_work} if found else {}

    async def give(self, task: TaskGiven, saga: str) -> None:
        await self.bus.publish(task, key=saga, saga=saga)

    async def heard(self, saga: str, *types: type[Event]) -> Any:
        """The first event of one of these types in a saga, once it is there."""
        async with asyncio.timeout(90), self.bus.subscribe(*types, key=saga, start="start") as deliveries:
            return (await anext(deliveries)).event

    async def decide(self, saga: str, option: str) -> None:
        asked = await self.heard(saga, ApprovalRequested)
        decided = ApprovalDecided(approval=asked.approval, digest=asked.digest, option=option, by="ada")
        await self.bus.command(decided, to=asked.agent, key=saga, saga=saga)

    async def reap(self) -> None:
        """Kill one of the services that work each second, by lot, until each has been killed so often."""
        rng = random.Random(SEED)
        while True:
            await asyncio.sleep(1)
            at_work = self.at_work()
            least = min((self.kills.count(name) for name in at_work), default=KILLS)
            victims = sorted(name for name in at_work if self.kills.count(name) == least < KILLS)
            if victims:
                name = rng.choice(victims)
                with suppress(ProcessLookupError):
                    os.kill(at_work[name], signal.SIGKILL)
                    self.kills.append(name)

    async def solve(self, task: TaskGiven) -> Any:
        """Have a task done; whoever decides takes his time, so that some have been killed by then."""
        await self.give(task, task.name)
        await until(lambda: len(self.kills) >= KILLED_BEFORE)
        await self.decide(task.name, "approve")
        return await self.heard(task.name, *ENDS)


@asynccontextmanager
async def up(folder: Path, url: str, domain: str, environment: dict[str, str]) -> AsyncIterator[None]:
    """`hocket up` with the crew, in a folder of its own."""
    command = (sys.executable, "-m", "hocket.cli.main", "up", str(ROOT / "examples" / "coding" / "services"))
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "HOCKET_NATS": url, "HOCKET_DOMAIN": domain, "PYTHONPATH": path, **environment}
    with (folder / SAID).open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        yield
        process.terminate()
        async with asyncio.timeout(30):
            assert await process.wait() == 0, (folder / SAID).read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder, domain = tmp_path_factory.mktemp("coding"), fresh()
    place = made(folder / "repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODING_REPOSITORY", str(place))
        async with (
            scripted(folder, {"cues": CUES + ASIDE, "slow_s": SLOW_S}) as model,
            up(
                folder,
                nats_url,
                domain,
                {
                    "HOCKET_SCHEMAS": "examples.coding.schemas",
                    "CODING_MODEL": "scripted",
                    "OPENAI_BASE_URL": model.url,
                    "OPENAI_API_KEY": "none",
                },
            ),
            connect(nats_url, domain=domain) as bus,
        ):
            stage = Stage(bus, model, place, folder)
            await until(lambda: len(stage.at_work()) == SERVICES)
            yield stage


async def test_three_tasks_are_solved_and_merged_once_though_somebody_is_killed_each_second(stage: Stage) -> None:
    base = repository.head()

    async with asyncio.timeout(100), beside(stage.reap()):
        ends = await asyncio.gather(*(stage.solve(task) for task in TASKS.values()))

    assert [type(end) for end in ends] == [SagaCompleted] * 3
    assert len(stage.kills) >= KILLED_BEFORE, "hardly anybody was killed, so nothing was proved"
    merged = git(stage.place, "log", "--reverse", "--format=%s by %(trailers:key=Written-By,valueonly)", f"{base}..")
    assert sorted(filter(None, merged.splitlines())) == [f"Add {name} by scripted" for name in sorted(TASKS)]
    assert git(stage.place, "status", "--porcelain") == ""
    assert await passes(stage.place)
    for nth, name in enumerate(("slugify", "roman", "intervals"), 1):
        took(stage, name, rounds=nth)


async def passes(place: Path) -> bool:
    """Whether the tests in a repository pass, by Python's own runner."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-B", "-m", "unittest", "-q", cwd=place)
    return await process.wait() == 0


def took(stage: Stage, name: str, *, rounds: int) -> None:
    """Assert that a task took so many rounds, and that the model was not asked again for what it had answered."""
    cues = [place for place, (texts, _) in enumerate(CUES) if f"{name}." in texts[0]]
    order = [cues[0], *reversed(cues[1:])]
    asked = [order.index(line["cue"]) for line in stage.model.lines("asked") if line["cue"] in order]
    assert len(order) == 1 + rounds
    assert sorted(set(asked)) == list(range(1 + rounds))
    assert asked == sorted(asked), "what came after an answer shows that it was remembered: it is not asked for again"
    killed = sum(name in ("architect", "coder") for name in stage.kills)
    assert len(asked) <= len(order) + killed, (
        "each kill leaves one request unfinished, and that one alone is made again"
    )


async def test_a_denied_change_leaves_every_byte_of_the_repository_as_it_was(stage: Stage) -> None:
    before = every_byte(stage.place)

    await stage.give(TaskGiven(name="one", description="one() is 1.", tests=ONES), "denied")
    await stage.decide("denied", "deny")
    end = await stage.heard("denied", *ENDS)

    assert (type(end), end.undone) == (SagaCompensated, [])
    assert (await stage.heard("denied", TaskFailed)).reason == "deny"
    assert every_byte(stage.place) == before


async def test_a_task_that_is_cancelled_after_its_merge_is_taken_back(stage: Stage) -> None:
    before = repository.head()

    await stage.give(TaskGiven(name="one", description="one() is 1.", tests=ONES), "cancelled")
    await stage.heard("cancelled", ApprovalRequested)
    await holds.say(stage.bus, HoldPlaced(agent="critic", by="ada"))
    await stage.decide("cancelled", "approve")
    merged = (await stage.heard("cancelled", ChangeMerged)).commit
    there = repository.head() == merged and (stage.place / "one.py").read_text() == ONE
    await stage.bus.publish(CancelRequested(saga="cancelled", by="ada"), key="cancelled", saga="cancelled")
    end = await stage.heard("cancelled", *ENDS)
    await holds.say(stage.bus, HoldLifted(agent="critic", by="ada"))

    assert there
    assert (type(end), end.undone) == (SagaCompensated, ["merge"])
    assert git(stage.place, "rev-list", "--count", f"{merged}..") == "1"
    assert git(stage.place, "diff", before, "HEAD") == ""
    assert (git(stage.place, "status", "--porcelain"), (stage.place / "one.py").exists()) == ("", False)
