"""Facts about what people keep agents from handling for a while: who wants that, of what, and why."""

from typing import Self

from pydantic import Field, model_validator

from hocket_schemas.event import Event


class Hold(Event):
    """What a hold is about: an agent, or one key or one saga, there or at every agent."""

    agent: str | None = Field(default=None, min_length=1)
    """None: every agent."""

    key: str | None = Field(default=None, min_length=1)
    saga: str | None = Field(default=None, min_length=1)
    reason: str = Field(default="", max_length=2000)
    by: str = Field(max_length=200)
    letter: str | None = Field(default=None, min_length=1)
    """The dead letter for whose sake it is. What is sent again for that is handled all the same, and lifting the hold
    for the letter lifts no other."""

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.agent is None and self.key is None and self.saga is None:
            raise ValueError("name an agent, a key or a saga")
        if self.key is not None and self.saga is not None:
            raise ValueError("name a key or a saga, not both")
        return self

    @property
    def scope(self) -> tuple[str, str]:
        """`key`, `saga` or `agent`, and which."""
        if self.key is not None:
            return "key", self.key
        if self.saga is not None:
            return "saga", self.saga
        assert self.agent is not None
        return "agent", self.agent


class HoldPlaced(Hold, type="hocket.hold.placed.v1"):
    """Somebody wants an agent to handle nothing, or nothing of a key or a saga, until the hold is lifted.

    The newest word about an agent, a key or a saga decides. It has no end by itself, so the log keeps it.
    """


class HoldLifted(Hold, type="hocket.hold.lifted.v1"):
    """What waited goes on. Without an agent it goes on at every one of them."""
