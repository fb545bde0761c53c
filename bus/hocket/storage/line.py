"""One line of a copy: what it says, and the digests by which any change to it shows."""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from hocket.errors import BadCopy, NotFound
from hocket.log.base import Message, Seq
from hocket.log.wire import STORED, first_stored
from hocket.subjects import address, tokens_of

FORMAT = 1
"""The version of what a copy's lines say. A newer one is refused."""

LINE_BYTES_MAX = 16 << 20
"""Longer than any line can get: the log takes messages of 1 MiB."""

ORIGIN = blake2b(b"hocket copy 1", digest_size=16).hexdigest()
"""What the first line of a copy is chained to."""

_TAIL = re.compile(rb',"sum":"([0-9a-f]{32})"(?:,"of_key":"([0-9a-f]{32})")?,"chain":"([0-9a-f]{32})"\}\n?', re.ASCII)
_TAIL_BYTES_MAX = 160
_TTL_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Stored(NamedTuple):
    """One message with all that is needed to store it again."""

    shard: int
    message: Message
    """Its headers are the writer's own."""

    ttl: timedelta | None = None
    """When the log may forget it, counted from its time; None: never."""

    whole: bool = True
    """Whether an append ended with it; otherwise the next message belongs to the same."""


class Whose(NamedTuple):
    """What a subject says to a person."""

    kind: str
    """The subject's third token, such as `evt` or `run`."""

    key: str | None
    """None: of a record that belongs to no key, such as a cursor."""

    id: str
    """Of an event its id, of a run its name, of a dead letter its event's id; else the rest of the subject."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A line as read back, before anybody has compared it with others."""

    number: int
    """From 1."""

    body: Mapping[str, Any] | None
    """What it says; None: its digest does not fit, so it says nothing."""

    sum: str = ""
    of_key: str = ""
    chain: str = ""
    link: str = ""
    """What `chain` would be behind the line that was read before."""


@dataclass(slots=True)
class Chain:
    """The digests behind which the next line goes: one over all lines, one for each key.

    Grows by about a hundred bytes for each key, not for each message.
    """

    last: str = ORIGIN
    keys: dict[str, str] = field(default_factory=dict)

    def seal(self, body: Mapping[str, Any], key: str | None = None) -> tuple[bytes, str]:
        """The line that says `body`, ready to be written, and the digest of what it says."""
        text = orjson.dumps(body)[:-1]
        own = digest(text)
        of_key = ""
        line = b'%b,"sum":"%b"' % (text, own.encode())
        if key is not None:
            of_key = self.keys[key] = digest(f"{self.keys.get(key, ORIGIN)}{own}".encode())
            line += b',"of_key":"%b"' % of_key.encode()
        self.last = digest(f"{self.last}{own}{of_key}".encode())
        return line + b',"chain":"%b"}\n' % self.last.encode(), own


def digest(text: bytes) -> str:
    """128 bits of BLAKE2b, in hexadecimal."""
    return blake2b(text, digest_size=16).hexdigest()


def unsealed(number: int, raw: bytes, behind: str) -> Sealed:
    """Read a line that follows one whose chain is `behind`. Never raises: damage is what it looks for."""
    start = max(0, len(raw) - _TAIL_BYTES_MAX)
    tail = next((found for found in _TAIL.finditer(raw, start) if found.end() == len(raw)), None)
    if tail is None or not raw.endswith(b"\n"):
        return Sealed(number, None)
    own, of_key, chain = ((part or b"").decode() for part in tail.groups())
    text = raw[: tail.start()]
    if digest(text) != own:
        return Sealed(number, None, own, of_key, chain)
    body = orjson.loads(text + b"}")
    return Sealed(number, body, own, of_key, chain, digest(f"{behind}{own}{of_key}".encode()))


def body_of(stored: Stored) -> dict[str, Any]:
    """A message as a line says it. The payload is text where it can be, so that a person can read a copy."""
    message = stored.message
    body: dict[str, Any] = {
        "shard": stored.shard,
        "seq": message.seq,
        "time_ns": message.time_ns,
        "subject": message.subject,
    }
    if stored.ttl is not None:
        body["ttl_s"] = stored.ttl.total_seconds()
    if message.headers:
        body["headers"] = dict(message.headers)
    try:
        body["text"] = message.data.decode()
    except UnicodeDecodeError:
        body["base64"] = b64encode(message.data).decode()
    return body


def stored_of(body: Mapping[str, Any]) -> Stored:
    """The message that a line says. Raises BadCopy when it says none."""
    try:
        data = b64decode(body["base64"]) if "base64" in body else body["text"].encode()
        seq = Seq(body["seq"])
        message = Message(body["subject"], seq, data, body["time_ns"], body.get("headers", {}))
        ttl_s = body.get("ttl_s")
        return Stored(body["shard"], message, None if ttl_s is None else timedelta(seconds=ttl_s))
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise BadCopy(f"a line says no message: {error}") from error


def stored(shard: int, message: Message) -> Stored:
    """A message as `Whole.everything` hands it out."""
    own = {name: value for name, value in message.headers.items() if not name.startswith("Nats-")}
    first_ns = first_stored(own, message.time_ns)
    own.pop(STORED, None)
    batch = "Nats-Batch-Id" in message.headers
    whole = not batch or "Nats-Batch-Commit" in message.headers
    ttl = ttl_of(message.headers)
    if ttl is not None:
        ttl += timedelta(microseconds=(message.time_ns - first_ns) // 1000)
    return Stored(shard, message._replace(headers=own, time_ns=first_ns, pending=0), ttl, whole)


def ttl_of(headers: Mapping[str, str]) -> timedelta | None:
    """What the header `Nats-TTL` asks for: seconds, or a duration such as `2h45m`; None: no end."""
    text = headers.get("Nats-TTL", "never")
    if text.isascii() and text.isdigit():
        return timedelta(seconds=int(text))
    parts = _TTL_PART.findall(text)
    return timedelta(seconds=sum(float(number) * _UNIT_S[unit] for number, unit in parts)) if parts else None


def whose(subject: str) -> Whose:
    """Which key, and which event or record, a subject is about."""
    kind, *names = tokens_of(subject) or ("",)
    try:
        match kind:
            case "evt" | "cmd":
                where = address(subject)
                return Whose(kind, where.key, where.id)
            case "act":
                return Whose(kind, names[1], names[0])
            case "run" | "end" | "dead" | "jrn":
                return Whose(kind, names[1], ".".join(names[2:]))
            case "part":
                return Whose(kind, names[2], ".".join(names[:2]))
            case _:
                return Whose(kind, None, ".".join(names))
    except (NotFound, LookupError):
        return Whose(kind, None, ".".join(names))


def chained_as(shard: int, subject: str) -> str:
    """The name of the chain that a message is part of: its key's, or that of its record."""
    about = whose(subject)
    return f"{shard} {about.key}" if about.key is not None else f"{shard}.{about.kind}.{about.id}"


__all__ = [
    "FORMAT",
    "Chain",
    "Sealed",
    "Stored",
    "Whose",
    "body_of",
    "chained_as",
    "stored",
    "stored_of",
    "ttl_of",
    "unsealed",
    "whose",
]
