"""Facts about what agents know: what one remembers, what takes its place, who doubts it, and what was forgotten.

Who states them is the agent in the event's subject and source, which permissions can hold it to.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hocket_schemas.event import Event

Scope = Literal["crew", "agent", "subject"]
"""Who recalls it: `crew`: everybody. `agent`: its author alone. `subject`: whoever asks about its subject by name."""


class Statement(Event):
    """What is known, by whatever it came to be known."""

    text: str = Field(min_length=1)
    """One sentence or a few; this is what is searched."""

    about: str = ""
    """The subject: the person or the thing that it is about, as an id that stays. Forgetting goes by it."""

    kind: str = "fact"
    """A word of your own, such as `fact`, `preference` or `lesson`."""

    scope: Scope = "crew"
    confidence: float = Field(default=1.0, ge=0, le=1)
    """How sure its author is: 1 is certain."""

    sources: list[str] = Field(default_factory=list)
    """The ids of the events that it was learned from."""

    @model_validator(mode="after")
    def _names_its_subject(self) -> Self:
        if self.scope == "subject" and not self.about:
            raise ValueError("what only its subject's name brings back has to say what it is about")
        return self


class Remembered(Statement, type="hocket.memory.remembered.v1"):
    """An agent has learned something that is to be known later. Its id is the fact's."""


class Superseded(Statement, type="hocket.memory.superseded.v1"):
    """Something newer takes the place of a fact, and is a fact itself. Its id is the new fact's."""

    fact: str = Field(min_length=1)
    """The id of the fact that is no longer so."""


class Disputed(Event, type="hocket.memory.disputed.v1"):
    """An agent has its doubts about a fact, which stays."""

    fact: str = Field(min_length=1)
    reason: str
    confidence: float = Field(default=1.0, ge=0, le=1)
    """How sure whoever doubts is."""

    sources: list[str] = Field(default_factory=list)


class Retracted(Event, type="hocket.memory.retracted.v1"):
    """A fact was none, and nothing takes its place."""

    fact: str = Field(min_length=1)
    reason: str = ""
    sources: list[str] = Field(default_factory=list)


class Erased(BaseModel):
    """One event that was overwritten."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    digest: str
    """SHA-256 of the message as it was stored, in hexadecimal."""


class Forgotten(Event, type="hocket.memory.forgotten.v1"):
    """All that agents remembered about a subject was overwritten. In the same append as the overwriting."""

    subject: str
    """SHA-256 of the subject's name, in hexadecimal: whoever knows the name finds this."""

    by: str
    reason: str = ""
    erased: list[Erased] = Field(min_length=1)


class Summarised(Event, type="hocket.memory.summarised.v1"):
    """A summary takes the place of some of what was said under its key."""

    text: str = Field(min_length=1)
    of: list[str] = Field(min_length=1)
    """The ids of the events that it stands for; earlier summaries among them."""
