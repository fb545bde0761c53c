"""The service that `hocket new` begins: it greets, runs as it is, and is meant to be changed."""

import keyword
import re
from pathlib import Path

from hocket.errors import UsageError
from hocket.host.manifest import CODE, FILE

TEST = "test_agent.py"

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_AGENT = '''"""Greets whoever asks for it."""

from hocket import Agent, Event


class {Class}Asked(Event, type="{asked}"):
    """Somebody wants a greeting."""

    name: str


class {Class}Answered(Event, type="{answered}"):
    """Somebody was greeted."""

    text: str


{variable} = Agent("{name}")


@{variable}.on({Class}Asked)
async def answer(event: {Class}Asked) -> {Class}Answered:
    """Answer a question; what is returned is published together with the fact that the question is done."""
    return {Class}Answered(text=f"Hello, {{event.name}}!")
'''

_MANIFEST = """name = "{name}"
version = "1"
about = "Greets whoever asks for it."
consumes = ["{asked}"]
outside = ["{asked}"]
emits = ["{answered}"]
"""

_TEST = '''"""What {name} promises, tried on a log in memory: no server, no waiting."""

from pathlib import Path

from hocket.host.loader import load
from hocket.testing import Bed, run_virtual

service = load(Path(__file__).parent)
agent = service.module


def test_whoever_asks_is_greeted() -> None:
    async def story() -> None:
        async with Bed(*service.agents) as bed:
            await bed.publish(agent.{Class}Asked(name="Ada"))
            await bed.quiet()

            assert bed.events(agent.{Class}Answered) == [agent.{Class}Answered(text="Hello, Ada!")]

    run_virtual(story())
'''


def begin(services: Path, name: str) -> Path:
    """Make the folder of a new service. Raises UsageError for a bad name or a folder that is there already."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a service, wants lower-case letters, digits and dashes, such as 'my-agent'"
        )
    folder = services / name
    if folder.exists():
        raise UsageError(f"{folder} is there already")
    variable = name.replace("-", "_")
    names = {
        "name": name,
        "variable": f"{variable}_agent" if keyword.iskeyword(variable) else variable,
        "Class": "".join(part.capitalize() for part in name.split("-")),
        "asked": asked(name),
        "answered": answered(name),
    }
    folder.mkdir(parents=True)
    # The manifest comes last: a folder without one is no service yet, and a running system leaves it alone.
    for file, text in ((CODE, _AGENT), (TEST, _TEST), (FILE, _MANIFEST)):
        (folder / file).write_text(text.format_map(names), "utf-8")
    return folder


def asked(name: str) -> str:
    """The type that a new service consumes."""
    return f"{name}.asked.v1"


def answered(name: str) -> str:
    """The type that a new service emits."""
    return f"{name}.answered.v1"


__all__ = ["answered", "asked", "begin"]
