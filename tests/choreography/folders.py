"""Folders of small services for tests that host them, and how to talk to one."""

import asyncio
from pathlib import Path

from hocket.client import Bus
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
