"""What an append is on the wire, and what the server's answers mean: bytes and values, no connection."""

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import orjson

from hocket.errors import (
    AppendTooLarge,
    Conflict,
    LogError,
    OutcomeUnknown,
    StorageFull,
    Unavailable,
    UsageError,
)
from hocket.log.base import APPEND_MESSAGES_MAX, Message, Seq, Write

SUBJECT_LENGTH_MAX = 2000
"""In characters. The server closes the connection over a protocol line above 4096."""

NO_HEADERS: Mapping[str, str] = MappingProxyType({})

STORED = "Hocket-Stored"
"""Header of a message that was restored from a copy: when it was stored at first, in nanoseconds since the epoch."""

_SUBJECT = re.compile(r"[!-)+-\-/-=?-~]+(?:\.[!-)+-\-/-=?-~]+)*")
_PATTERN = re.compile(r"[!-~]+")
_HEADER_NAME = re.compile(r"(?!Nats-)[A-Za-z0-9_-]+")
_HEADER_VALUE = re.compile(r"\S(?:[^\x00-\x1f\x7f]*\S)?|")
_NO_STATUS = b"NATS/1.0\r\n"
_ONE_SECOND = timedelta(seconds=1)


class Got(Protocol):
    """A message as the server hands it out."""

    @property
    def data(self) -> bytes: ...
    @property
    def head(self) -> bytes: ...


class Frame(NamedTuple):
    """One message to send."""

    subject: str
    data: bytes = b""
    head: bytes = b""
    """The headers as they travel, from the version line to the empty one; empty: none."""

    @property
    def size(self) -> int:
        """What the server counts against its payload limit, in bytes: headers and data."""
        return len(self.head) + len(self.data)


def check(writes: Sequence[Write], root: str) -> None:
    """Refuse what the server would refuse by closing the connection, or only after half a batch.

    `root` is what every subject begins with, such as `hocket.0.`. Raises AppendTooLarge and UsageError.
    """
    if not 1 <= len(writes) <= APPEND_MESSAGES_MAX:
        raise AppendTooLarge(f"{len(writes)} messages in one append, between 1 and {APPEND_MESSAGES_MAX} go")
    written: set[str] = set()
    checked = NO_HEADERS
    for write in writes:
        subject = write.subject
        check_subject(subject)
        if not subject.startswith(root):
            raise UsageError(f"{subject} is not below {root}, where this log stores")
        if write.ttl is not None and (write.ttl < _ONE_SECOND or write.ttl % _ONE_SECOND):
            raise UsageError(f"a TTL of {write.ttl} for {subject}, wants whole seconds, at least one")
        if write.expect and write.expect.subject in written:
            # The server refuses this for ever with the code that otherwise means "try again".
            raise UsageError(f"{subject} expects something of {write.expect.subject}, which is written before it")
        headers = write.headers
        if headers and headers is not checked:  # most writes of an append have the very same
            for name, value in headers.items():
                if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                    raise UsageError(f"header {name!r}: {value!r} for {subject} cannot travel")
            checked = headers
        written.add(subject)


def check_subject(subject: str) -> None:
    """Raise UsageError for what cannot be published to."""
    if not _SUBJECT.fullmatch(subject) or len(subject) > SUBJECT_LENGTH_MAX:
        raise UsageError(f"{subject[:80]!r} ({len(subject)} characters) is no subject to publish to")


def check_pattern(pattern: str) -> None:
    """Raise UsageError for what cannot be subscribed to."""
    if not _PATTERN.fullmatch(pattern) or len(pattern) > SUBJECT_LENGTH_MAX:
        raise UsageError(f"{pattern[:80]!r} ({len(pattern)} characters) is no subject to subscribe to")


def frames(writes: Sequence[Write], batch: str) -> list[Frame]:
    """The messages that make up an append. A single write is a plain publish and needs no batch."""
    if len(writes) == 1:
        (write,) = writes
        lines = _lines(write)
        return [Frame(write.subject, write.data, f"NATS/1.0\r\n{lines}\r\n".encode() if lines else b"")]
    start = f"NATS/1.0\r\nNats-Batch-Id: {batch}\r\nNats-Batch-Sequence: "
    made: list[Frame] = []
    like: Write | None = None
    lines = ""
    for i, write in enumerate(writes, 1):
        if write.expect or like is None or write[2:] != like[2:]:  # else they are what the one before has
            like, lines = write, _lines(write)
        made.append(Frame(write.subject, write.data, f"{start}{i}\r\n{lines}\r\n".encode()))
    made[-1] = made[-1]._replace(head=made[-1].head[:-2] + b"Nats-Batch-Commit: 1\r\n\r\n")
    return made


def _lines(write: Write) -> str:
    """The headers of one write, a line each."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in write.headers.items()]) if write.headers else ""
    if write.expect:
        lines += f"Nats-Expected-Last-Subject-Sequence: {write.expect.seq}\r\n"
        if write.expect.subject != write.subject:
            lines += f"Nats-Expected-Last-Subject-Sequence-Subject: {write.expect.subject}\r\n"
    if write.ttl is not None:
        lines += f"Nats-TTL: {write.ttl // _ONE_SECOND}s\r\n"
    return lines


@dataclass(frozen=True, slots=True)
class Stored:
    """The append is in the log."""

    last: Seq


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was stored, and sending the same again would not help."""

    error: LogError


