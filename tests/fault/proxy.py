"""A network that fails on purpose: a TCP proxy between one client and a NATS server, that knows what they say.

```python
async with proxied(server.url) as proxy, connect(proxy.url) as [log]:
    async with proxy.delayed(0.1, jitter_s=0.05):     # lasts as long as the block
        ...
    strike = proxy.swallow_ack()                      # once, when there is one
    await strike.landed()
```

For a cluster there is one proxy with a door for each server, in their order; a fault strikes at all doors.
"""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from enum import Enum
from urllib.parse import urlsplit

from tests.fault.frames import (
    Frame,
    Frames,
    Published,
    anonymous,
    is_ack,
    is_append,
    is_batch_ack,
    is_delivery,
    is_single_ack,
)

from hocket.beside import beside

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

    def __init__(self, matches: Matches, act: Callable[["_Line", Frame], bytes]) -> None:
        self.frame: Frame | None = None
        """What it fell on; None: it has not fallen."""

        self.matches = matches
        self._act = act
        self._fell = asyncio.Event()

    def fall(self, line: "_Line", frame: Frame) -> bytes:
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
        self._lines: list[_Line] = []
        self._more = asyncio.Event()

    def keep(self, line: "_Line", frame: Frame) -> bytes:
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

    def through(self, line: "_Line", frame: Frame) -> bytes:
        """What is passed on of a frame."""
        for strike in self.strikes:
            if strike.matches(frame):
                self.strikes.remove(strike)
                return strike.fall(line, frame)
        for kept in self.kept:
            if kept.matches(frame):
                return kept.keep(line, frame)
        return frame.raw


