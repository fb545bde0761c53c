"""What is said of a task for the coding crew, and the policy that it is held to."""

from datetime import timedelta

from pydantic import Field

from hocket import Event, Saga


class TaskGiven(Event, type="coding.task.given.v1"):
    """Somebody wants a module that passes these tests."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """The module's; it becomes `name.py`, and the tests `test_name.py` beside it."""

    description: str
    tests: str
    """A Python file of unittest cases that import the module."""

    def files(self, source: str) -> dict[str, str]:
        """What it adds to the repository, by path, with this module."""
        return {f"{self.name}.py": source, f"test_{self.name}.py": self.tests}


class TaskPlanned(Event, type="coding.task.planned.v1"):
    """It is clear what to do, and of which files of the repository one has to know."""

    base: str
    """The commit that everybody works on."""

    steps: list[str]
    reads: list[str]
    model: str
    """Who planned it, by the model's own word."""


class TaskResearched(Event, type="coding.task.researched.v1"):
    """What has to be known is there: path and text of each file."""

    files: dict[str, str]


class ModuleWritten(Event, type="coding.module.written.v1"):
    """There is a module, which nobody has tried yet."""

    round: int
    source: str
    model: str
    """Who wrote it, by the model's own word."""


class ChangesWanted(Event, type="coding.changes.wanted.v1"):
    """The module does not pass."""

    round: int
    failures: str


class ModuleReviewed(Event, type="coding.module.reviewed.v1"):
    """The module passes, with all other tests of the repository."""

    round: int
    tests: int
    confined: str
    """What kept the module from the rest of the machine while it was tried."""


class ChangeMerged(Event, type="coding.change.merged.v1"):
    """It is in the repository, as this commit."""

    commit: str


class TaskDone(Event, type="coding.task.done.v1"):
    """It is in the repository, and all tests pass there."""

    commit: str
    tests: int


class TaskFailed(Event, type="coding.task.failed.v1"):
    """Nothing will come of it."""

    reason: str


CODING = Saga("coding", starts=TaskGiven, done=TaskDone, fails=[TaskFailed], deadline=timedelta(days=3))
