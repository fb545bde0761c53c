"""Facts about work that somebody wants no more: who asked for its end, and how far it had come."""

from datetime import timedelta
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hocket_schemas.event import Event

CANCEL_KEPT = timedelta(days=90)
"""How long the log keeps a request, and for so long a cancelled saga stays cancelled."""


class CancelRequested(Event, type="hocket.cancel.requested.v1", retention=CANCEL_KEPT):
    """Somebody wants a saga, a key or a single run to end: exactly one of the three. Every agent hears it.

    A saga stays cancelled: what comes later of it is not handled. Of a key, only what is older than the request ends.
    """

    saga: str | None = Field(default=None, min_length=1)
    key: str | None = Field(default=None, min_length=1)
    run: str | None = Field(default=None, min_length=1)
    """The token of one handling."""

    reason: str = Field(default="", max_length=2000)
    by: str = Field(max_length=200)

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if [self.saga, self.key, self.run].count(None) != 2:
            raise ValueError("name exactly one of saga, key and run")
        return self

    @property
    def scope(self) -> tuple[str, str]:
        """`saga`, `key` or `run`, and which."""
        named = (("saga", self.saga), ("key", self.key), ("run", self.run))
        return next((kind, name) for kind, name in named if name is not None)


class EffectStatus(BaseModel):
    """What is known of an effect of a run that was cancelled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    key: str
    """Its idempotency key."""

    digest: str
    """Of its arguments."""

    arguments: Any = None
    """What it was called with, if its undo may have to find out whether it happened: a list, and an object by name."""

    undoable: bool = False
    pivot: bool = False
    """Whether its saga can only go forward if it has happened."""

    status: Literal["done", "undone", "not started", "unknown"]
    """`unknown`: its call was begun, and nobody has seen how it ended."""


class RunCancelled(Event, type="hocket.run.cancelled.v1"):
    """A handling ended before its end, because somebody wanted that."""

    request: str
    """The id of the `hocket.cancel.requested.v1`."""

    agent: str
    key: str
    run: str
    """Its token."""

    event: str
    """The id of the event that it handled."""

    reason: str
    by: str
    effects: list[EffectStatus] = Field(default_factory=list)
    """What it did outside, in the order in which it began to, those of unknown outcome first."""

    effects_untold: int = 0
    """How many more there were than one event can tell."""

    error: str = ""
    """What its own cleanup failed with; empty: it did not."""
