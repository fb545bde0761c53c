"""What is said on a NATS connection, cut into frames: a line, and for a message the headers and data after it."""

from collections.abc import Iterator
from typing import NamedTuple

import orjson

_END = b"\r\n"
_WITH_BODY = frozenset({b"PUB", b"HPUB", b"MSG", b"HMSG"})


class Published(NamedTuple):
    """A message that asked for an answer."""

    subject: str
    commits: bool
    """Whether it ends a batch."""


class Frame(NamedTuple):
    """One frame as it travels, and what it answers if that is known."""

    raw: bytes
    words: tuple[bytes, ...] = ()
    """Of its line. Empty: the bytes were not looked into."""

    body: int = 0
    """Where in `raw` headers and data begin."""

    answers: Published | None = None

    @property
    def kind(self) -> bytes:
        """The first word: INFO, PUB, HMSG, ... Empty: not looked into."""
        return self.words[0] if self.words else b""

    @property
    def is_message(self) -> bool:
        """Whether it carries headers and data."""
        return self.kind in _WITH_BODY

    @property
    def subject(self) -> str:
        """What a message was published to; empty for everything else."""
        return self.words[1].decode() if self.is_message else ""

    @property
    def reply(self) -> str:
        """Where a message wants its answer; empty: nowhere."""
        if not self.is_message:
            return ""
        # PUB subject [reply] size, and one word more for the headers' size and for a subscription's number
        at = 2 + self.kind.endswith(b"MSG")
        return self.words[at].decode() if len(self.words) > at + 1 + self.kind.startswith(b"H") else ""

    @property
    def head(self) -> bytes:
        """A message's headers."""
        size = int(self.words[-2]) if self.is_message and self.kind.startswith(b"H") else 0
        return self.raw[self.body : self.body + size]

    @property
    def data(self) -> bytes:
        """A message's data."""
        return self.raw[self.body + len(self.head) : -2] if self.is_message else b""


class Frames:
    """Cuts what comes in one way on one connection. Raises ValueError over what is not NATS."""

    def __init__(self) -> None:
        self._rest = b""
        self._parts: list[bytes] = []
        self._missing = 0

    def of(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now; the rest waits for more."""
        self._parts.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return
        data = b"".join(self._parts)
        at = 0
        while True:
            line_end = data.find(_END, at)
            if line_end < 0:
                self._missing = 1
                break
            words = tuple(data[at:line_end].split())
            kind = words[0].upper() if words else b""
            body = stop = line_end + 2
            if kind in _WITH_BODY:
                stop = body + int(words[-1]) + 2
            if stop > len(data):
                self._missing = stop - len(data)
                break
            yield Frame(data[at:stop], (kind, *words[1:]), body - at)
            at = stop
        self._parts = [data[at:]]


def is_ack(frame: Frame) -> bool:
    """Whether the log says that it has stored something."""
    return frame.answers is not None and b'"seq"' in frame.data and b'"error"' not in frame.data


def is_batch_ack(frame: Frame) -> bool:
    """Whether the log says that it has stored a batch."""
    return is_ack(frame) and frame.answers is not None and frame.answers.commits


def is_single_ack(frame: Frame) -> bool:
    """Whether the log says that it has stored one message."""
    return is_ack(frame) and not is_batch_ack(frame)


def is_append(frame: Frame) -> bool:
    """Whether a client stores something: the message that wants the answer, so the last one of a batch."""
    return frame.kind in (b"PUB", b"HPUB") and frame.reply != "" and not frame.subject.startswith(("$", "_INBOX"))


def is_delivery(frame: Frame) -> bool:
    """Whether a consumer delivers a message of the log."""
    return frame.kind in (b"MSG", b"HMSG") and frame.reply.startswith("$JS.ACK.")


def anonymous(info: Frame) -> Frame:
    """What a server says of itself, without the addresses of the others: a client would go to them directly."""
    said = orjson.loads(info.raw.partition(b" ")[2])
    for addresses in ("connect_urls", "ws_connect_urls"):
        said.pop(addresses, None)
    return info._replace(raw=b"INFO %b\r\n" % orjson.dumps(said))