@dataclass(frozen=True, slots=True)
class Again:
    """Nothing was stored, and the same may be sent again a little later."""

    reason: str
    incomplete: bool = False
    """Whether parts of a batch did not come together."""


Verdict = Stored | Refused | Again

_CONFLICT = frozenset({10071})
_FULL = frozenset({10002, 10023, 10028, 10047})  # of the account, of the server, of its memory, of its disk
_STORE_FAILED = 10077
_FULL_WORD = "maximum"  # of the stream's bytes
_NO_SPACE = "no space left"  # of the file system, whatever was to be written
_TOO_LARGE = frozenset({10054, 10097, 10199})  # message, headers, batch
# No leader or not enough servers yet, a check in flight, a batch that lost a part, too much at once.
_AGAIN = frozenset({10005, 10008, 10009, 10164, 10167, 10176, 10210})
_INCOMPLETE = 10176
_NEVER = frozenset({10074})  # replicas on a single server; its 5xx reads as if waiting would help


def read(answer: bytes) -> dict[str, Any]:
    """An answer's JSON object. Raises OutcomeUnknown when it is none: then it is not JetStream that answers."""
    try:
        body = orjson.loads(answer)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise OutcomeUnknown(f"not understood: {answer[:60]!r}")
    return body


def verdict(answer: bytes, stream: str, count: int) -> Verdict:
    """What the answer to an append of `count` messages means. Raises OutcomeUnknown when it is none."""
    body = read(answer)
    if "error" in body:
        return refusal(body["error"])
    if (body.get("stream"), body.get("count", 1)) != (stream, count) or not isinstance(body.get("seq"), int):
        raise OutcomeUnknown(f"not the answer to {count} messages for {stream}: {answer[:200]!r}")
    return Stored(Seq(body["seq"]))


def refusal(error: Mapping[str, Any]) -> Refused | Again:
    """What an error object of the server means for what was asked."""
    code = int(error.get("err_code", 0))
    text = f"{error.get('description', 'refused')} (error {code})"
    if code in _CONFLICT:
        return Refused(Conflict(text))
    if code in _FULL or _NO_SPACE in text or (code == _STORE_FAILED and _FULL_WORD in text):
        return Refused(StorageFull(text))
    if code in _TOO_LARGE:
        return Refused(AppendTooLarge(text))
    if code in _AGAIN:
        return Again(text, incomplete=code == _INCOMPLETE)
    # Of what is left, 5xx says that the server cannot now: it is away, though it speaks.
    away = int(error.get("code", 0)) >= 500 and code not in _NEVER
    return Refused(Unavailable(text) if away else LogError(text))


def required(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request of ours, unless it is an error: that is raised."""
    if "error" not in answer:
        return answer
    match refusal(answer["error"]):
        case Refused(error):
            raise error
        case Again(reason):
            raise Unavailable(reason)


def stored_message(body: Mapping[str, Any]) -> Message:
    """The message in an answer of `STREAM.MSG.GET`."""
    headers = own_headers(b64decode(body.get("hdrs", "")))
    return Message(
        subject=body["subject"],
        seq=Seq(body["seq"]),
        data=b64decode(body.get("data", "")),
        time_ns=first_stored(headers, nanoseconds(body["time"])),
        headers=headers,
    )


def got_message(answer: "Got") -> Message:
    """A message in an answer of `DIRECT.GET`."""
    stamps: dict[str, str] = {}
    own: dict[str, str] = {}
    for line in answer.head.decode(errors="replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            (stamps if line.startswith("Nats-") else own)[name.strip()] = value.strip()
    return Message(
        subject=stamps["Nats-Subject"],
        seq=Seq(int(stamps["Nats-Sequence"])),
        data=answer.data,
        time_ns=first_stored(own, nanoseconds(stamps["Nats-Time-Stamp"])),
        headers=own or NO_HEADERS,
    )


def own_headers(head: bytes) -> Mapping[str, str]:
    """The headers that the writer gave, without those of the append protocol and of the server."""
    if not head:
        return NO_HEADERS
    own = [line.partition(":") for line in head.decode(errors="replace").split("\r\n")[1:] if line[:5] != "Nats-"]
    return {name.strip(): value.strip() for name, colon, value in own if colon} or NO_HEADERS


def first_stored(headers: Mapping[str, str], time_ns: int) -> int:
    """When a message was stored: by the server's stamp, or what it says itself, if it was restored from a copy."""
    if STORED in headers:
        said = headers[STORED]
        return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else time_ns
    return time_ns


def says_more(head: bytes) -> bool:
    """Whether the first line of the headers is the server's own word, rather than only the version of the format."""
    return bool(head) and not head.startswith(_NO_STATUS)


def headers_of(head: bytes) -> dict[str, str]:
    """All headers; what the server says of itself in the first line becomes `Status` and `Description`."""
    if not head:
        return {}
    first, *lines = head.decode(errors="replace").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip(): value.strip() for name, colon, value in pairs if colon}
    _, _, status = first.partition(" ")
    if status:
        headers["Status"], _, headers["Description"] = status.partition(" ")
    return headers


def nanoseconds(rfc3339: str) -> int:
    """`2026-01-01T00:00:00.123456789Z` as nanoseconds since the Unix epoch; a float would round them."""
    whole, _, fraction = rfc3339.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 1_000_000_000 + int(f"{fraction:0<9}"[:9] or 0)
