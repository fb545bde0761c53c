"""How often something may be called by a whole fleet, and what its record says of that. No input or output."""

from dataclasses import dataclass

import orjson

from hocket.errors import MalformedEvent, UsageError

CALLS_MAX = 1000
"""Most calls in one period: the record holds the time of each."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `calls` in any `per_s` seconds, of all who declare the same name."""

    calls: int
    per_s: float = 1.0
    name: str | None = None
    """None: the agent's and the effect's name, shared with nobody else."""

    def __post_init__(self) -> None:
        if not 1 <= self.calls <= CALLS_MAX or self.per_s <= 0 or self.name == "":
            raise UsageError(f"{self}: wants 1 to {CALLS_MAX} calls, a positive time, and a name or none")


@dataclass(frozen=True, slots=True)
class Calls:
    """The record of a rate: when its last calls were let through, or will be."""

    at_s: tuple[float, ...] = ()
    """Ascending, in seconds since the Unix epoch."""

    mark: str = ""
    """Of this write alone, so that its writer knows it again."""

    def to_json(self) -> bytes:
        """The record's body."""
        return orjson.dumps({"at_s": self.at_s, "mark": self.mark})

    @classmethod
    def from_json(cls, body: bytes) -> "Calls":
        """Read a record's body. Raises MalformedEvent when it is none."""
        try:
            fields = orjson.loads(body)
            return cls(tuple(map(float, fields["at_s"])), str(fields["mark"]))
        except (ValueError, TypeError, KeyError) as error:
            raise MalformedEvent(f"not the record of a rate: {body[:80]!r}") from error


def free_s(calls: Calls, rate: Rate, now_s: float) -> float:
    """When the next call may be made, in seconds since the Unix epoch: now, or once enough of them are long ago."""
    at_s = calls.at_s
    earliest_s = at_s[-rate.calls] + rate.per_s if len(at_s) >= rate.calls else now_s
    return max(now_s, earliest_s)


def taken(calls: Calls, rate: Rate, at_s: float, mark: str) -> Calls:
    """The record with one call more."""
    times = sorted((*calls.at_s, at_s))
    return Calls(tuple(times[-max(rate.calls, len(calls.at_s)) :][-CALLS_MAX:]), mark)
