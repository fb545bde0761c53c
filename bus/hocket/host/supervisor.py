"""Keeps every service running as a process of its own: one falls, that one is started again, the others go on."""

import asyncio
import logging
import os
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from hocket.client import Bus, open_bus
from hocket.clock import SystemClock, rfc3339
from hocket.engine.owner import OWNER
from hocket.errors import BadManifest, LogError, NotReady
from hocket.host import health, manifest, roster
from hocket.host.changes import Change, Ended, Failed, Left, Owns, Reason, Restored, Started, signal_of, text_of
from hocket.host.failures import Announcements, failures_of
from hocket.host.health import Card
from hocket.host.kept import LOOK_S, Kept, looks
from hocket.host.launch import launch
from hocket.host.memory import MEASURED
from hocket.host.nursery import Nursery
from hocket.host.orders import obey
from hocket.host.place import TOGETHER, Place
from hocket.host.restarts import Restarts
from hocket.host.roster import Entry
from hocket.ids import fresh
from hocket.log import jetstream
from hocket.log.base import Log
from hocket.subjects import Names
from hocket.telemetry import note
from hocket_schemas.services import ServiceFailed, ServiceRestored

STOP_S = 15.0
"""How long the services have to end in good order, all together; then they are killed. Above `Limits.drain_s`."""

