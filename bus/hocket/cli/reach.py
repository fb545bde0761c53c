"""Which system a command talks to: the one that is named, the one that runs here, or the log that one left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.output import say
from hocket.client import Bus, open_bus
from hocket.errors import NothingRuns
from hocket.host import manifest
from hocket.host.place import TOGETHER, Place, Running, from_environment, log_left_here, running_here

Nats = Annotated[
    str | None,
    typer.Option("--nats", metavar="URL", help="The server; otherwise HOCKET_NATS, or the system that runs here."),
]
Domain = Annotated[
    str | None, typer.Option("--domain", help="The domain on the server; otherwise HOCKET_DOMAIN, or 'hocket'.")
]

LOOK_S = 0.1
WAIT_S = 10.0
"""How long a command waits for a system that may just be starting."""


def find_place(nats: str | None, domain: str | None) -> Place | None:
    """The system that is meant: the one named by option or environment, else the one that runs from here."""
    place = from_environment(url=nats)
    if place is None:
        running = running_here()
        if running is None or not running.nats:
            return None
        place = Place(running.nats, running.domain)
    return replace(place, domain=domain or place.domain)


def running_place(nats: str | None, domain: str | None) -> Place:
    """The same; raises NothingRuns when there is none."""
    place = find_place(nats, domain)
    if place is None:
        raise NothingRuns("no system runs from this directory, and no server is named")
    return place


async def coming_place(nats: str | None, domain: str | None, *, wait_s: float = WAIT_S) -> Place:
    """The same, waiting until a system that is being started here has all its services at work.

    An agent that is new begins with what comes after its first start, so it pays to wait for it. Whoever names
    a server is not made to wait.
    """
    place = from_environment(url=nats)
    if place is not None:
        return replace(place, domain=domain or place.domain)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    told = False
    while True:
        running = running_here()
        if running is not None and running.ready and not _unknown_to(running):
            break
        if loop.time() > began_s + wait_s:
            break
        if not told and loop.time() > began_s + 1:
            say("waiting for the system that starts here" if running else "waiting for `hocket up`")
            told = True
        await asyncio.sleep(LOOK_S)
    return running_place(nats, domain)


def _unknown_to(running: Running) -> bool:
    """Whether a folder has come that the running system has not seen yet; it looks once a second."""
    if TOGETHER in running.services:
        return False
    here = {folder.name for folder in manifest.services_in(Path(running.services_dir))}
    return not here <= {*running.services, *running.failed}


@asynccontextmanager
async def opened(place: Place, *, publisher: str = "cli") -> AsyncIterator[Bus]:
    """A bus on a system whose streams are there already; a command that looks makes none."""
    from hocket.log import jetstream  # here: most commands never talk to a server

    async with (
        jetstream.connect(place.url, domain=place.domain, name="cli", create=False) as logs,
        open_bus(logs, publisher=publisher) as bus,
    ):
        yield bus


@asynccontextmanager
async def reading(nats: str | None, domain: str | None) -> AsyncIterator[Bus]:
    """A bus to look into the log with. When nothing runs, the log that a system has left here is opened."""
    async with readable_place(nats, domain) as place, opened(place) as bus:
        yield bus


@asynccontextmanager
async def readable_place(nats: str | None, domain: str | None) -> AsyncIterator[Place]:
    """The system that is meant, or the log that one has left here, with a server for as long as it is read."""
    place = find_place(nats, domain)
    if place is not None:
        yield place
        return
    left = log_left_here()
    if left is None:
        raise NothingRuns("no system runs from this directory, it has left no log, and no server is named")
    from hocket.log.server import EmbeddedServer

    say(f"nothing runs here: reading the log in {left}")
    async with EmbeddedServer(left) as server:
        yield Place(server.url, domain or "hocket")


__all__ = ["Domain", "Nats", "coming_place", "find_place", "opened", "readable_place", "reading", "running_place"]
