"""A question to those who watch over models, and their verdict."""

from typing import Any, Literal

from pydantic import Field

from hocket_schemas.event import Event


class CallProposed(Event, type="guard.call.proposed.v1"):
    """A model is to be asked, or wants a tool called, and nothing happens until somebody has judged that."""

    agent: str
    """The pydantic-ai agent, as it was asked."""

    model: str = ""
    """Of a request: the model that is to be asked."""

    tool: str = ""
    """Of a call: the tool. Empty for a request."""

    arguments: dict[str, Any] = Field(default_factory=dict)
    """Of a call: as the model has written them."""

    prompt: str = ""
    """Of a request: what is sent newly."""

    approved: bool = False
    """Of a call: whether people have agreed to it."""


class CallJudged(Event, type="guard.call.judged.v1"):
    """The verdict on what was proposed. The first answer counts."""

    verdict: Literal["proceed", "skip", "change", "deny", "approve"]
    result: Any = None
    """Of `skip`: what takes the place of the result."""

    arguments: dict[str, Any] | None = None
    """Of `change`: what the tool is called with instead."""

    reason: str = ""