SAY_S = 2.0
"""How long the end waits for what is still to be said in the log."""


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
        self._host = socket.gethostname()
        self._clock = SystemClock()
        self._rng = random.Random()
        self._together = together
        self._environment = environment or {}
        self._output = output
        self._nursery = nursery
        self._listener = tell
        self._kept: dict[str, Kept] = {}
        self._logs: Sequence[Log] = ()
        self._announcements: Announcements
        self._stack = AsyncExitStack()
        self._tasks = asyncio.TaskGroup()
        self._looking: asyncio.Task[None] | None = None
        self._beside: list[asyncio.Task[None]] = []

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run, by service: the name of its folder, and `NAME.2` and so on for further instances."""
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
        kept.kill()
        return kept.process.pid

    def restart(self, service: str) -> None:
        """Give a service a new process: in good order if it has one, at once if it waits or was given up.

        That is no end that counts. Raises NotReady when no such service is kept.
        """
        meant = [kept for kept in self._kept.values() if kept.answers_to(service)]
        if not meant:
            raise NotReady(f"{service} is not kept here; {', '.join(self._kept) or 'nothing'} is")
        for kept in meant:
            if kept.process is None:
                kept.ends_s.clear()
                kept.woken.set()
            kept.ask("asked", asyncio.get_running_loop().time() + STOP_S)

    def abandon(self) -> None:
        """Kill what still runs: somebody does not want to wait for a stop in good order."""
        for kept in self._kept.values():
            kept.kill()

    def add(self, folder: Path) -> None:
        """Keep one more service running."""
        for name in _names_of(folder):
            self._keep(name, (folder,))

    def remove(self, service: str) -> None:
        """Stop one service in good order, and keep it no longer."""
        for kept in self._kept.values():
            if kept.answers_to(service):
                kept.leave()

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
            bus = await stack.enter_async_context(open_bus(self._logs, publisher="supervisor"))
            self._announcements = Announcements(bus)
            self.health = await stack.enter_async_context(health.listening(self._logs, changed=self._hear))
            stack.callback(self._unleash)
            await stack.enter_async_context(self._tasks)
            works = [self._announcements.run(), self._patrol(), self._tell_roster(), self._recall(bus)]
            works.append(obey(bus, self._host, self.restart))
            self._beside = [self._tasks.create_task(work) for work in works]
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
            kept.leave()
        try:
            try:
                async with asyncio.timeout(STOP_S):
                    while self._kept:
                        self.changed.clear()
                        await self.changed.wait()
            except TimeoutError:
                self.abandon()
            with suppress(TimeoutError):
                async with asyncio.timeout(SAY_S):
                    await self._announcements.said()
        finally:
            for task in self._beside:
                task.cancel()
            self._unleash()
            # Without the block's own error: the group would wrap it, and nobody could catch it by its name.
            await self._stack.aclose()

    def _take(self, folders: Sequence[Path]) -> None:
        """Keep exactly these folders running."""
        wanted: dict[str, tuple[Path, ...]] = {TOGETHER: tuple(folders)} if self._together and folders else {}
        for folder in folders if not self._together else ():
            known = [name for name, kept in self._kept.items() if kept.folders == (folder,)]
            wanted |= dict.fromkeys(known or _names_of(folder), (folder,))
        for name, kept in list(self._kept.items()):
            if wanted.get(name) != kept.folders:
                kept.leave()
        for name, places in wanted.items():
            self._keep(name, places)

    def _keep(self, name: str, folders: tuple[Path, ...]) -> None:
        if name not in self._kept:
            instance = f"{self._host}-{os.getpid()}-{name}-{fresh()[:6]}"
            kept = self._kept[name] = Kept(name, folders, instance, self._restarts, since=self._now())
            kept.look()
            self._tasks.create_task(self._run(kept))

    async def _look(self, directory: Path) -> None:
        """Follow what comes and goes in the services' directory, and what was mended."""
        while True:
            await asyncio.sleep(LOOK_S)
            self._take(manifest.services_in(directory))
            for kept in self._kept.values():
                if kept.failed and kept.files != looks(kept.folders):
                    kept.woken.set()

    async def _run(self, kept: Kept) -> None:
        """One service from its first process to its last."""
        while not kept.leaving:
            code = await self._live(kept)
            if not kept.leaving:
                await self._rest(kept, code)
        del self._kept[kept.name]
        self._tell(Left(kept.name))

    async def _live(self, kept: Kept) -> int:
        """One process of a service; return what it ended with."""
        kept.look()
        kept.failed = False
        if kept.memory_max_bytes and not MEASURED and not kept.began:
            note(logging.WARNING, "memory cap cannot be kept", service=kept.name, why="this system has no /proc")
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self.place.to_environment(), **self._environment}
        arguments = ["--leashed", "--instance", kept.instance, *map(str, kept.folders)]
        try:
            process, line, printed = await launch(
                kept.name, arguments, environment, output=self._output, nursery=self._nursery, heard=kept.hear
            )
        except OSError as error:  # out of processes, or of file descriptors: that is no reason for the others to end
            note(logging.ERROR, "cannot start a process", service=kept.name, why=str(error))
            return os.EX_OSERR
        try:
            again = kept.began
            kept.begin(process, line, printed)
            if kept.leaving:  # meanwhile
                process.terminate()
            self._tell(Started(kept.name, process.pid, again=again))
            code = await process.wait()
        finally:
            line.close()
        printed.drain()
        kept.process = None
        return code

    async def _rest(self, kept: Kept, code: int) -> None:
        """Wait before the next start, or until it is worth another try."""
        reason = kept.ended(code, asyncio.get_running_loop().time())
        if reason == "asked":
            self._tell(Ended(kept.name, code, 0.0, reason))
            return
        kept.woken.clear()
        wait_s = kept.restarts.wait_s(kept.ends_s, self._rng)
        if wait_s is None:
            self._give_up(kept, code, reason)
        else:
            self._tell(Ended(kept.name, code, wait_s, reason))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await kept.woken.wait()

    def _give_up(self, kept: Kept, code: int, reason: Reason) -> None:
        """Start it no more until a person sees to it, and let all know who depend on it."""
        ends = len(kept.ends_s)
        kept.ends_s.clear()
        kept.failed = True
        kept.failures += 1
        kept.failure = f"{kept.instance}-failed-{kept.failures}"
        printed = kept.printed.last if kept.printed else []
        kept.why += f", the last of {ends} ends within {kept.restarts.window_s:g} s"
        kept.why += f": {printed[-1]}" if printed and reason == "ended" else ""
        failed = ServiceFailed(
            service=kept.name,
            agents=kept.agents,
            host=self._host,
            pid=kept.last_pid,
            reason=reason,
            code=code if code >= 0 else None,
            signal=None if code >= 0 else signal_of(code) or str(-code),
            restarts=ends - 1,
            window_s=kept.restarts.window_s,
            printed=printed,
            at=self._now(),
        )
        self._announcements.say(failed, service=kept.name, saga=kept.failure, event_id=kept.failure)
        self._tell(Failed(kept.name, code, ends, reason))

    def _restore(self, kept: Kept, failure: str) -> None:
        """It works again."""
        restored = ServiceRestored(
            service=kept.name, agents=kept.agents, host=self._host, failure=failure, at=self._now()
        )
        self._announcements.say(restored, service=kept.name, saga=failure, event_id=f"{failure}-restored")
        kept.failure, kept.why = None, ""
        self._tell(Restored(kept.name))

    async def _patrol(self) -> None:
        """Look after each process: end the one that holds too much or whose loop stands still."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            now_s = loop.time()
            for kept in self._kept.values():
                kept.measure()
                reason = kept.trouble()
                if reason == "blocked":
                    kept.kill(reason)
                elif reason is not None:
                    kept.ask(reason, now_s + STOP_S)
                elif kept.kill_at_s is not None and now_s > kept.kill_at_s:
                    kept.kill()
                if kept.failure is not None and not kept.failed and self._works(kept, now_s):
                    self._restore(kept, kept.failure)

    async def _tell_roster(self) -> None:
        """Say each second how the services stand. Nobody may hear it: then it is told again soon."""
        log, pid = self._logs[0], os.getpid()
        subject = Names(log.domain, log.shard).roster(f"{self._host}-{pid}")
        while True:
            for kept in self._kept.values():
                state = kept.state_now(works=self._works(kept, asyncio.get_running_loop().time()))
                if state != kept.state:
                    kept.state, kept.since = state, self._now()
            body = roster.to_json(self._host, pid, self._now(), [_entry(kept) for kept in self._kept.values()])
            with suppress(LogError):
                await log.tell(subject, body)
            await asyncio.sleep(LOOK_S)

    async def _recall(self, bus: Bus) -> None:
        """Find what earlier supervisors of this host have given up, so that it is said when it works again."""
        for failure in await failures_of(bus, self._host):
            kept = self._kept.get(failure.event.service)
            if kept is not None and kept.failure is None:
                kept.failure = failure.id

    def _unleash(self) -> None:
        """Let go of every process that is left: the end of its line asks it to stop."""
        for kept in self._kept.values():
            if kept.line is not None:
                kept.line.close()

    def _hear(self, card: Card) -> None:
        """A heartbeat says something new."""
        for kept in self._kept.values():
            if card.role == OWNER and (card.instance, card.pid) == (kept.instance, kept.pid):
                self._tell(Owns(kept.name, card.agent, card.shard, card.pid))
        self.changed.set()

    def _works(self, kept: Kept, now_s: float) -> bool:
        """Whether its process is heard of for all its agents, as owner or beside one."""
        if kept.pid is None:
            return False
        heard = {
            (c.agent, c.shard) for c in self.health.fresh(now_s) if (c.instance, c.pid) == (kept.instance, kept.pid)
        }
        return all(
            (agent, log.shard) in heard and self._counts(kept, self.health.owner(agent, log.shard, now_s))
            for agent in kept.agents
            for log in self._logs
        )

    def _counts(self, kept: Kept, card: Card | None) -> bool:
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

    def _now(self) -> str:
        return rfc3339(self._clock.now_s())


def _names_of(folder: Path) -> list[str]:
    """What the processes of a service are called, of which its manifest says how many there are."""
    try:
        count = manifest.read(folder).instances
    except BadManifest:
        count = 1
    return [folder.name, *(f"{folder.name}.{n}" for n in range(2, count + 1))]


def _entry(kept: Kept) -> Entry:
    """What others may know of a service."""
    return Entry(
        service=kept.name,
        instance=kept.instance,
        agents=tuple(kept.agents),
        state=kept.state,
        since=kept.since,
        pid=kept.pid,
        restarts=kept.restarted,
        memory_bytes=kept.memory_bytes,
        memory_max_bytes=kept.memory_max_bytes,
        why=kept.why,
    )


__all__ = ["Change", "Ended", "Failed", "Fleet", "Left", "Owns", "Restored", "Started", "text_of"]