class Proxy:
    """Passes on what clients and servers say, unless a fault is asked for.

    Faults may overlap. Those that last are context managers, and over at the end of the block; those that fall once
    are methods. What the network holds back in between is not lost, as with TCP: it comes later, or never.
    """

    def __init__(self, *, frames: bool, seed: int) -> None:
        self.url = ""
        """Where clients connect to."""

        self.connections = 0
        """How many it has let in."""

        self.frames = frames
        self.roads = {way: Road(random.Random(f"{seed} {way}")) for way in Way}
        self._cuts: set[object] = set()
        self._lines: set[_Line] = set()

    def cut(self) -> None:
        """Break every connection, and let nobody in until it is mended."""
        self._cuts.add("by hand")
        self.reset()

    def mend(self) -> None:
        """Let connections in again."""
        self._cuts.discard("by hand")

    @asynccontextmanager
    async def cut_off(self) -> AsyncIterator[None]:
        """Break every connection, and let nobody in."""
        mark = object()
        self._cuts.add(mark)
        self.reset()
        try:
            yield
        finally:
            self._cuts.discard(mark)

    def hang_up(self) -> None:
        """End every connection in good order: both sides see its end, and may connect again."""
        for line in tuple(self._lines):
            line.over()

    def reset(self) -> None:
        """End every connection by a reset."""
        for line in tuple(self._lines):
            line.over(reset=True)

    def tear(self, way: Way = Way.UP, matches: Matches = is_append) -> Strike:
        """Pass on the first half of the next such frame, then reset its connection."""
        return self._strike(way, matches, lambda line, frame: line.torn(way, frame))

    def swallow_ack(self, *, batch: bool | None = None, subject: str = "") -> Strike:
        """Drop the next answer that says that something was stored: of a batch, of one message, or (None) of either.

        With `subject` only if what was stored has that in its subject.
        """
        matches = is_ack if batch is None else is_batch_ack if batch else is_single_ack
        return self._strike(
            Way.DOWN,
            lambda frame: matches(frame) and frame.answers is not None and subject in frame.answers.subject,
            lambda line, frame: b"",
        )

    def duplicate_delivery(self, matches: Matches = is_delivery) -> Strike:
        """Pass on the next delivery of a consumer twice."""
        return self._strike(Way.DOWN, matches, lambda line, frame: 2 * frame.raw)

    def forget(self, strike: Strike) -> None:
        """Call off a strike that has not fallen."""
        for road in self.roads.values():
            if strike in road.strikes:
                road.strikes.remove(strike)

    @asynccontextmanager
    async def silent(self, way: Way) -> AsyncIterator[None]:
        """Cut one way: nothing gets through it, not even the end of a connection; the other way works."""
        road = self.roads[way]
        road.close(+1)
        try:
            yield
        finally:
            road.close(-1)

    @asynccontextmanager
    async def delayed(
        self, delay_s: float, *, jitter_s: float = 0.0, ways: tuple[Way, ...] = tuple(Way)
    ) -> AsyncIterator[None]:
        """Let everything be under way for longer; what went first arrives first."""
        wait = (delay_s, jitter_s)
        for way in ways:
            self.roads[way].delays.append(wait)
        try:
            yield
        finally:
            for way in ways:
                self.roads[way].delays.remove(wait)

    @asynccontextmanager
    async def throttled(self, bytes_a_second: int, *, ways: tuple[Way, ...] = tuple(Way)) -> AsyncIterator[None]:
        """Let no more through than so much on each connection, each way."""
        for way in ways:
            self.roads[way].rates.append(bytes_a_second)
        try:
            yield
        finally:
            for way in ways:
                self.roads[way].rates.remove(bytes_a_second)

    @asynccontextmanager
    async def held(self, way: Way, matches: Matches) -> AsyncIterator[Kept]:
        """Hold back such frames, while all others pass; at the end they go on, in their order."""
        kept, road = Kept(matches), self.roads[way]
        road.kept.append(kept)
        try:
            yield kept
        finally:
            road.kept.remove(kept)
            kept.release(way)

    @asynccontextmanager
    async def flapping(self, *, down_s: float, up_s: float) -> AsyncIterator[None]:
        """Break every connection, let them in again, and so on."""
        async with beside(self._flap(down_s, up_s)):
            yield

    async def _flap(self, down_s: float, up_s: float) -> None:
        while True:
            async with self.cut_off():
                await asyncio.sleep(down_s)
            await asyncio.sleep(up_s)

    def _strike(self, way: Way, matches: Matches, act: Callable[["_Line", Frame], bytes]) -> Strike:
        strike = Strike(matches, act)
        self.roads[way].strikes.append(strike)
        return strike

    async def serve(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what one client and the server say, until both have hung up."""
        there: asyncio.StreamWriter | None = None
        try:
            if self._cuts:
                return
            there_reader, there = await asyncio.open_connection("127.0.0.1", port)
            if self._cuts:
                return
            self.connections += 1
            line = _Line(self, (reader, there), (there_reader, writer))
            self._lines.add(line)
            try:
                await line.run()
            finally:
                self._lines.discard(line)
        except OSError:
            pass  # the server is away
        finally:
            for each in (writer, there):
                if each is not None:
                    _end(each, reset=True)


class _Line:
    """One client's connection through the proxy."""

    def __init__(
        self,
        proxy: Proxy,
        up: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        down: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.frames = proxy.frames
        self.flows = {
            Way.UP: _Flow(self, proxy.roads[Way.UP], *up),
            Way.DOWN: _Flow(self, proxy.roads[Way.DOWN], *down),
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
            _end(writer, reset=reset)
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


class _Flow:
    """One way of one connection: what is read waits its time in a queue, and is written then."""

    def __init__(self, line: _Line, road: Road, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
        """Write, as slowly as it has to be."""
        at = 0
        while at < len(piece):
            rate = min(self._road.rates, default=0)
            part = piece[at : at + max(1, rate // PIECES_A_SECOND)] if rate else piece[at:]
            self._writer.write(part)
            await self._writer.drain()
            at += len(part)
            if rate:
                await asyncio.sleep(len(part) / rate)


def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Hang up; what was written goes out before, as far as the other side takes it."""
    if not reset:
        writer.close()
        return
    with suppress(OSError):  # it is closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@asynccontextmanager
async def proxied(url: str, *, frames: bool = True, seed: int = 0) -> AsyncIterator[Proxy]:
    """A proxy to a server, or to several whose URLs are separated by commas, for as long as the block lasts.

    Without `frames` the bytes are not looked into: for TLS, and for what servers say to each other. What matches
    frames never strikes then. The seed decides the jitter.
    """
    proxy = Proxy(frames=frames, seed=seed)
    urls = []
    async with AsyncExitStack() as doors:
        for each in url.split(","):
            urls.append(await doors.enter_async_context(_door(proxy, each)))
        proxy.url = ",".join(urls)
        yield proxy


@asynccontextmanager
async def _door(proxy: Proxy, url: str) -> AsyncIterator[str]:
    """Where clients of one server come in."""
    port = urlsplit(url).port
    assert port, f"{url} names no port"
    callers: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def receive() -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(proxy.serve(port, *await callers.get()))

    def called(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.put_nowait((reader, writer))

    async with beside(receive()):
        server = await asyncio.start_server(called, "127.0.0.1", 0)
        try:
            yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            proxy.cut()
            await server.wait_closed()
            while not callers.empty():
                _end(callers.get_nowait()[1], reset=True)


__all__ = ["Kept", "Proxy", "Strike", "Way", "proxied"]
