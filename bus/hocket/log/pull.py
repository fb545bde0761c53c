"""What one consumer delivers to one reader: in log order, each message once, or an end with a reason.

The reader asks for a number of messages ahead (a pull), so that a message is sent the moment it exists, and
asks for no more while it holds more than a pull's worth. While a pull is open the server says every second
that it is still there; the numbers that it counts deliveries with show every gap.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import orjson

from hocket.errors import ConsumerLost
from hocket.log.base import Message, Seq
from hocket.log.connection import Received
from hocket.log.jetstream_link import TICK_S, Channel
from hocket.log.wire import first_stored, headers_of, own_headers

PULL_MESSAGES = 512
"""How many messages one pull asks for at most."""

PULL_MESSAGES_FIRST = 32
PULL_MESSAGES_LEAST = 8
PULL_QUICK_S = 0.25
PULL_SLOW_S = 1.0
"""Pulls begin small. When half of one was here that soon, the next is twice as large; when it took that long, half as
large. On a slow line what is asked for ahead is in the way of every answer: all reads would miss their deadlines."""

PULL_BYTES = 4 << 20
"""How many bytes one pull asks for at most; well above the largest message."""

PULL_S = 30
"""How long a pull stays open."""

HEARTBEAT_S = 1
"""How often the server speaks while it has nothing to deliver."""

SILENCE_S = 2.5
"""After so long without a word a consumer is lost. Counted in ticks, so that a stalled process, which has
not listened, does not take its own silence for the server's."""

ACK_EVERY_S = 0.02
"""Acknowledgements are sent no more often; a newer one covers the older ones."""

_ACK = b"+ACK"
_PULL = {
    "max_bytes": PULL_BYTES,
    "expires": PULL_S * 1_000_000_000,
    "idle_heartbeat": HEARTBEAT_S * 1_000_000_000,
}
_PULL_OVER = frozenset({"Batch Completed", "Message Size Exceeds MaxBytes"})
_TICKS_SILENT_MAX = int(SILENCE_S / TICK_S)


class Position(NamedTuple):
    """What the server writes into the subject that a delivery is acknowledged to."""

    delivered: int
    """How often this message was delivered, from 1."""

    seq: int
    nth: int
    """The how manieth delivery of this consumer it is, from 1."""

    time_ns: int
    pending: int


def position(ack_subject: str) -> Position | None:
    """Read an acknowledgement subject, of the short form or of the one with domain and account."""
    tokens = ack_subject.split(".")
    if tokens[:2] != ["$JS", "ACK"] or len(tokens) < 9:
        return None
    first = 4 if len(tokens) == 9 else 6
    try:
        return Position(*map(int, tokens[first : first + 5]))
    except (TypeError, ValueError):
        return None


