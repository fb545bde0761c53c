"""How the circuit breakers of a domain stand, and who brought that about."""

from contextlib import aclosing
from dataclasses import dataclass

from hocket.breaker import CLOSED, Circuit
from hocket.client import Bus
from hocket.clock import rfc3339
from hocket.errors import MalformedEvent
from hocket.subjects import Names, tokens_of


@dataclass(frozen=True, slots=True)
class Standing:
    """One breaker, as its record says."""

    name: str
    state: str
    """`closed`, `open` or `half-open`."""

    failures: int
    """So many count at the moment; only while it is closed."""

    since: str
    """Since when it is not closed, or closed again; RFC 3339. Empty: it has never opened."""

    until: str
    """While it is not closed: when the next call is let through."""

    by: str
    """Whose call has changed it last."""

    error: str
    """How that call failed; empty: it did not, or is under way."""

    episode: str
    """The id of the event by which it opened last: `hocket why` goes on from there."""


async def breakers(bus: Bus) -> list[Standing]:
    """All breakers of which anything has ever failed, by name."""
    found: list[Standing] = []
    for shard, log in enumerate(bus.logs):
        async with aclosing(log.scan([Names(bus.domain, shard).breakers])) as records:
            async for record in records:
                try:
                    circuit = Circuit.from_json(record.data)
                except MalformedEvent:
                    continue
                found.append(_standing(tokens_of(record.subject)[1], circuit))
    return sorted(found, key=lambda standing: standing.name)


def _standing(name: str, circuit: Circuit) -> Standing:
    return Standing(
        name=name,
        state=circuit.state,
        failures=len(circuit.failures),
        since=rfc3339(circuit.since_s) if circuit.since_s else "",
        until=rfc3339(circuit.until_s) if circuit.state != CLOSED else "",
        by=circuit.by,
        error=circuit.reason,
        episode=f"{circuit.episode}.0" if circuit.episode else "",
    )


__all__ = ["Standing", "breakers"]
