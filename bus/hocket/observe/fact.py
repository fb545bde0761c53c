"""One stored event as a person wants to see it."""

from dataclasses import dataclass
from typing import Any

from hocket.client import Delivery
from hocket.clock import rfc3339
from hocket.errors import MalformedEvent
from hocket_schemas.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Fact:
    """An event with its place in the log; of one that cannot be read, what its subject says."""

    seq: int
    shard: int
    id: str
    type: str
    key: str
    saga: str
    source: str
    publisher: str
    """Who published it: an agent, or a publisher from outside. Unknown (empty) of an addressed event."""

    to: str | None
    """The one agent that it is addressed to; None: to whoever consumes its type."""

    cause: str | None
    """The id of the event whose handling emitted it; None: it came from outside."""

    version: str | None
    """Of the agent that emitted it."""

    hops: int
    time: str | None
    """As stated by the publisher, RFC 3339."""

    stored: str
    """When the log stored it, by the server's clock, RFC 3339."""

    data: Any
    parent: str | None = None
    """The saga that its saga is a child of, if the event says so."""

    trouble: str = ""
    """Why it cannot be read; empty: it can."""


def fact_of(delivery: Delivery, *, whole: bool = True) -> Fact:
    """An event as it is shown; unless `whole`, without its data. Never raises: what is no event is shown with its
    trouble.
    """
    address = delivery.address
    trouble = ""
    try:
        envelope = delivery.envelope
    except MalformedEvent as error:
        trouble = str(error)
        envelope = Envelope(id=address.id, source="", type=address.type)
    return Fact(
        seq=delivery.seq,
        shard=delivery.shard,
        id=envelope.id,
        type=address.type,
        key=address.key,
        saga=envelope.correlationid or address.key,
        source=envelope.source,
        publisher=address.agent if address.kind == "evt" else "",
        to=address.agent if address.kind == "cmd" else None,
        cause=envelope.causationid,
        version=envelope.hkversion,
        hops=envelope.hkhops,
        time=envelope.time,
        stored=stored_at(delivery.message.time_ns),
        data=envelope.data if whole else None,
        parent=envelope.hkparent,
        trouble=trouble,
    )


def stored_at(time_ns: int) -> str:
    """The server's time of storing as RFC 3339, to the millisecond: such texts sort like the moments."""
    return rfc3339(time_ns / 1e9)


__all__ = ["Fact", "fact_of", "stored_at"]
