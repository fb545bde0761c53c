"""The coding crew on the log's twin, with a model that plays a script: what goes wrong with a module, and what then."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from examples.coding import repository, trial
from examples.coding.schemas import ModuleWritten, TaskDone, TaskFailed, TaskGiven
from examples.coding.trial import tried
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.fault.repositories import commit, every_byte, git, made
from tests.fault.services import coordinator

from hocket import Event
from hocket.host.crew import running
from hocket.host.loader import Service, load
from hocket.testing import Bed, run_virtual
from hocket_schemas.approvals import ApprovalRequested
from hocket_schemas.runtime import SagaCompensated, SagaCompleted

SERVICES = Path(__file__).parents[2] / "examples" / "coding" / "services"
NAMES = ("architect", "scout", "coder", "critic", "merger")
SAID = (ModuleWritten, ApprovalRequested, TaskDone, TaskFailed, SagaCompleted, SagaCompensated)
USER_LINES_MAX = 200

TESTS = """
import unittest

from one import one


class Ones(unittest.TestCase):
    def test_it_is_one(self):
        self.assertEqual(one(), 1)
"""
TASK = TaskGiven(name="one", description="one() is 1.", tests=TESTS)
RIGHT = "def one():\n    return 1\n"
WRONG = "def one():\n    return 2\n"

FORKS = "import os\n\n\ndef one():\n    return os.fork() and 1\n"
SWELLS = "def one():\n    return len(bytearray(1 << 34))\n"
CALLS = "import socket\n\n\ndef one():\n    return socket.create_connection(('127.0.0.1', 9)) and 1\n"
LOOKS = "def one():\n    return len(open('/etc/passwd').readlines())\n"
HANGS = "import time\n\n\ndef one():\n    time.sleep(60)\n"
DEAF = "import signal\n\n\ndef one():\n    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\n"
DEAF += "    __import__('time').sleep(60)\n"
LEAVES = "import os\n\n\ndef one():\n    os._exit(0)\n"


class Play:
    """The crew, a repository, and a model that writes one module after the other, and the last again and again."""

    def __init__(self, folder: Path, *sources: str) -> None:
        self.place = made(folder / "repository")
        self.sources = sources
        self.reads: list[str] = []
        self.prompts: list[str] = []
        self.services: dict[str, Service] = {name: load(SERVICES / name) for name in NAMES}
        self.services["architect"].module.planner.model = FunctionModel(self._plan, model_name="a script")
        self.services["coder"].module.author.model = FunctionModel(self._write, model_name="a script")

    async def _plan(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        answer = {"steps": ["Write it."], "reads": self.reads}
        return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, answer)])

    async def _write(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        parts = [part for message in messages if isinstance(message, ModelRequest) for part in message.parts]
        self.prompts += [str(part.content) for part in parts if isinstance(part, UserPromptPart)]
        source = self.sources[min(len(self.prompts), len(self.sources)) - 1]
        return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, {"source": source})])

    def made(self) -> Bed:
        """A bed for the crew and the coordinator."""
        self.bed = Bed(coordinator(), *(agent for each in self.services.values() for agent in each.agents))
        return self.bed

    def run(self, scene: Coroutine[Any, Any, Any] | None = None) -> dict[type[Event], list[Any]]:
        """Give the crew the task, play a scene, and wait for the end; return what was said by then, by type."""

        async def main() -> dict[type[Event], list[Any]]:
            async with self.made() as bed:
                await bed.publish(TASK, key="task-1", saga="task-1")
                if scene is not None:
                    await scene
                await bed.quiet()
                return {event: bed.events(event) for event in SAID}

        return run_virtual(main())


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODING_REPOSITORY", str(tmp_path / "repository"))


def test_what_a_module_may_not_do_is_stopped_and_told_to_who_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {
        FORKS: "may not start, end or get around a process here (os.fork)",
        SWELLS: "MemoryError",
        CALLS: "may not use the network here",
        LOOKS: "may not touch /etc/passwd here",
        HANGS: "TimeoutError: stopped here, after 0.5 s",
        LEAVES: "The tests did not come to their end: their process ended with code 0",
    }
    play = Play(tmp_path, *told, RIGHT)
    critic = play.services["critic"].module
    monkeypatch.setattr(critic, "ROUNDS_MAX", len(told) + 1)
    monkeypatch.setattr(critic, "tried", partial(tried, wall_s=0.5))

    async def approve() -> None:
        await play.bed.decide(by="ada")

    said = play.run(approve())

    assert [says in prompt for says, prompt in zip(told.values(), play.prompts[1:], strict=True)] == [True] * len(told)
    assert [source in prompt for source, prompt in zip(told, play.prompts[1:], strict=True)] == [True] * len(told)
    assert (len(said[SagaCompleted]), said[SagaCompensated]) == (1, [])
    assert git(play.place, "show", "HEAD:one.py") == RIGHT.strip()


def test_a_module_that_never_passes_ends_its_task_after_so_many_rounds(tmp_path: Path) -> None:
    play = Play(tmp_path, WRONG)
    before = every_byte(play.place)

    said = play.run()

    [failed] = said[TaskFailed]
    assert failed.reason.startswith("It does not pass after 3 rounds:\n")
    assert "AssertionError: 2 != 1" in failed.reason
    assert [written.round for written in said[ModuleWritten]] == [1, 2, 3]
    assert said[ApprovalRequested] == []
    assert len(said[SagaCompensated]) == 1
    assert every_byte(play.place) == before


def test_a_person_is_shown_what_changes_who_wrote_it_and_how_it_was_tried(tmp_path: Path) -> None:
    play = Play(tmp_path, RIGHT)
    commit(play.place, "one.py", WRONG)

    async def approve() -> None:
        await play.bed.decide(by="ada")

    said = play.run(approve())

    [asked] = said[ApprovalRequested]
    shown = asked.details
    assert "+++ b/one.py\n@@ -1,2 +1,2 @@\n def one():\n-    return 2\n+    return 1\n" in shown["diff"]
    assert shown["digest"] == sha256(shown["diff"].encode()).hexdigest()
    assert (shown["written by"], shown["rounds"], shown["tests passed"]) == ("a script", 1, 1)
    assert "audit hooks" in shown["confined by"]
    trailers = git(play.place, "log", "-1", "--format=%(trailers:only)")
    assert trailers.splitlines()[:2] == ["Written-By: a script", "Approved-By: ada"]
    assert len(said[TaskDone]) == 1


def test_who_writes_is_told_the_plan_the_tests_and_the_files_that_matter(tmp_path: Path) -> None:
    play = Play(tmp_path, RIGHT)
    play.reads = ["two.py", "none.py"]
    for path, text in (("one.py", WRONG), ("two.py", "TWO = 2\n"), ("three.py", "THREE = 3\n")):
        commit(play.place, path, text)

    async def deny() -> None:
        await play.bed.decide("deny", reason="not now")

    said = play.run(deny())

    [prompt] = play.prompts
    told = ["The plan:\n- Write it.", "The repository's one.py:", "The repository's two.py:\n\nTWO = 2", TESTS]
    assert [text in prompt for text in told] == [True] * len(told)
    assert "THREE" not in prompt
    assert [failed.reason for failed in said[TaskFailed]] == ["not now"]


def test_a_change_that_somebody_has_edited_is_not_merged(tmp_path: Path) -> None:
    play = Play(tmp_path, RIGHT)
    before = every_byte(play.place)

    async def edit() -> None:
        await play.bed.decide(by="ada", edited={"diff": "another"})

    said = play.run(edit())

    [failed] = said[TaskFailed]
    assert "cannot be edited" in failed.reason
    assert every_byte(play.place) == before


def test_a_merge_after_which_the_repository_does_not_pass_is_taken_back(tmp_path: Path) -> None:
    play = Play(tmp_path, RIGHT)
    jealous = "import unittest\n\n\nclass Alone(unittest.TestCase):\n    def test_it(self):\n"
    jealous += "        with self.assertRaises(ImportError):\n            __import__('o' 'ne')\n"

    async def meet() -> None:
        await play.bed.settled()
        commit(play.place, "test_alone.py", jealous)
        await play.bed.decide(by="ada")

    said = play.run(meet())

    [failed] = said[TaskFailed]
    assert "The repository does not pass with" in failed.reason
    assert [end.undone for end in said[SagaCompensated]] == [["merge"]]
    assert sorted(path.name for path in play.place.glob("*.*")) == [".git", "README.md", "test_alone.py"]
    assert git(play.place, "status", "--porcelain") == ""
    assert len(git(play.place, "log", "--format=%h", f"--grep={repository.MADE}:").splitlines()) == 1


@pytest.mark.parametrize("point", ["after intent", "after call"])
def test_a_crash_before_or_after_the_merge_leaves_one_commit(tmp_path: Path, point: str) -> None:
    play = Play(tmp_path, RIGHT)
    bed = play.made()

    async def story() -> tuple[bool, int]:
        died = asyncio.Event()
        log = bed.server.connect()

        def reach(at: str) -> None:
            if at == point:
                log.kill()
                died.set()

        agents, bed.agents = bed.agents, ()
        async with bed:
            bed.agents = agents
            dying = asyncio.ensure_future(bed.crew_on(log, reach=reach).run())
            await bed.owned()
            await bed.publish(TASK, key="task-1", saga="task-1")
            await bed.decide(by="ada")
            await died.wait()
            dying.cancel()
            await asyncio.wait([dying])
            there = (play.place / "one.py").exists()
            async with running(bed.crew()):
                await bed.quiet()
                return there, len(bed.events(SagaCompleted))

    assert run_virtual(story()) == (point == "after call", 1)
    assert git(play.place, "log", "--format=%s").splitlines() == ["Add one", "Change README.md"]


def test_without_a_model_a_task_fails_at_once_with_the_reason(tmp_path: Path) -> None:
    play = Play(tmp_path)
    play.services["architect"].module.planner.model = None

    said = play.run()

    [end] = said[SagaCompensated]
    assert "UserError: An agent needs to have a `model`" in end.reason


def test_where_there_are_no_namespaces_that_is_said_and_what_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "has_namespaces", lambda: False)
    monkeypatch.setattr(trial, "LATE_S", 0.1)

    result = tried(TASK.files(DEAF), wall_s=0.3)

    assert result.says.startswith("The tests did not come to their end: it was stopped after 0.3 s")
    assert (result.passed, result.confined) == (False, "limits and Python's audit hooks")


def test_the_crew_is_little_code() -> None:
    files = [path for path in SERVICES.glob("*/agent.py") if not path.parent.is_symlink()]

    lines = [line for file in files for line in file.read_text().splitlines() if line.strip()]

    assert len(files) == len(NAMES)
    assert len(lines) < USER_LINES_MAX
