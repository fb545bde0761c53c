"""Folders of small services for tests that host them, and how to talk to one."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from hocket.client import Bus
from hocket.host.changes import Change
from hocket.ids import fresh
from hocket_schemas.envelope import Envelope

CODE = """
from hocket.agent import Agent
from hocket_schemas.event import Event

from .words import GREETING


class Asked(Event, type="{name}.asked.v1"):
    whom: str


class Given(Event, type="{name}.given.v1"):
    text: str


agent = Agent("{name}")


@agent.on(Asked)
async def greet(event: Asked) -> Given:
    return Given(text=f"{GREETING}, {event.whom}!")
"""

TOML = """
name = "{name}"
consumes = ["{name}.asked.v1"]
emits = ["{name}.given.v1"]
"""


def make(directory: Path, name: str, *, code: str = CODE, top: str = "", more: str = "") -> Path:
    """A service that answers `name.asked.v1`; it appears in the directory in one go, as by a move.

    `top` and `more` go before and behind what its manifest says anyway.
    """
    draft = directory.parent / f"draft-{name}"
    draft.mkdir()
    (draft / "agent.py").write_text(code.replace("{name}", name))
    (draft / "agent.toml").write_text(top + TOML.replace("{name}", name) + more)
    (draft / "words.py").write_text(f"GREETING = 'Hello from {name}'\n")
    return draft.rename(directory / name)


async def ask(bus: Bus, name: str, whom: str) -> str:
    """Ask a service, and wait for its answer."""
    saga = fresh()
    question = Envelope(
        id=fresh(), source="/test", type=f"{name}.asked.v1", data={"whom": whom}, partitionkey=saga, correlationid=saga
    )
    async with asyncio.timeout(20), bus.subscribe(f"{name}.given.v1", key=saga) as answers:
        await bus.publish_envelope(question)
        text: str = (await anext(answers)).envelope.data["text"]
        return text


class Seen:
    """The changes of a fleet, and when each came, for a test to wait for."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.at_s: list[float] = []
        """By the running loop's clock."""

        self._more = asyncio.Event()

    def __call__(self, change: Change) -> None:
        self.changes.append(change)
        self.at_s.append(asyncio.get_running_loop().time())
        self._more.set()

    async def until(self, met: Callable[[Change], bool]) -> Change:
        """The first change of this kind, there already or to come."""
        async with asyncio.timeout(30):
            while True:
                for change in self.changes:
                    if met(change):
                        return change
                self._more.clear()
                await self._more.wait()
