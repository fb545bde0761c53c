"""What a call to the outside world has to pass that several agents share, as those who call see it."""

from dataclasses import dataclass
from typing import Protocol

from hocket.breaker import Breaker
from hocket.rate import Rate


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose call it is."""

    agent: str
    effect: str
    key: str
    """Of the event that is being handled."""

    def __str__(self) -> str:
        return f"{self.effect} of {self.agent}"


@dataclass(frozen=True, slots=True)
class Permit:
    """A call may be made; what comes of it is to be told."""

    breaker: Breaker
    caller: Caller
    until_s: float
    """When it is too late to make the call, in seconds since the Unix epoch: whoever was held up asks again."""

    probe: int | None = None
    """The sequence of the record by which this call alone was let through; None: the circuit is closed."""


class Doors(Protocol):
    """Asks the log, and tells it."""

    async def take(self, rate: Rate, caller: Caller) -> None:
        """Wait for a call's turn, for a short time. Raises RateExceeded when it would take longer."""
        ...

    async def look(self, breaker: Breaker, caller: Caller) -> None:
        """Raise CircuitOpen if a breaker lets nobody through; change nothing."""
        ...

    async def admit(self, breaker: Breaker, caller: Caller) -> Permit:
        """Let a call through its breaker. Raises CircuitOpen."""
        ...

    async def settle(self, permit: Permit, failure: Exception | None) -> None:
        """Say how the call has ended."""
        ...


def name_of(shared: Breaker | Rate, caller: Caller) -> str:
    """Under which name a breaker or a rate is known."""
    return shared.name or f"{caller.agent}.{caller.effect}"


__all__ = ["Caller", "Doors", "Permit", "name_of"]
