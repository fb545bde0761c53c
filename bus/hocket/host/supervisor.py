"""Keeps every service running as a process of its own: one falls, that one is started again, the others go on."""

import asyncio
import logging
import os
import random
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from hocket.engine.owner import OWNER
from hocket.errors import BadManifest, NotReady
from hocket.host import health, manifest
from hocket.host.health import Card
from hocket.host.nursery import Nursery, Nursling
from hocket.host.place import TOGETHER, Place
from hocket.host.restarts import Restarts
from hocket.ids import fresh
from hocket.log import jetstream
from hocket.log.base import Log
from hocket.telemetry import note

STOP_S = 15.0
"""How long the services have to end in good order, all together; then they are killed. Above `Limits.drain_s`."""

LOOK_S = 1.0
"""How often the services' directory is looked at."""


@dataclass(frozen=True, slots=True)
class Started:
    """A service's process is there; it does not own anything yet."""

    service: str
    pid: int
    again: bool
    """Whether it had been there before."""


@dataclass(frozen=True, slots=True)
class Owns:
    """An agent of ours has become owner of a shard."""

    service: str
    agent: str
    shard: int
    pid: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A service's process is gone, and will be started again."""

    service: str
    code: int
    """What it ended with; negative: the signal that ended it."""

    wait_s: float
    """How long until then."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A service ended too often, and is given up until its files change."""

    service: str
    code: int
    ends: int


@dataclass(frozen=True, slots=True)
class Left:
    """A service was taken out; its process has ended."""

    service: str


Change = Started | Owns | Ended | Failed | Left


@dataclass(slots=True, eq=False)
class _Kept:
    """One service that is kept running."""

    name: str
    folders: tuple[Path, ...]
    instance: str
    """The same for every process of the service: the next one knows that the claim of the last is free."""

    agents: list[str] = field(default_factory=list)
    """Whom it should bring up, as its manifests say."""

    files: object = None
    """What its files looked like when it was started."""

    process: Process | Nursling | None = None
    began: bool = False
    dying: bool = False
    """Whether we have killed its process, which may not know it yet."""

    failed: bool = False
    leaving: bool = False
    ends_s: list[float] = field(default_factory=list)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int | None:
        """Of its process, if there is one that is to live."""
        return self.process.pid if self.process is not None and not self.dying else None

    def look(self) -> None:
        """Take note of its files before they are loaded."""
        self.files = _looks(self.folders)
        self.agents = [agent for folder in self.folders for agent in _agents_in(folder)]


