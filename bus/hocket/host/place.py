"""Where a system is: the address of its log, and the file by which other commands find it."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from hocket.errors import UsageError

DATA = Path(".hocket")
"""Where the embedded server keeps its log, unless told otherwise; below the working directory."""

RUN_FILE = DATA / "run.json"

CONFIG = "nats-server.conf"
"""What the embedded server writes beside its log at each start."""

TOGETHER = "all"
"""What the one process is called that hosts every service."""


@dataclass(frozen=True, slots=True)
class Place:
    """A log: a server, and a domain on it."""

    url: str
    """Several servers of a cluster are separated by commas."""

    domain: str = "hocket"
    shards: int | None = None
    """For streams that do not exist yet; None: as they are, or 1."""

    replicas: int | None = None
    """Likewise."""

    def to_environment(self) -> dict[str, str]:
        """The variables by which a child process gets it: a URL may hold a password, and arguments are public."""
        given = {"URL": self.url, "DOMAIN": self.domain, "SHARDS": self.shards, "REPLICAS": self.replicas}
        named = {f"HOCKET_{'NATS' if name == 'URL' else name}": value for name, value in given.items()}
        return {name: str(value) for name, value in named.items() if value is not None}


def from_environment(environment: Mapping[str, str] = os.environ, *, url: str | None = None) -> Place | None:
    """What HOCKET_NATS, HOCKET_DOMAIN, HOCKET_SHARDS and HOCKET_REPLICAS say; None without a URL.

    Raises UsageError when a number is none.
    """
    url = url or environment.get("HOCKET_NATS")
    if not url:
        return None
    return Place(
        url,
        environment.get("HOCKET_DOMAIN") or "hocket",
        _number(environment, "HOCKET_SHARDS"),
        _number(environment, "HOCKET_REPLICAS"),
    )


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"{name} is {text!r}, wants a number from 1 on")
    return int(text)


@dataclass(frozen=True, slots=True)
class Running:
    """What `hocket up` writes down so that other commands in the same directory find it."""

    pid: int
    """Of `hocket up` itself."""

    nats: str
    """Empty until the server is up."""

    domain: str
    services_dir: str
    ready: bool = False
    """Whether every service has come up, or has failed for good."""

    server: int | None = None
    """The embedded server's process; None: the server is somebody else's."""

    data: str | None = None
    """Where the embedded server keeps its log."""

    services: dict[str, int] = field(default_factory=dict)
    """Process ids by service."""

    failed: list[str] = field(default_factory=list)
    """Services that were given up."""

    def write(self, file: Path = RUN_FILE) -> None:
        """Replace the file in one go, readable for nobody else: the URL may hold a password."""
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{self.pid}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2))
        draft.replace(file)


def find_running(file: Path = RUN_FILE) -> Running | None:
    """The system that runs from this directory; None when the file is missing, or whoever wrote it is gone."""
    try:
        running = Running(**orjson.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return running if is_alive(running.pid) else None


def running_here(data: Path = DATA) -> Running | None:
    """The system that runs from this directory: that of `hocket up`, else one with a folder below, such as a demo."""
    files = [data / RUN_FILE.name, *sorted(data.glob(f"*/{RUN_FILE.name}"))]
    return next((running for file in files if (running := find_running(file)) is not None), None)


def log_left_here(data: Path = DATA) -> Path | None:
    """Where an embedded server has kept its log, there or in a folder below: that of the last start; or None."""
    configs = [path for path in (data / CONFIG, *data.glob(f"*/{CONFIG}")) if path.is_file()]
    return max((path.parent for path in configs), key=lambda folder: (folder / CONFIG).stat().st_mtime, default=None)


def forget_running(pid: int, file: Path = RUN_FILE) -> None:
    """Remove the file, if it is still this process's."""
    running = find_running(file)
    if running is not None and running.pid == pid:
        with suppress(FileNotFoundError):
            file.unlink()


def is_alive(pid: int) -> bool:
    """Whether a process exists, whosever it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


__all__ = [
    "CONFIG",
    "DATA",
    "RUN_FILE",
    "TOGETHER",
    "Place",
    "Running",
    "find_running",
    "forget_running",
    "from_environment",
    "is_alive",
]
