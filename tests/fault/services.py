"""Services that the tests write, run and kill as processes, the command line beside them, and the coordinator."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from hocket.agent import Agent
from hocket.cli import main
from hocket.client import Bus, connect
from hocket.host.loader import load, package_of
from hocket.host.nursery import Nursery
from hocket.host.restarts import Restarts
from hocket.host.supervisor import Fleet
from hocket.observe.history import Remembered, history
from hocket.policy import Limits
from hocket.saga.record import COORDINATOR, Record

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


async def hocket(*arguments: str) -> tuple[int, Any]:
    """The command line, on a loop of its own: its exit code, and what it says as JSON."""

    def run() -> tuple[int, Any]:
        with redirect_stdout(StringIO()) as said:
            code = main.run([*arguments, "--json"])
        return code, json.loads(said.getvalue())

    return await asyncio.to_thread(run)


async def until(met: Callable[[], bool]) -> None:
    """Wait for something in another process."""
    async with asyncio.timeout(60):
        while not met():  # noqa: ASYNC110 - nobody tells us of what happens there
            await asyncio.sleep(0.02)


def coordinator(limits: Limits | None = None) -> Agent[Record]:
    """The coordinator as a process that starts now has it: it knows the sagas that are declared by now."""
    folder = Path(__file__).parents[2] / "services" / COORDINATOR
    sys.modules.pop(f"{package_of(folder)}.agent", None)  # else it would know those of when it was loaded first
    [agent] = load(folder).agents
    agent.limits = limits or agent.limits
    return agent
