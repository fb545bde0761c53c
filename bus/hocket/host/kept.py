"""One service that is kept running: what is known of its process, and when it has to be ended."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hocket.errors import BadManifest
from hocket.host import manifest
from hocket.host.changes import Reason, text_of
from hocket.host.health import blocked_by
from hocket.host.line import HostEnd
from hocket.host.manifest import Manifest
from hocket.host.memory import resident_bytes
from hocket.host.nursery import Nursling
from hocket.host.printed import Printed
from hocket.host.restarts import Restarts

State = Literal["starting", "running", "blocked", "stopping", "restarting", "failed"]

LOOK_S = 1.0
"""How often a service is looked at."""

BLOCKED_LOOKS = 5
"""So many looks without a beat of its loop, and a process is called blocked."""


@dataclass(slots=True, eq=False)
class Kept:
    """One service, from its first process to its last."""

    name: str
    """Of the service's folder; of a further instance with its number: `writer.2`."""

    folders: tuple[Path, ...]
    instance: str
    """The same for every process of the service: the next one knows that the claim of the last is free."""

    default: Restarts
    """The policy of a service whose manifest has none."""

    agents: list[str] = field(default_factory=list)
    """Whom it should bring up, as its manifests say."""

    restarts: Restarts = field(default_factory=Restarts)
    memory_max_bytes: int | None = None
    files: object = None
    """What its files looked like when it was started."""

    process: Process | Nursling | None = None
    line: HostEnd | None = None
    printed: Printed | None = None
    """Of the newest process."""

    last_pid: int | None = None
    """Of the newest process, also when it has ended."""

    began: bool = False
    dying: bool = False
    """Whether we have killed its process, which may not know it yet."""

    ending: Reason | None = None
    """Why we have asked its process to end, if we have."""

    kill_at_s: float | None = None
    """When its process is killed unless it has ended, by the loop's clock."""

    failed: bool = False
    leaving: bool = False
    ends_s: list[float] = field(default_factory=list)
    restarted: int = 0
    """How often it was started again, all in all."""

    failures: int = 0
    failure: str | None = None
    """The id of the event that says that it has failed, until one says that it was restored."""

    trying: str | None = None
    """The id of an event that its process tries again: it may end the process, or one that is tried beside it."""

    why: str = ""
    """What is the matter, or was at last."""

    memory_bytes: int | None = None
    state: State = "starting"
    since: str = ""
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    _beats: int = 0
    _still: int = 0
    """For how many looks its loop has not turned."""

    @property
    def pid(self) -> int | None:
        """Of its process, if there is one that is to live."""
        return self.process.pid if self.process is not None and not self.dying else None

    def answers_to(self, service: str) -> bool:
        """Whether that is its name, or the name of a folder of its."""
        return service == self.name or service in [folder.name for folder in self.folders]

    def look(self) -> None:
        """Take note of its files before they are loaded."""
        self.files = looks(self.folders)
        declared = [_manifest_of(folder) for folder in self.folders]
        self.agents = [agent for each in declared for agent in each.agents]
        own = declared[0].restarts if len(declared) == 1 else None
        self.restarts = own or self.default
        self.memory_max_bytes = manifest.cap_of(declared)

    def begin(self, process: Process | Nursling, line: HostEnd, printed: Printed) -> None:
        """Its process is there."""
        self.process, self.line, self.printed = process, line, printed
        self.last_pid = process.pid
        self.restarted += self.began
        self.began, self.dying, self.ending, self.kill_at_s = True, False, None, None
        self._beats = self._still = 0
        self.trying = None

    def measure(self) -> None:
        """Look at its process: how much it holds, and whether its loop has turned."""
        if self.process is None or self.line is None:
            self.memory_bytes, self._still = None, 0
            return
        self.memory_bytes = resident_bytes(self.process.pid)
        beats = self.line.beats
        # Looks are counted: whoever was stopped together with us has missed none. Before its first beat it imports.
        self._still = self._still + 1 if beats and beats == self._beats else 0
        self._beats = beats

    def trouble(self) -> Reason | None:
        """Why its process has to end now; None: it need not."""
        if self.process is None or self.ending is not None or self.dying:
            return None
        if self.restarts.blocked_s and self._still * LOOK_S >= self.restarts.blocked_s:
            return "blocked"
        if self.memory_max_bytes and self.memory_bytes and self.memory_bytes > self.memory_max_bytes:
            return "memory"
        return None

    def state_now(self, *, works: bool) -> State:
        """How it stands; `works`: all its agents are heard."""
        if self.failed:
            return "failed"
        if self.leaving or self.ending is not None:
            return "stopping"
        if self.process is None:
            return "restarting"
        if self._still >= BLOCKED_LOOKS:
            return "blocked"
        return "running" if works else "starting"

    def ask(self, reason: Reason, kill_at_s: float) -> None:
        """Ask its process to end in good order. Only once: it takes a second request for an order."""
        if self.process is not None and self.ending is None and not self.leaving:
            self.ending, self.kill_at_s = reason, kill_at_s
            with suppress(ProcessLookupError):
                self.process.terminate()

    def kill(self, reason: Reason | None = None) -> None:
        """End its process here and now."""
        if self.process is not None:
            self.ending = self.ending or reason
            self.dying = True
            with suppress(ProcessLookupError):
                self.process.kill()

    def leave(self) -> None:
        """Keep it no longer: what runs is asked to stop in good order."""
        self.leaving = True
        self.woken.set()
        if self.process is not None and self.ending is None:
            with suppress(ProcessLookupError):
                self.process.terminate()

    def hear(self, fields: dict[str, Any]) -> None:
        """Its process says something on the line, which its own code could have said as well."""
        if "trying" in fields:
            self.trying = fields["trying"]
            return
        with suppress(KeyError, TypeError, ValueError):
            self.why = f"its event loop is blocked by {blocked_by(fields['blocked'])}"

    def ended(self, code: int, now_s: float) -> Reason:
        """Its process has ended; return why."""
        reason = self.ending or "ended"
        self.process, self.ending, self.kill_at_s = None, None, None
        if reason == "asked":
            self.ends_s.clear()
            self.why = "a person asked for a new process"
            return reason
        blocked = self.why if reason == "blocked" and self.why.startswith("its event loop") else ""
        self.why = f"ended with {text_of(code, reason)}" + (f": {blocked}" if blocked else "")
        if self.trying is not None:
            # The event is given up after so many attempts, and that is bound enough: this is no fault of the service.
            self.why += f", while it tried event {self.trying} again"
            return reason
        self.ends_s = [end_s for end_s in self.ends_s if end_s > now_s - self.restarts.window_s] + [now_s]
        return reason


def looks(folders: Sequence[Path]) -> object:
    """What a service's files look like: equal as long as nobody has touched them."""
    found = []
    for folder in folders:
        for path in sorted([*folder.glob("*.py"), folder / manifest.FILE]):
            with suppress(OSError):
                found.append((path.name, path.stat().st_mtime_ns, path.stat().st_size))
    return found


def _manifest_of(folder: Path) -> Manifest:
    """What a service says of itself; one whose manifest cannot be read is missed under its own name."""
    try:
        return manifest.read(folder)
    except BadManifest:
        return Manifest(folder.name, agents=(folder.name,))


__all__ = ["LOOK_S", "Kept", "State", "looks"]
