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
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from tests.fault.frames import Frame, is_ack, is_append, is_batch_ack, is_delivery, is_single_ack
from tests.fault.road import Kept, Line, Matches, Road, Strike, Way, hang_up

from hocket.beside import beside


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

        self._frames = frames
        self.roads = {way: Road(random.Random(f"{seed} {way}")) for way in Way}
        self._cuts: set[object] = set()
        self._lines: set[Line] = set()

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

    def notice(self, way: Way, matches: Matches) -> Strike:
        """Let the next such frame pass, and have it told."""
        return self._strike(way, matches, lambda line, frame: frame.raw)

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

    def _strike(self, way: Way, matches: Matches, act: Callable[["Line", Frame], bytes]) -> Strike:
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
            line = Line(self.roads, (reader, there), (there_reader, writer), frames=self._frames)
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
                    hang_up(each, reset=True)


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
                hang_up(callers.get_nowait()[1], reset=True)


__all__ = ["Kept", "Proxy", "Strike", "Way", "proxied"]
