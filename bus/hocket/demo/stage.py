"""Where a demo plays: a server of its own, the crew at work on it, and a bus to speak with them."""

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hocket.beside import beside
from hocket.client import Bus, connect
from hocket.host import manifest
from hocket.host.nursery import AVAILABLE, Nursery
from hocket.host.place import RUN_FILE, Running, forget_running
from hocket.host.restarts import Restarts
from hocket.host.supervisor import Change, Fleet
from hocket.log.server import EmbeddedServer

LOG_BYTES_MAX = 128_000_000
"""A demo that finds more than this from earlier ones begins with an empty log."""

READY_S = 60.0
"""How long the crew may take to come to work; it takes about two seconds."""

PUBLISHER = "demo"
"""Whose event the request is, and from whom the decision comes."""

OUTPUT_NAME = "services.log"

_STORE = "jetstream"
_OURS = "begun-by-a-demo"


@dataclass(frozen=True, slots=True)
class Stage:
    """A crew at work."""

    server: EmbeddedServer
    fleet: Fleet
    bus: Bus
    consumes: Mapping[str, frozenset[str]]
    """The event types that each agent handles, as its heartbeats say."""

    services: Mapping[str, str]
    """Of each agent, the service that it lives in."""

    listeners: list[Callable[[Change], None]]
    """Who is told when a process comes or goes."""


@asynccontextmanager
async def set_up(
    home: Path,
    folders: Sequence[Path],
    *,
    restarts: Restarts | None = None,
) -> AsyncIterator[Stage]:
    """A server with its log in `home` and a crew at work, for as long as the block lasts.

    What the services print goes to `services.log` in `home`; by `run.json` other commands find the server.
    Raises Unavailable when another demo plays in `home`, and NotReady when a service does not come to work.
    """
    listeners: list[Callable[[Change], None]] = []

    def tell(change: Change) -> None:
        for listener in listeners:
            listener(change)

    async with AsyncExitStack() as stack:
        # First of all, since it is busy with its imports for longer than all else takes.
        nursery = await stack.enter_async_context(Nursery()) if AVAILABLE else None
        server = await stack.enter_async_context(EmbeddedServer(home))
        await stack.enter_async_context(beside(server.supervise()))
        output = home / OUTPUT_NAME
        output.unlink(missing_ok=True)
        fleet = Fleet(folders, url=server.url, restarts=restarts, output=output, nursery=nursery, tell=tell)
        async with fleet, connect(server.url, publisher=PUBLISHER) as bus:
            await fleet.ready(READY_S)
            run_file = home / RUN_FILE.name
            _running(home, folders, server, fleet).write(run_file)
            try:
                yield Stage(server, fleet, bus, _consumes(fleet), _services(folders), listeners)
            finally:
                forget_running(os.getpid(), run_file)


def make_room(home: Path) -> int:
    """Remove the log of earlier demos when it has outgrown its bound; return how many bytes that frees.

    A log that is in use, or that no demo has begun, is left alone.
    """
    home.mkdir(parents=True, exist_ok=True)
    store, ours = home / _STORE, home / _OURS
    if not store.exists():
        ours.touch()
        return 0
    size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    if size <= LOG_BYTES_MAX or not ours.exists():
        return 0
    with (home / "lock").open("a") as lock:  # the server's own
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        shutil.rmtree(store)
    return size


def _running(home: Path, folders: Sequence[Path], server: EmbeddedServer, fleet: Fleet) -> Running:
    """What other commands have to know."""
    return Running(
        pid=os.getpid(),
        nats=server.url,
        domain=fleet.place.domain,
        services_dir=str(folders[0].parent),
        ready=True,
        server=server.pid,
        data=str(home.resolve()),
        services=fleet.pids,
    )


def _consumes(fleet: Fleet) -> dict[str, frozenset[str]]:
    cards = fleet.health.table(asyncio.get_running_loop().time())
    return {card.agent: frozenset(card.consumes) for card in cards}


def _services(folders: Sequence[Path]) -> dict[str, str]:
    return {agent: folder.name for folder in folders for agent in manifest.read(folder).agents}


__all__ = ["LOG_BYTES_MAX", "OUTPUT_NAME", "Stage", "make_room", "set_up"]
