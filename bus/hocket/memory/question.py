"""What is asked of the memory, as of when, and what comes back."""

from dataclasses import dataclass
from datetime import datetime

from hocket_schemas.memory import Scope

Position = tuple[int, ...]
"""A moment of the log: of each shard the sequence of the newest message that counts."""

AsOf = Position | datetime
"""A moment: of the log, or by the clock of the server that stored the events."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for."""

    words: str = ""
    """Facts with any of these words, those that fit best first; empty: all of them, the newest first."""

    about: str = ""
    """Only facts about this subject; empty: about any, without those that only their subject's name brings back."""

    kind: str = ""
    """Only facts of this kind; empty: of any."""

    asker: str | None = None
    """The agent that asks, which alone recalls what it keeps for itself; None: an operator, who sees everything."""

    most: int = 10
    """How many facts at most."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """One fact as it stood at the moment that was asked for."""

    id: str
    """The event's id."""

    kind: str
    text: str
    about: str
    scope: Scope
    author: str
    """The agent that stated it, as its subject in the log says."""

    confidence: float
    sources: tuple[str, ...]
    """The ids of the events that it was learned from."""

    saga: str
    """The saga that its author learned it in."""

    supersedes: str
    """The id of the fact whose place it takes; empty: of none."""

    disputed: tuple[str, ...]
    """Why others doubt it; empty: nobody does."""

    shard: int
    seq: int
    stored: str
    """When the log stored it, RFC 3339."""


__all__ = ["AsOf", "Position", "Question", "Recalled"]