class Fleet:
    """Services at work, each in a process of its own, for as long as the block lasts.

    ```python
    async with EmbeddedServer(None) as server, Fleet(Path("services"), url=server.url) as fleet:
        await fleet.ready(timeout_s=30)
        fleet.kill("writer")
        await fleet.ready(timeout_s=30)
    ```

    `services` is a directory of services, looked at each second: a folder that comes is started, one that goes
    is stopped, and one that was given up is tried again when its files change. Or it is a list of folders,
    then nothing is looked at. With `together` one process hosts them all.

    What the processes print goes to `output`, or where our own goes. A `nursery` starts them faster. `tell` is
    called with each change.
    """

    def __init__(
        self,
        services: Path | Sequence[Path],
        *,
        url: str,
        domain: str = "hocket",
        shards: int | None = None,
        replicas: int | None = None,
        restarts: Restarts | None = None,
        together: bool = False,
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
        nursery: Nursery | None = None,
        tell: Callable[[Change], None] = lambda change: None,
    ) -> None:
        self.place = Place(url, domain, shards, replicas)
        self.health = health.Health()
        """What the services' heartbeats say."""

        self.changed = asyncio.Event()
        """Set at each change; whoever waits on it clears it first."""

        self._directory = services if isinstance(services, Path) else None
        self._folders = [] if isinstance(services, Path) else [Path(folder) for folder in services]
        self._restarts = restarts or Restarts()
        self._rng = random.Random()
        self._together = together
        self._environment = environment or {}
        self._output = output
        self._nursery = nursery
        self._listener = tell
        self._kept: dict[str, _Kept] = {}
        self._logs: Sequence[Log] = ()
        self._leash = -1
        self._stack = AsyncExitStack()
        self._tasks = asyncio.TaskGroup()
        self._looking: asyncio.Task[None] | None = None

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run, by service (the name of its folder)."""
        return {name: kept.pid for name, kept in self._kept.items() if kept.pid is not None}

    @property
    def failed(self) -> list[str]:
        """The services that were given up."""
        return [name for name, kept in self._kept.items() if kept.failed]

    async def ready(self, timeout_s: float = 30.0) -> None:
        """Wait until every agent of every service is heard as owner of every shard.

        Raises NotReady, naming who is missing, after `timeout_s`, or as soon as a service is given up.
        """
        await self._until(lambda: bool(self.failed) or not self.missing(), timeout_s)
        if self.failed:
            raise NotReady(f"given up after too many ends: {', '.join(self.failed)}")

    async def settled(self, timeout_s: float = 30.0) -> None:
        """Wait until every service has come up or was given up. Raises NotReady."""
        await self._until(lambda: not self.missing(), timeout_s)

    def missing(self) -> list[str]:
        """What is not owned yet, such as `writer (shard 0)`; of services that were given up, nothing."""
        now_s = asyncio.get_running_loop().time()
        return [
            f"{agent} (shard {log.shard})"
            for kept in self._kept.values()
            if not kept.failed and not kept.leaving
            for agent in kept.agents
            for log in self._logs
            if not self._counts(kept, self.health.owner(agent, log.shard, now_s))
        ]

    def kill(self, service: str) -> int:
        """End a service's process by SIGKILL, as a crash would; return its id. It will be started again.

        Raises NotReady when it does not run at the moment.
        """
        kept = self._kept.get(service)
        if kept is None or kept.process is None or kept.process.returncode is not None:
            raise NotReady(f"{service} does not run; {', '.join(self.pids) or 'nothing'} does")
        kept.process.kill()
        kept.dying = True
        return kept.process.pid

    def abandon(self) -> None:
        """Kill what still runs: somebody does not want to wait for a stop in good order."""
        for kept in self._kept.values():
            if kept.process is not None:
                with suppress(ProcessLookupError):
                    kept.process.kill()

    def add(self, folder: Path) -> None:
        """Keep one more service running."""
        self._keep(folder.name, (folder,))

    def remove(self, service: str) -> None:
        """Stop one service in good order, and keep it no longer."""
        kept = self._kept.get(service)
        if kept is not None:
            self._let_go(kept)

    async def __aenter__(self) -> Self:
        """Start. Raises Unavailable, TopologyMismatch and the like when the log cannot be had."""
        async with AsyncExitStack() as stack:
            place = self.place
            self._logs = await stack.enter_async_context(
                jetstream.connect(
                    place.url,
                    domain=place.domain,
                    shards=place.shards,
                    replicas=place.replicas,
                    name="supervisor",
                )
            )
            self.health = await stack.enter_async_context(health.listening(self._logs, changed=self._hear))
            leash, self._leash = os.pipe()
            stack.callback(os.close, leash)
            stack.callback(self._unleash)
            self._leashes = leash
            await stack.enter_async_context(self._tasks)
            if self._directory is None:
                self._take(self._folders)
            else:
                self._take(manifest.services_in(self._directory))
                self._looking = self._tasks.create_task(self._look(self._directory))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all in good order; whatever has not ended after 15 s is killed."""
        if self._looking is not None:
            self._looking.cancel()
        for kept in list(self._kept.values()):
            self._let_go(kept)
        try:
            async with asyncio.timeout(STOP_S):
                while self._kept:
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            self.abandon()
        finally:
            self._unleash()
            # Without the block's own error: the group would wrap it, and nobody could catch it by its name.
            await self._stack.aclose()

    def _take(self, folders: Sequence[Path]) -> None:
        """Keep exactly these folders running."""
        wanted: dict[str, tuple[Path, ...]] = {folder.name: (folder,) for folder in folders}
        if self._together and wanted:
            wanted = {TOGETHER: tuple(folders)}
        for name, kept in list(self._kept.items()):
            if wanted.get(name) != kept.folders:
                self._let_go(kept)
        for name, places in wanted.items():
            self._keep(name, places)

    def _keep(self, name: str, folders: tuple[Path, ...]) -> None:
        if name not in self._kept:
            instance = f"{socket.gethostname()}-{os.getpid()}-{name}-{fresh()[:6]}"
            kept = self._kept[name] = _Kept(name, folders, instance)
            kept.look()
            self._tasks.create_task(self._run(kept))

    def _let_go(self, kept: _Kept) -> None:
        kept.leaving = True
        kept.woken.set()
        if kept.process is not None:
            with suppress(ProcessLookupError):
                kept.process.terminate()

    async def _look(self, directory: Path) -> None:
        """Follow what comes and goes in the services' directory, and what was mended."""
        while True:
            await asyncio.sleep(LOOK_S)
            self._take(manifest.services_in(directory))
            for kept in self._kept.values():
                if kept.failed and kept.files != _looks(kept.folders):
                    kept.woken.set()

    async def _run(self, kept: _Kept) -> None:
        """One service from its first process to its last."""
        while not kept.leaving:
            code = await self._live(kept)
            if not kept.leaving:
                await self._rest(kept, code)
        del self._kept[kept.name]
        self._tell(Left(kept.name))

    async def _live(self, kept: _Kept) -> int:
        """One process of a service; return what it ended with."""
        kept.look()
        kept.failed = False
        try:
            process = await self._spawn(kept)
        except OSError as error:  # out of processes, or of file descriptors: that is no reason for the others to end
            note(logging.ERROR, "cannot start a process", service=kept.name, why=str(error))
            return os.EX_OSERR
        kept.process, kept.dying = process, False
        if kept.leaving:  # meanwhile
            process.terminate()
        self._tell(Started(kept.name, process.pid, again=kept.began))
        kept.began = True
        code = await process.wait()
        kept.process = None
        return code

    async def _rest(self, kept: _Kept, code: int) -> None:
        """Wait before the next start, or until it is worth another try."""
        kept.ends_s.append(asyncio.get_running_loop().time())
        wait_s = self._restarts.wait_s(kept.ends_s, self._rng)
        kept.woken.clear()
        if wait_s is None:
            kept.failed = True
            self._tell(Failed(kept.name, code, len(kept.ends_s)))
            kept.ends_s.clear()
        else:
            self._tell(Ended(kept.name, code, wait_s))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await kept.woken.wait()

    async def _spawn(self, kept: _Kept) -> Process | Nursling:
        """Start a service's process. It dies with us: its standard input is a pipe that only we hold open."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self.place.to_environment(), **self._environment}
        arguments = ["--leashed", "--instance", kept.instance, *map(str, kept.folders)]
        output = self._output.open("ab") if self._output else None
        try:
            if self._nursery is not None and self._nursery.open:
                descriptor = output.fileno() if output else sys.stderr.fileno()
                return await self._nursery.start(
                    kept.name, arguments, environment, stdin=self._leashes, output=descriptor
                )
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "hocket.host.child", *arguments),
                env=environment,
                stdin=self._leashes,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is ours: we ask the services to stop, once
            )
        finally:
            if output:
                output.close()

    def _unleash(self) -> None:
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1

    def _hear(self, card: Card) -> None:
        """A heartbeat says something new."""
        for kept in self._kept.values():
            if card.role == OWNER and (card.instance, card.pid) == (kept.instance, kept.pid):
                self._tell(Owns(kept.name, card.agent, card.shard, card.pid))
        self.changed.set()

    def _counts(self, kept: _Kept, card: Card | None) -> bool:
        """Whether an owner's card is of now: of our own instance only the process that runs counts."""
        return card is not None and (card.instance != kept.instance or card.pid == kept.pid)

    async def _until(self, met: Callable[[], bool], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not met():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise NotReady(f"without an owner after {timeout_s:g} s: {', '.join(self.missing())}") from None

    def _tell(self, change: Change) -> None:
        self._listener(change)
        self.changed.set()


def _agents_in(folder: Path) -> tuple[str, ...]:
    """Whom a service says that it brings up; one whose manifest cannot be read is missed under its own name."""
    try:
        return manifest.read(folder).agents
    except BadManifest:
        return (folder.name,)


def _looks(folders: Sequence[Path]) -> object:
    """What a service's files look like: equal as long as nobody has touched them."""
    found = []
    for folder in folders:
        for path in sorted([*folder.glob("*.py"), folder / manifest.FILE]):
            with suppress(OSError):
                found.append((path.name, path.stat().st_mtime_ns, path.stat().st_size))
    return found


def text_of(code: int) -> str:
    """An exit code in words: a negative one is the signal that ended the process."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


__all__ = ["Change", "Ended", "Failed", "Fleet", "Left", "Owns", "Started", "text_of"]
