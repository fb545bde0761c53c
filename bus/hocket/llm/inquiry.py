"""One inquiry of a pydantic-ai agent within a run: what the agent's parts have to know of the run that they are in."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hocket.context import Context
from hocket.errors import UsageError
from hocket.llm.live import Live
from hocket.llm.spans import asking
from hocket.redaction import Redaction, redacting


@dataclass(frozen=True, slots=True)
class Inquiry:
    """An agent that is being asked in a handler."""

    context: Context[Any]
    name: str
    """What its steps are called after. No two inquiries of a run have the same."""

    asked: str
    """What who is asked is known as."""

    id: str
    """The same whenever the handler runs again."""

    began: datetime
    """When it was first made, in UTC."""

    redaction: Redaction | None = None
    """What is taken out of all that is remembered of it; None: nothing."""

    runs: list[str] = field(default_factory=list)
    """Whose run it is: of one agent, once it has begun."""

    live: Live | None = None
    """Who hears what its models say, while they say it."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each tool was called with the same arguments, in this execution."""

    failures: list[Exception] = field(default_factory=list)
    """What its steps have failed with, in this execution: none of it is remembered."""

    def begin(self, agent: str) -> None:
        """Let an agent run in it. Raises UsageError for a second one, the steps of which would be mistaken for it."""
        if self.runs:
            raise UsageError(
                f"{agent} is run within the inquiry of {self.runs[0]}; ask it by ask_model, or in a tool that is a step"
            )
        self.runs.append(agent)


_CURRENT: ContextVar[Inquiry | None] = ContextVar("_CURRENT", default=None)


def current() -> Inquiry | None:
    """The inquiry that the running code is part of; None within a step, where nothing is remembered by itself."""
    return _CURRENT.get()


@contextmanager
def within(inquiry: Inquiry | None) -> Iterator[None]:
    """Run a block as part of an inquiry, or of none."""
    token = _CURRENT.set(inquiry)
    try:
        if inquiry is None:
            yield
        else:
            with asking(inquiry.context, inquiry.asked), redacting(inquiry.redaction):
                yield
    finally:
        _CURRENT.reset(token)
