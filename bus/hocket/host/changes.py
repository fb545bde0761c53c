"""What becomes of the services that a supervisor keeps: one value for each thing that happens to one."""

import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

Reason = Literal["ended", "memory", "blocked", "asked"]
"""Why a process ended: by itself; it held too much memory; its loop stood still; a person asked for a new one."""


@dataclass(frozen=True, slots=True)
class Started:
    """A service's process is there; it does not own anything yet."""

    service: str
    pid: int
    again: bool
    """Whether it had been there before."""


@dataclass(frozen=True, slots=True)
class Owns:
    """An agent of ours has become owner of a shard."""

    service: str
    agent: str
    shard: int
    pid: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A service's process is gone, and will be started again."""

    service: str
    code: int
    """What it ended with; negative: the signal that ended it."""

    wait_s: float
    """How long until then."""

    reason: Reason = "ended"


@dataclass(frozen=True, slots=True)
class Failed:
    """A service ended too often: it is given up until its files change, or a person asks for it."""

    service: str
    code: int
    ends: int
    reason: Reason = "ended"


@dataclass(frozen=True, slots=True)
class Restored:
    """A service that had been given up is at work again."""

    service: str


@dataclass(frozen=True, slots=True)
class Left:
    """A service was taken out; its process has ended."""

    service: str


Change = Started | Owns | Ended | Failed | Restored | Left


def text_of(code: int, reason: Reason = "ended") -> str:
    """How a process ended, in words: its exit code or the signal that ended it, and why if it was made to."""
    if reason == "memory":
        return "more memory than its cap"
    if reason == "blocked":
        return "a blocked event loop"
    if code >= 0:
        return f"exit code {code}"
    return signal_of(code) or f"signal {-code}"


def signal_of(code: int) -> str | None:
    """The name of the signal that an exit code stands for; None for one that stands for none that is known."""
    with suppress(ValueError):
        return signal.Signals(-code).name if code < 0 else None
    return None


__all__ = ["Change", "Ended", "Failed", "Left", "Owns", "Reason", "Restored", "Started", "signal_of", "text_of"]
