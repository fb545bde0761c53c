"""What flows on one connection to NATS once it is made: messages in as they come, bytes out in one write.

The protocol is the server's documented client protocol (PUB, HPUB, SUB, UNSUB, MSG, HMSG, PING, PONG, INFO, -ERR).
How a connection is made, and made again, is `jetstream_link.py`'s business.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple, cast

import orjson

from hocket.log.wire import Frame, headers_of

LINE_BYTES_MAX = 1 << 16
"""The longest line that is waited for: what a server says of itself is the longest, at some kilobytes."""

MESSAGE_BYTES_MAX = 1 << 27
"""A message of more than this is no message: no server takes so much."""

UNSENT_BYTES_MAX = 8 << 20
"""With more than this unsent the server is too slow, and nothing more is taken; one append may come on top."""

PING_TICKS = 4
PINGS_OPEN_MAX = 2
"""With a tick each half second a paused server is noticed in 6 s."""

_END = b"\r\n"
_DELIVERY = (b"HMSG ", b"MSG ")


class Received(NamedTuple):
    """A message as it came in."""

    subject: str
    reply: str
    data: bytes
    head: bytes
    """The headers' bytes; empty: it has none."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Read anew each time; a status line becomes `Status` and `Description`."""
        return headers_of(self.head)


Receive = Callable[[Received], None]
"""Takes a message. It must not raise."""


class Connection(asyncio.Protocol):
    """One connection, from the end of the handshake on. Lost once, it stays lost.

    `heed` hears of what the server does not allow, `lose` why the connection has ended; neither may raise.
    """

    def __init__(self, heed: Callable[[str], None], lose: Callable[[str], None], *, payload_max: int) -> None:
        self.payload_max = payload_max
        """The server's limit of one message, headers and data, in bytes."""

        self.ended = asyncio.Event()
        self.holds: object = None
        """What has to live as long as the connection."""

        self._heed = heed
        self._lose = lose
        self._transport: asyncio.WriteTransport | None = None
        self._receivers: dict[bytes, Receive] = {}
        self._numbers = count(1)
        self._parts: list[bytes] = []
        self._missing = 0
        self._paused = False
        self._ticks = 0
        self._pings = 0

    @property
    def up(self) -> bool:
        """Whether what is written now has a chance to arrive."""
        return self._transport is not None and not self._transport.is_closing() and not self.ended.is_set()

    @property
    def flowing(self) -> bool:
        """Whether it is up, and the server takes what is sent."""
        return self.up and not self._paused

    def send(self, frames: Sequence[Frame], reply: str = "") -> None:
        """Write messages next to each other; what answers the last one goes to `reply`."""
        self._write(encoded(frames, reply))

    def subscribe(self, subject: str, receive: Receive) -> bytes:
        """Have what is published to a subject received; returns what `unsubscribe` wants."""
        number = b"%d" % next(self._numbers)
        self._receivers[number] = receive
        self._write(b"SUB %b %b\r\n" % (subject.encode(), number))
        return number

    def unsubscribe(self, number: bytes) -> None:
        """Receive no more; what is on its way is dropped."""
        if self._receivers.pop(number, None) and self.up:
            self._write(b"UNSUB %b\r\n" % number)

    def tick(self) -> None:
        """Ask for a sign of life now and then, and end what gives none.

        Counted in ticks, so that a stalled process does not take its own silence for the server's.
        """
        self._ticks += 1
        if self._ticks % PING_TICKS == 0 and self.up:
            if self._pings == PINGS_OPEN_MAX:
                self.cut("the server is silent")
            else:
                self._pings += 1
                self._write(b"PING\r\n")

    def close(self) -> None:
        """Send what is left, and hang up."""
        if self._transport is not None:
            self._transport.close()

    def cut(self, reason: str) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()
        self._end(reason)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's have the methods and not the class
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._end(str(exc) if exc else "the connection was lost")

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._paused = True

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._paused = False

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. What is not whole yet waits in parts, so that a large message is joined once."""
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        try:
            used, self._missing = self._read(data)
        except (ValueError, IndexError) as error:
            self.cut(f"not understood: {error}")
            return
        if used < len(data):
            self._parts.append(data[used:])

    def _read(self, data: bytes) -> tuple[int, int]:
        """Take all that is whole; return how much that was, and how much more the next needs at least."""
        at, end = 0, len(data)
        while True:
            line_end = data.find(_END, at)
            if line_end < 0:
                if end - at > LINE_BYTES_MAX:
                    raise ValueError(f"a line of more than {LINE_BYTES_MAX} bytes")
                return at, 1
            start = line_end + 2
            if not data.startswith(_DELIVERY, at):
                self._obey(data[at:line_end])
                at = start
                continue
            # MSG subject number [reply] size, or HMSG subject number [reply] size-of-headers size
            words = data[at:line_end].split()
            headed = len(words[0]) == 4
            body = start + int(words[-2]) if headed else start
            stop = start + int(words[-1])
            if not start <= body <= stop <= start + MESSAGE_BYTES_MAX:
                raise ValueError(repr(data[at:line_end][:200]))
            if stop + 2 > end:
                return at, stop + 2 - end
            receive = self._receivers.get(words[2])
            if receive is not None:
                reply = words[3].decode() if len(words) == 5 + headed else ""
                receive(Received(words[1].decode(), reply, data[body:stop], data[start:body]))
            at = stop + 2

    def _obey(self, line: bytes) -> None:
        """What is no message."""
        word, _, rest = line.partition(b" ")
        match word.upper():
            case b"PING":
                self._write(b"PONG\r\n")
            case b"PONG":
                self._pings = 0
            case b"+OK":
                pass
            case b"INFO":
                about: dict[str, Any] = orjson.loads(rest)
                self.payload_max = int(about.get("max_payload", self.payload_max))
            case b"-ERR":
                said = rest.decode(errors="replace").strip().strip("'")
                if "permissions violation" in said.lower():
                    self._heed(said)
                else:  # the server hangs up after it
                    self.cut(said)
            case _:
                raise ValueError(repr(line[:60]))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _end(self, reason: str) -> None:
        """Only the first reason counts."""
        if not self.ended.is_set():
            self.ended.set()
            self._lose(reason)


def encoded(frames: Sequence[Frame], reply: str = "") -> bytes:
    """Messages as they go over the wire. Subjects have been checked: nothing is escaped here."""
    parts: list[bytes] = []
    last = len(frames) - 1
    for i, (subject, data, head) in enumerate(frames):
        to = f"{subject} {reply}" if reply and i == last else subject
        size = len(data)
        if head:
            parts += (f"HPUB {to} {len(head)} {len(head) + size}\r\n".encode(), head, data, _END)
        else:
            parts += (f"PUB {to} {size}\r\n".encode(), data, _END)
    return b"".join(parts)
