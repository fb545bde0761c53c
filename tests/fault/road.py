"""The road between a client and a server: what each way does to frames, and the connections that travel on it."""

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum

from tests.fault.frames import Frame, Frames, Published, anonymous, is_append

READ_BYTES = 1 << 14
QUEUE_PIECES = 16
"""So much waits in the proxy; then it stops to read, as a network does that is full."""

PIECES_A_SECOND = 20
"""In how many pieces a throttled way sends what it may."""

ASKED_MAX = 10_000
"""So many messages without an answer are remembered for a connection."""

_RESET = struct.pack("ii", 1, 0)
"""To linger for no time: what hangs up then resets."""


class Way(Enum):
    """Which way bytes go."""

    UP = "to the server"
    DOWN = "to the client"


Matches = Callable[[Frame], bool]


class Strike:
    """A fault that falls once: on the next frame that matches, on any connection."""

    def __init__(self, matches: Matches, act: Callable[["Line", Frame], bytes]) -> None:
        self.frame: Frame | None = None
        """What it fell on; None: it has not fallen."""

        self.matches = matches
        self._act = act
        self._fell = asyncio.Event()

    def fall(self, line: "Line", frame: Frame) -> bytes:
        """Strike; return what is passed on instead."""
        self.frame = frame
        self._fell.set()
        return self._act(line, frame)

    async def landed(self, within_s: float = 10.0) -> Frame:
        """Wait until it has fallen; return on what. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            await self._fell.wait()
        assert self.frame
        return self.frame


class Kept:
    """Frames that are held back, in their order."""

    def __init__(self, matches: Matches) -> None:
        self.frames: list[Frame] = []
        self.matches = matches
        self._lines: list[Line] = []
        self._more = asyncio.Event()

    def keep(self, line: "Line", frame: Frame) -> bytes:
        """Hold one back."""
        self.frames.append(frame)
        self._lines.append(line)
        self._more.set()
        return b""

    async def grown(self, size: int, within_s: float = 10.0) -> None:
        """Wait until so many are held. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while len(self.frames) < size:
                self._more.clear()
                await self._more.wait()

    def release(self, way: Way) -> None:
        """Let them go on; those whose connection is over are lost."""
        for line, frame in zip(self._lines, self.frames, strict=True):
            line.flows[way].put(frame.raw)


class Road:
    """The state of one way, for all connections."""

    def __init__(self, rng: random.Random) -> None:
        self.delays: list[tuple[float, float]] = []
        self.rates: list[int] = []
        self.strikes: list[Strike] = []
        self.kept: list[Kept] = []
        self.open = asyncio.Event()
        self.open.set()
        self._closed = 0
        self._rng = rng

    def close(self, by: int) -> None:
        """Close or open it; it is open when it was opened as often as closed."""
        self._closed += by
        if self._closed:
            self.open.clear()
        else:
            self.open.set()

    def delay_s(self) -> float:
        """How long what comes now is under way."""
        return sum(max(0.0, delay_s + self._rng.uniform(-1, 1) * jitter_s) for delay_s, jitter_s in self.delays)

    def through(self, line: "Line", frame: Frame) -> bytes:
        """What is passed on of a frame."""
        for strike in self.strikes:
            if strike.matches(frame):
                self.strikes.remove(strike)
                return strike.fall(line, frame)
        for kept in self.kept:
            if kept.matches(frame):
                return kept.keep(line, frame)
        return frame.raw


class Line:
    """One client's connection through the proxy."""

    def __init__(
        self,
        roads: dict[Way, Road],
        up: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        down: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        *,
        frames: bool,
    ) -> None:
        self.frames = frames
        self.flows = {
            Way.UP: Flow(self, roads[Way.UP], *up),
            Way.DOWN: Flow(self, roads[Way.DOWN], *down),
        }
        self._writers = (up[1], down[1])
        self._asked: dict[str, Published] = {}
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Pass bytes on until it is over."""
        async with asyncio.TaskGroup() as tasks:
            flowing = [tasks.create_task(part) for flow in self.flows.values() for part in (flow.read(), flow.write())]
            await self._over.wait()
            for each in flowing:
                each.cancel()

    def over(self, *, reset: bool = False) -> None:
        """Hang up on both sides."""
        for writer in self._writers:
            hang_up(writer, reset=reset)
        self._over.set()

    def ended(self) -> None:
        """Learn that one way has ended."""
        if all(flow.over for flow in self.flows.values()):
            self.over()

    def torn(self, way: Way, frame: Frame) -> bytes:
        """End after half of a frame."""
        self.flows[way].tearing = True
        return frame.raw[: len(frame.raw) // 2]

    def known(self, frame: Frame) -> Frame:
        """A frame, with what it answers; and what the client must not hear is left out."""
        if frame.kind == b"INFO":
            return anonymous(frame)
        if is_append(frame):
            if len(self._asked) == ASKED_MAX:
                del self._asked[next(iter(self._asked))]
            self._asked[frame.reply] = Published(frame.subject, b"\r\nNats-Batch-Commit:" in frame.head)
        elif frame.kind in (b"MSG", b"HMSG"):
            return frame._replace(answers=self._asked.pop(frame.subject, None))
        return frame


class Flow:
    """One way of one connection: what is read waits its time in a queue, and is written then."""

    def __init__(self, line: Line, road: Road, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.over = False
        self.tearing = False
        """Whether what is read next is the last."""

        self._line, self._road, self._reader, self._writer = line, road, reader, writer
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._room = asyncio.Semaphore(QUEUE_PIECES)
        self._due_s = 0.0

    async def read(self) -> None:
        """Take what comes, frame by frame, until its end; an empty piece stands for that."""
        frames = Frames()
        while not self.tearing:
            try:
                data = await self._reader.read(READ_BYTES)
            except OSError:
                data = b""
            if not data:
                break
            if passed := b"".join(self._through(frames, data)):
                await self._room.acquire()
                self.put(passed)
        self.put(b"")

    def put(self, piece: bytes) -> None:
        """Queue a piece. What was held back before may come on top of what the queue has room for."""
        self._due_s = max(self._due_s, asyncio.get_running_loop().time() + self._road.delay_s())
        self._queue.put_nowait((self._due_s, piece))

    async def write(self) -> None:
        """Give what has waited its time, as far as the way is open."""
        while True:
            due_s, piece = await self._queue.get()
            self._room.release()
            if (wait_s := due_s - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(wait_s)
            await self._road.open.wait()
            if not piece:
                break
            try:
                await self._give(piece)
            except OSError:
                self._writer.transport.abort()  # nobody listens: the rest is taken and dropped
        if self.tearing:
            self._line.over(reset=True)
            return
        self.over = True
        self._writer.close()
        self._line.ended()

    def _through(self, frames: Frames, data: bytes) -> Iterator[bytes]:
        if not self._line.frames:
            yield data
            return
        for frame in frames.of(data):
            yield self._road.through(self._line, self._line.known(frame))
            if self.tearing:
                return

    async def _give(self, piece: bytes) -> None:
        """Write, as slowly as it has to be, for as long as somebody listens."""
        at = 0
        while at < len(piece) and not self._writer.transport.is_closing():
            rate = min(self._road.rates, default=0)
            part = piece[at : at + max(1, rate // PIECES_A_SECOND)] if rate else piece[at:]
            self._writer.write(part)
            await self._writer.drain()
            at += len(part)
            if rate:
                await asyncio.sleep(len(part) / rate)


def hang_up(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Hang up; what was written goes out before, as far as the other side takes it."""
    if not reset:
        writer.close()
        return
    with suppress(OSError):  # it is closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
