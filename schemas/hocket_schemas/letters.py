"""Facts about dead letters: what became of each, by whose hand and why."""

from typing import Any

from pydantic import Field

from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Event

LETTER = "hkletter"
"""The extension of an event that was sent again: the id of the dead letter that it was sent again for."""

GENERATION = "hkgeneration"
"""Beside it: how often the event has been sent again by now, counted from the one that nobody had sent again."""


def letter_of(envelope: Envelope) -> str:
    """The dead letter that an event was sent again for; empty: nobody had sent it again."""
    return str(envelope.extensions.get(LETTER) or "")


class DeadLetterRedriven(Event, type="hocket.letter.redriven.v1"):
    """Somebody had the event of a dead letter sent again, to the agent that could not handle it."""

    letter: str
    """The letter's id."""

    agent: str
    seq: int = Field(ge=1)
    """The place in the log of the event that the letter is about."""

    redriven_as: str
    """The id of the event that was sent in its place."""

    generation: int = Field(ge=1)
    edit: Any = None
    """What was changed in the data, as it was given; None: nothing."""

    by: str = Field(min_length=1)
    reason: str = ""


class DeadLetterDiscarded(Event, type="hocket.letter.discarded.v1"):
    """Somebody decided that nothing more is to come of a dead letter."""

    letter: str
    agent: str
    seq: int = Field(ge=1)
    by: str = Field(min_length=1)
    reason: str = Field(min_length=1)