class Deliveries:
    """The reading end of one incarnation of a consumer. Lost once, it stays lost: make another.

    With `raw` it hands out all headers and the server's own stamps of time.
    """

    def __init__(
        self,
        stream: str,
        consumer: str,
        *,
        acks: bool,
        total: Callable[[], Awaitable[int]] | None = None,
        raw: bool = False,
    ) -> None:
        self.consumer = consumer
        self._raw = raw
        self.request = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._acks = acks
        self._total = total
        self._channel: Channel | None = None
        self._buffer: deque[Message] = deque()
        self._buffer_bytes = 0
        self._unfinished: deque[tuple[Seq, str]] = deque()
        self._owed = ""
        self._ack_after_s = 0.0
        self._open = 0
        """How many more messages the open pulls allow the server to send."""

        self._size = PULL_MESSAGES_FIRST
        """How many the next pull asks for."""

        self._asked_s = 0.0
        self._asked_nth = 0
        """Of the last pull: when, and after which delivery."""

        self._nth = 0
        self._seq = 0
        self._silent_ticks = 0
        self._idle = False
        self._lost: str | None = None
        self._woken: asyncio.Future[None] | None = None

    @property
    def received(self) -> int:
        """How many deliveries have come, taken or not."""
        return self._nth

    async def begin(self, channel: Channel) -> None:
        """Send the first pull."""
        self._channel = channel
        self._pull()

    async def take(self, most: int, *, idle: bool = False) -> list[Message]:
        """Wait for deliveries; return between 1 and `most`, in log order. One caller at a time.

        With `idle` it also returns, empty, when the server says that it has nothing to deliver now.
        Raises ConsumerLost.
        """
        while True:
            if self._lost is not None:
                raise ConsumerLost(f"{self.consumer}: {self._lost}")
            self._pull()
            if self._buffer:
                taken = [self._buffer.popleft() for _ in range(min(most, len(self._buffer)))]
                self._buffer_bytes -= sum(len(message.data) for message in taken)
                return taken
            if idle and self._idle:
                self._idle = False
                return []
            self._woken = asyncio.get_running_loop().create_future()
            try:
                await self._woken
            finally:
                self._woken = None

    async def pending(self) -> int:
        """How many deliveries wait that were not taken yet, as the server says. Raises Unavailable."""
        assert self._total is not None, "whoever shows a lag has said where to ask for it"
        total = await self._total()
        return total - (self._nth - len(self._buffer))

    async def ack(self, floor: Seq) -> None:
        """Tell the server that everything up to `floor` is finished, now or a moment later."""
        unfinished = self._unfinished
        while unfinished and unfinished[0][0] <= floor:
            self._owed = unfinished.popleft()[1]
        if asyncio.get_running_loop().time() >= self._ack_after_s:
            self.flush()

    def flush(self) -> None:
        """Send the acknowledgement that is owed, if any."""
        if self._owed and self._channel:
            owed, self._owed = self._owed, ""
            self._ack_after_s = asyncio.get_running_loop().time() + ACK_EVERY_S
            self._channel.send(owed, _ACK)

    def receive(self, message: Received) -> None:
        """Take a delivery or a word of the server."""
        self._silent_ticks = 0
        at = position(message.reply) if message.reply else None
        if at is None:
            self._hear(message.headers)
        elif at.nth != self._nth + 1 or at.seq <= self._seq or at.delivered != 1:
            self.lose(f"after {self._seq} (delivery {self._nth}) came {at}")
        else:
            self._nth, self._seq = at.nth, at.seq
            self._open -= 1
            self._idle = False
            headers = headers_of(message.head) if self._raw else own_headers(message.head)
            seq = Seq(at.seq)
            self._buffer_bytes += len(message.data)
            time_ns = at.time_ns if self._raw else first_stored(headers, at.time_ns)
            self._buffer.append(Message(message.subject, seq, message.data, time_ns, headers, at.pending))
            if self._acks:
                self._unfinished.append((seq, message.reply))
            self._wake()

    def lose(self, reason: str) -> None:
        """End: whoever takes learns the reason."""
        if self._lost is None:
            self._lost = reason
            self._wake()

    def tick(self) -> None:
        """Notice silence, and send what is owed."""
        if self._open > 0:  # else the server owes us no word
            self._silent_ticks += 1
            if self._silent_ticks > _TICKS_SILENT_MAX:
                self.lose(f"silent for {SILENCE_S} s")
        self.flush()

    def _pull(self) -> None:
        """Ask for more when little is on its way and little is held."""
        much = len(self._buffer) > PULL_MESSAGES or self._buffer_bytes > PULL_BYTES
        if self._open <= self._size // 2 and not much and self._lost is None:
            self._adapt()
            self._open += self._size
            pull = orjson.dumps({"batch": self._size, **_PULL})
            if not (self._channel and self._channel.send(self.request, pull, reply=True)):
                self.lose("the connection was lost")

    def _adapt(self) -> None:
        """Ask for as many as the line brings in a moment. That few came because there were few does no harm."""
        now_s = asyncio.get_running_loop().time()
        if self._nth > self._asked_nth:
            took_s = now_s - self._asked_s
            if took_s <= PULL_QUICK_S:
                self._size = min(PULL_MESSAGES, 2 * self._size)
            elif took_s >= PULL_SLOW_S:
                self._size = max(PULL_MESSAGES_LEAST, self._size // 2)
        self._asked_s, self._asked_nth = now_s, self._nth

    def _hear(self, headers: Mapping[str, str]) -> None:
        """Understand what is no delivery: a heartbeat, the end of a pull, or the end of it all."""
        status = headers.get("Status", "")
        text = headers.get("Description", "").strip()
        if status == "100":
            if int(headers.get("Nats-Last-Consumer") or self._nth) != self._nth:
                self.lose(f"delivery {headers['Nats-Last-Consumer']} was sent, {self._nth} came last")
            self._idle = True
        elif status in ("404", "408") or (status == "409" and text in _PULL_OVER):
            self._open -= int(headers.get("Nats-Pending-Messages") or self._open)
        else:
            self.lose(f"{status} {text}".strip() or "not understood")
        self._wake()

    def _wake(self) -> None:
        if self._woken and not self._woken.done():
            self._woken.set_result(None)
