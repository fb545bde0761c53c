"""A circuit breaker that a whole fleet shares: what its record says, and what follows from it. No input or output."""

from dataclasses import dataclass, field, replace
from typing import Final

import orjson

from hocket.errors import MalformedEvent, UsageError

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half-open"

CLOCKS_DIFFER_S = 2.0
"""So far two readings of the server's clock may lie apart before one of them is taken for wrong."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """When to stop calling something outside that fails, and when to try it again.

    All who declare the same name share it: every instance of the agent on every shard, and other agents too.
    """

    failures: int = 5
    """So many calls that fail within `window_s` open the circuit."""

    window_s: float = 30.0
    """How long a failure counts, in seconds."""

    open_s: float = 10.0
    """While the circuit is open, one call of the whole fleet is let through in each period of so many seconds."""

    name: str | None = None
    """None: the agent's and the effect's name, shared with nobody else."""

    ignores: tuple[type[Exception], ...] = field(default=())
    """Errors by which the other side shows that it works, besides those that the effect's retry never retries."""

    def __post_init__(self) -> None:
        if self.failures < 1 or self.window_s <= 0 or self.open_s <= 0 or self.name == "":
            raise UsageError(f"{self}: wants a failure at least, positive times, and a name or none")


@dataclass(frozen=True, slots=True)
class Circuit:
    """The record of a breaker: how it stands, for everybody."""

    state: str = CLOSED
    failures: tuple[float, ...] = ()
    """When calls failed that still count, in seconds since the Unix epoch. Only while it is closed."""

    until_s: float = 0.0
    """While it is not closed: until when no further call is let through."""

    open_s: float = 0.0
    """How long that period is, as whoever began it has declared."""

    since_s: float = 0.0
    """Since when it is not closed, or is closed again."""

    episode: str = ""
    """The id of the event by which it opened last."""

    by: str = ""
    """Whose call has changed it last: an agent and an effect."""

    reason: str = ""
    """How that call failed; empty: it did not."""

    mark: str = ""
    """Of this write alone, so that its writer knows it again."""

    def to_json(self) -> bytes:
        """The record's body."""
        return orjson.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, body: bytes) -> "Circuit":
        """Read a record's body. Raises MalformedEvent when it is none."""
        try:
            fields = orjson.loads(body)
            fields["failures"] = tuple(map(float, fields["failures"]))
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise MalformedEvent(f"not the record of a breaker: {body[:80]!r}") from error


def refuses_s(circuit: Circuit, now_s: float) -> float:
    """For how long no call is let through; 0: one may ask.

    More of a period than there is of it is left only by a clock that is ahead of ours. Such a period is over, or
    everybody would wait for as long as the clocks differ by.
    """
    left_s = 0.0 if circuit.state == CLOSED else max(0.0, circuit.until_s - now_s)
    return 0.0 if circuit.open_s and left_s > circuit.open_s + CLOCKS_DIFFER_S else left_s


def probing(circuit: Circuit, breaker: Breaker, now_s: float, by: str) -> Circuit | None:
    """The record that lets one call through a circuit that is not closed; None: it is closed, all may go."""
    if circuit.state == CLOSED:
        return None
    return replace(circuit, state=HALF_OPEN, until_s=now_s + breaker.open_s, open_s=breaker.open_s, by=by, reason="")


def after_failure(
    circuit: Circuit, breaker: Breaker, now_s: float, by: str, reason: str, *, probe: bool
) -> Circuit | None:
    """The record once a call has failed; None: it stays as it is. `probe`: it is the one that was let through."""
    if circuit.state == HALF_OPEN and probe:
        return replace(circuit, state=OPEN, by=by, reason=reason)
    if circuit.state != CLOSED:
        return None  # the call began before the circuit opened, or its period was over
    counted = (*(at_s for at_s in circuit.failures if at_s > now_s - breaker.window_s), now_s)
    if len(counted) < breaker.failures:
        return replace(circuit, failures=counted, by=by, reason=reason)
    until_s = now_s + breaker.open_s
    return Circuit(OPEN, until_s=until_s, open_s=breaker.open_s, since_s=now_s, by=by, reason=reason)


def after_success(circuit: Circuit, now_s: float, by: str) -> Circuit | None:
    """The record once a call that was let through has succeeded, in time or late; None: it is closed already."""
    if circuit.state == CLOSED:
        return None
    return Circuit(CLOSED, since_s=now_s, episode=circuit.episode, by=by)
