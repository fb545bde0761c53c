"""What is compared: a system, what it needs, and what is on the disk when it has answered."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from hocket.bench.compare.environment import Environment


@dataclass(frozen=True, slots=True)
class Started:
    """The servers of a system are up."""

    settings: Mapping[str, str]
    """What the program is told: where the servers are, where to keep data."""

    servers: tuple[int, ...] = ()
    """Their processes, for what they cost; those that they start count with them."""

    versions: Mapping[str, str] | None = None
    """Of the servers; the program tells those of its libraries."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a system finds what it needs, and where it keeps its data for as long as it is measured."""

    installed: Path
    """The folder of its environment."""

    data: Path
    """Empty, and on the same disk for every system."""

    postgres: Path | None
    """The folder with PostgreSQL's programs; None: look for them."""


@dataclass(frozen=True, slots=True)
class System:
    """One of those that are compared."""

    name: str
    """As the command line knows it."""

    title: str
    program: str
    """The file below `programs` that runs the saga; a script of the system's own environment."""

    on_disk: str
    """What has reached the disk when a step counts as done, as the system says it."""

    start: Callable[[Place], AbstractAsyncContextManager[Started]]
    """Starts its servers for as long as the block lasts. Raises LeftOut where they cannot be had."""

    environment: Environment | None = None
    """None: it runs in ours."""
