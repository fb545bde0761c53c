"""Facts about limits: which was reached, who ran into it, and what had been used up by whom."""

from typing import Literal

from pydantic import Field

from hocket_schemas.event import Event

Limit = Literal["hops", "repeats", "steps", "tool_calls", "tokens", "cost", "wall", "quiet"]
"""`hops` bounds a chain of causes, `repeats` the same call within one run, `quiet` the time in which nothing is heard
of a saga; the others are a saga's budget."""


class LimitExceeded(Event, type="hocket.limit.exceeded.v1"):
    """Something was to go beyond a limit, and was not done. Of `quiet`: nothing was done for longer than that."""

    limit: Limit
    most: float
    """What is allowed: of `wall` and `quiet` in seconds, of `cost` in the budget's currency."""

    count: float
    """What it would have come to."""

    agent: str
    """Who ran into it."""

    event: str
    """The id of the event that was being handled; of `quiet`, of the one that started the saga."""

    what: str = ""
    """The step or effect that was not called; empty: the handling was not begun. Of `quiet`: what was last heard."""

    digest: str = ""
    """Of its arguments, where those count."""

    account: str = ""
    """Of a budget: the saga that it belongs to."""

    spent: dict[str, float] = Field(default_factory=dict)
    """Of a budget: what was reserved or spent so far, by agent."""
