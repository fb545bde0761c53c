"""Every named moment at which a process may die, so that tests can walk them all."""

import os
import signal
from collections.abc import Callable
from typing import Final

POINTS: Final = (
    "before claim",
    "after claim",
    "after scan",
    "before handler",
    "before intent",
    "after intent",
    "after call",
    "after outcome",
    "after handler",
    "before append",
    "after append",
    "before cursor flush",
    "after cursor flush",
    "before run head",
    "after run head",
    "before dead letter",
    "before cancelled",
    "before release",
    "after release",
)
"""In the order in which the life of a worker meets them. docs/wire.md tells what each leaves in the log."""

Reach = Callable[[str], None]
"""Called at each point with its name; does nothing, or ends the process."""

ENVIRONMENT: Final = "HOCKET_CRASH_AT"
"""`after append` or `after append:3`: die by SIGKILL when that point is reached, or the third time it is."""


def pass_by(point: str) -> None:
    """Reach a point and live on."""


def from_environment() -> Reach:
    """What the environment asks for: normally to pass by."""
    wanted = os.environ.get(ENVIRONMENT)
    if not wanted:
        return pass_by
    name, _, count = wanted.partition(":")
    assert name in POINTS, f"{ENVIRONMENT} names no crash point: {name!r}"
    left = int(count or 1)

    def reach(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reach
