"""Facts about effects that can be undone: what was done, what is to be undone, and how that went."""

from typing import Any, Literal

from pydantic import Field

from hocket_schemas.event import Event


class EffectDone(Event, type="hocket.effect.done.v1"):
    """An effect happened that its saga has to know of. In the log with its outcome, in one append."""

    effect: str
    """Its name."""

    effect_key: str
    """Its idempotency key: the same for whatever is said of this effect."""

    agent: str
    """Who did it, and can undo it."""

    arguments: Any
    """What it was called with: a list, and an object by name. What is large is an object that names it."""

    result: Any = None
    """The real outcome."""

    large: bool = False
    """Whether `result` only names it: by digest, size and number of pieces."""

    undoable: bool = True
    pivot: bool = False
    """After it the saga can only go forward."""


class UndoRequested(Event, type="hocket.undo.requested.v1"):
    """An aborted saga wants an effect undone. Travels as a command to the agent that did it."""

    effect: str
    effect_key: str
    arguments: Any
    result: Any = None
    large: bool = False
    unknown: bool = False
    """Whether it is not known that it happened: then that is found out first."""

    attempt: int = Field(default=1, ge=1)
    """Which request it is: a person may have one made again."""


class UndoAwaited(Event, type="hocket.undo.awaited.v1"):
    """Undos have been requested that nobody may answer. Travels as a command of the coordinator to itself."""

    due_s: float
    """When to look again, in seconds since the Unix epoch."""


class EffectUndone(Event, type="hocket.effect.undone.v1"):
    """An effect is undone, or turned out never to have happened."""

    effect: str
    effect_key: str
    agent: str
    happened: bool = True
    """Whether there was anything to undo."""


class UndoFailed(Event, type="hocket.undo.failed.v1"):
    """An effect could not be undone; a person decides."""

    effect: str
    effect_key: str
    agent: str
    error: str


class UndoDecided(Event, type="hocket.undo.decided.v1"):
    """A person decided about an undo that keeps failing. Travels as a command to the coordinator."""

    effect_key: str | None = None
    """None: all of the saga's that failed."""

    decision: Literal["retry", "skip", "resolve"]
    """Ask for it again; leave it done; or it was undone by hand."""

    by: str
    reason: str = ""
