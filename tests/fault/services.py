"""Services that the tests write, run and kill as processes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hocket.client import Bus, connect
from hocket.host.nursery import Nursery
from hocket.host.restarts import Restarts
from hocket.host.supervisor import Fleet
from hocket.observe.history import Remembered, history

AT_ONCE = Restarts(restarts_max=1000, second_s=0.0)
"""For services that are killed all the time."""


def written(folder: Path, code: str, manifest: str) -> Path:
    """A service's folder."""
    folder.mkdir()
    (folder / "agent.py").write_text(code)
    (folder / "agent.toml").write_text(manifest)
    return folder


@asynccontextmanager
async def hosted(service: Path, url: str, domain: str, **options: Any) -> AsyncIterator[tuple[Fleet, Bus]]:
    """A service as a process that is there, and comes back at once when it is killed; and a bus to talk to it."""
    async with (
        Nursery() as nursery,
        Fleet([service], url=url, domain=domain, restarts=AT_ONCE, nursery=nursery, **options) as fleet,
        connect(url, domain=domain) as bus,
    ):
        await fleet.ready(30)
        yield fleet, bus


async def journal(bus: Bus, key: str) -> list[Remembered]:
    """What the runs of a key remember."""
    return [entry for entry in await history(bus, key) if isinstance(entry, Remembered)]
