"""What a forgotten fact leaves in its place in the log: digests, under a header by which nobody takes it for news."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256

from hocket.clock import rfc3339
from hocket.log.base import Expect, Message, Seq, Write
from hocket_schemas import gate
from hocket_schemas.envelope import Envelope
from hocket_schemas.errors import MalformedEvent

HEADER = "Hocket-Forgotten"
"""On the message that has taken the place of another; its value is the version of what it holds."""

_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of one event. No agent handles it, and no reader is given it as an event."""

    digest: str
    """SHA-256 of the message that was here, in hexadecimal."""

    subject: str
    """SHA-256 of the name of whom it was about, in hexadecimal."""

    seq: int
    """Where in the log that message was."""

    time_ns: int
    """When the log had stored it, in nanoseconds since the Unix epoch."""

    fact: str = ""
    """The id of the fact that it was about, if it was about one: superseded stays superseded."""


def is_tombstone(message: Message) -> bool:
    """Whether a message has taken the place of an event that was forgotten."""
    return HEADER in message.headers


def tombstone_in(message: Message) -> tuple[Envelope, Tombstone]:
    """Read one: the envelope that is left, and what it says. Raises MalformedEvent."""
    envelope = gate.read(message.data, None, message.headers)
    data = envelope.data
    if not isinstance(data, Mapping) or not isinstance(data.get("forgotten"), Mapping):
        raise MalformedEvent(f"{message.subject!r} is no tombstone")
    left = data["forgotten"]
    try:
        stone = Tombstone(
            str(left["digest"]), str(left["subject"]), int(left["seq"]), int(left["time_ns"]), str(left["fact"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedEvent(f"{message.subject!r} is no tombstone: {error!r}") from None
    return envelope, stone


def in_its_place(message: Message) -> Message:
    """A tombstone as if it stood where the event did that it replaces; any other message as it is."""
    if not is_tombstone(message):
        return message
    try:
        _, stone = tombstone_in(message)
    except MalformedEvent:
        return message  # somebody has put the header on something else
    return message._replace(seq=Seq(stone.seq), time_ns=stone.time_ns)


def overwriting(message: Message, envelope: Envelope, *, subject: str, fact: str = "") -> tuple[Write, Tombstone]:
    """What overwrites a message, if it is still the newest of its subject, and what that leaves.

    Of the envelope what places it is left, such as its id, its cause and its saga: names, and nothing that was said.
    """
    stone = Tombstone(digest_of(message.data), subject, message.seq, message.time_ns, fact)
    left = Envelope(
        id=envelope.id,
        source=envelope.source,
        type=envelope.type,
        data={"forgotten": asdict(stone)},
        time=rfc3339(message.time_ns / 1e9),
        partitionkey=envelope.partitionkey,
        correlationid=envelope.correlationid,
        causationid=envelope.causationid,
        hkhops=envelope.hkhops,
        hkversion=envelope.hkversion,
        hkparent=envelope.hkparent,
    )
    headers = {"Content-Type": gate.CONTENT_TYPE, HEADER: _VERSION}
    return Write(message.subject, gate.write(left), Expect(message.subject, message.seq), None, headers), stone


def digest_of(content: bytes | str) -> str:
    """SHA-256 in hexadecimal."""
    return sha256(content.encode() if isinstance(content, str) else content).hexdigest()


__all__ = ["HEADER", "Tombstone", "digest_of", "in_its_place", "is_tombstone", "overwriting", "tombstone_in"]
