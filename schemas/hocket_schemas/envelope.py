"""The envelope: a CloudEvents 1.0 event as a value, with the attributes that hocket gives a meaning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

AttributeValue = str | int | bool
"""What a CloudEvents extension can hold once it is JSON."""


# No slots: the gate makes one of these for every event, and filling an instance's own dictionary takes a
# tenth of the time of eighteen frozen fields.
@dataclass(frozen=True)
class Envelope:
    """One event as it travels. docs/wire.md says what each extension promises."""

    id: str
    """Unique together with `source`. For an emitted event: `{cause}.{i}`."""

    source: str
    """Who states the fact: `/{domain}/{agent}` for agents, any URI reference for outside publishers."""

    type: str
    data: Any = None
    """JSON, already parsed, for declared events an object; text or bytes when `datacontenttype` says so.

    None is no data: a payload that is JSON's null is not told from its absence.
    """

    time: str | None = None
    """RFC 3339 in UTC, as written by the publisher. Never used for order."""

    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None

    partitionkey: str | None = None
    """The key: each agent handles the events of one key in log order."""

    correlationid: str | None = None
    """The saga that this event belongs to."""

    causationid: str | None = None
    """The id of the event whose handling emitted this one."""

    traceparent: str | None = None
    """W3C Trace Context of the chain's start; dropped when it is not well formed."""

    tracestate: str | None = None

    expirytime: str | None = None
    """After this moment (RFC 3339) the event is not worth handling."""

    hkhops: int = 0
    """How many handlings lie between the first event of the chain and this one."""

    hkversion: str | None = None
    """The version of the agent that emitted the event."""

    hkcleared: str | None = None
    """After which approval or pivot the event was emitted, or its cause: what is irreversible may happen now."""

    hkparent: str | None = None
    """The saga that this event's saga is a child of: on the event that started it, and on what followed from that."""

    hkbudget: str | None = None
    """The accounts that handling it draws from, as JSON; absent: its saga has no budget."""

    extensions: Mapping[str, AttributeValue] = field(default_factory=dict)
    """Every other extension attribute, kept as it came."""


def of_checked(attributes: dict[str, Any]) -> Envelope:
    """An envelope whose fields are `attributes`, the very dictionary; what is missing has its default.

    For whoever makes one per event and knows that each name is a field's: `Envelope(...)` goes through all fields,
    which takes longer than checking what they hold.
    """
    attributes.setdefault("extensions", {})
    envelope = object.__new__(Envelope)
    object.__setattr__(envelope, "__dict__", attributes)
    return envelope
