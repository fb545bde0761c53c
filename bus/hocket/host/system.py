"""A whole system in one go: a server unless there is one, the services, and the file by which others find it."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hocket.beside import beside
from hocket.errors import Unavailable, UsageError
from hocket.host.place import DATA, RUN_FILE, Place, Running, find_running, forget_running, from_environment
from hocket.host.supervisor import Change, Fleet
from hocket.log.server import EmbeddedServer
from hocket.telemetry import note

SERVER_LOOK_S = 0.5
"""How often the embedded server's process is looked at, only to say that it is another one."""

WRITE_AGAIN_S = 2.0
"""When the file is tried again if it could not be written."""


@dataclass(frozen=True, slots=True)
class ServerStarted:
    """The embedded server is there, or there again."""

    url: str
    pid: int
    again: bool


@asynccontextmanager
async def system(
    services: Path,
    *,
    place: Place | None = None,
    data: Path = DATA,
    together: bool = False,
    output: Path | None = None,
    run_file: Path = RUN_FILE,
    tell: Callable[[Change | ServerStarted], None] = lambda change: None,
) -> AsyncIterator[Fleet]:
    """Run a directory of services for as long as the block lasts.

    Without a `place` a server of its own is started, with its log in `data`, and started again when it dies.
    Raises UsageError when a system runs from here already, and Unavailable when the server cannot be had, or
    dies again and again.
    """
    other = find_running(run_file)
    if other is not None:
        raise UsageError(f"a system runs from here already, as process {other.pid}")
    try:
        Running(os.getpid(), "", "hocket", _absolute(services)).write(run_file)
    except OSError as error:
        raise Unavailable(f"nothing can be started here: {run_file} cannot be written: {error.strerror}") from error
    async with AsyncExitStack() as stack:
        stack.callback(forget_running, os.getpid(), run_file)
        server = None
        if place is None:
            server = await stack.enter_async_context(EmbeddedServer(data))
            place = from_environment(url=server.url)
            assert place is not None
            tell(ServerStarted(server.url, server.pid, again=False))
            await stack.enter_async_context(beside(_follow_server(server, tell)))
        fleet = Fleet(
            services,
            url=place.url,
            domain=place.domain,
            shards=place.shards,
            replicas=place.replicas,
            together=together,
            output=output,
            tell=tell,
        )
        await stack.enter_async_context(fleet)
        await stack.enter_async_context(beside(_write_down(fleet, server, services, data, run_file)))
        yield fleet


async def _follow_server(server: EmbeddedServer, tell: Callable[[ServerStarted], None]) -> None:
    """Keep the server running, and say when it is another process."""
    async with beside(server.supervise()):
        pid = server.pid
        while True:
            await asyncio.sleep(SERVER_LOOK_S)
            if server.pid != pid:
                pid = server.pid
                tell(ServerStarted(server.url, pid, again=True))


async def _write_down(fleet: Fleet, server: EmbeddedServer | None, services: Path, data: Path, run_file: Path) -> None:
    """Keep the file true: who runs, and whether all are at work."""
    written = None
    while True:
        running = Running(
            pid=os.getpid(),
            nats=fleet.place.url,
            domain=fleet.place.domain,
            services_dir=_absolute(services),
            ready=not fleet.missing(),
            server=server.pid if server else None,
            data=_absolute(data) if server else None,
            services=fleet.pids,
            failed=fleet.failed,
        )
        fleet.changed.clear()
        patience_s = None
        if running != written:
            try:
                running.write(run_file)
                written = running
            except OSError as error:  # a full disk is no reason to end what runs
                note(logging.WARNING, "not written down", file=str(run_file), why=error.strerror)
                patience_s = WRITE_AGAIN_S
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await fleet.changed.wait()


def _absolute(folder: Path) -> str:
    return str(folder.resolve())


__all__ = ["ServerStarted", "system"]
