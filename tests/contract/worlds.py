"""The two logs under one roof: how a test opens them, and what it can do to them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence, Sized
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Protocol

from hocket.errors import OutcomeUnknown, Unavailable
from hocket.log.base import Consumption, Log, Message, Seq, Write
from hocket.log.jetstream import JetStreamLog, connect
from hocket.log.memory import Faults, MemoryLog, MemoryServer
from hocket.log.server import EmbeddedServer

ROOM = 1 << 26
"""Small, so that many domains fit on one server."""


class World(Protocol):
    """A log's surroundings."""

    @property
    def log(self) -> Log:
        """The log as the first client sees it."""
        ...

    def subject(self, tail: str) -> str:
        """A subject of the log."""
        ...

    async def connect(self) -> Log:
        """The log as another client sees it."""
        ...

    async def pass_time(self, span_s: float) -> None:
        """Let the log grow older; a real one does that by itself, so it may return at once."""
        ...

    async def delete_consumer(self, name: str) -> None:
        """Delete a durable consumer behind the log's back."""
        ...

    def unanswered(self) -> AbstractAsyncContextManager[None]:
        """While this lasts, what the first client sends gets no answer."""
        ...

    async def crash(self) -> None:
        """End the server."""
        ...

    async def recover(self) -> None:
        """Start it again."""
        ...


class MemoryWorld:
    """The twin."""

    def __init__(self, domain: str, room: int) -> None:
        self._clock = _SettableClock()
        self._server = MemoryServer(domain=domain, bytes_max=room, clock=self._clock)
        self._faults = Faults()
        self._domain = domain
        self.log: MemoryLog = self._server.connect(self._faults)

    def subject(self, tail: str) -> str:
        return f"{self._domain}.0.{tail}"

    async def connect(self) -> Log:
        return self._server.connect()

    async def pass_time(self, span_s: float) -> None:
        self._clock.at_s += span_s

    async def delete_consumer(self, name: str) -> None:
        self._server.delete_consumer(name)

    @asynccontextmanager
    async def unanswered(self) -> AsyncIterator[None]:
        self._faults.lose_answer = 1.0
        try:
            yield
        finally:
            self._faults.lose_answer = 0.0

    async def crash(self) -> None:
        self._server.stop()

    async def recover(self) -> None:
        self._server.start()


def stopped(pid: int) -> bool:
    """Whether every thread of a process has stopped; where nobody can tell, it is taken for granted."""
    states = [task.read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) <= {"T"}


class _SettableClock:
    at_s = 1_767_225_600.0

    def now_s(self) -> float:
        return self.at_s


class JetStreamWorld:
    """A stream on a server, which may be shared: only one's own can crash."""

    log: JetStreamLog

    def __init__(self, url: str, domain: str, room: int, stack: AsyncExitStack, own: EmbeddedServer | None):
        self._url, self._domain, self._room = url, domain, room
        self._stack, self._own = stack, own

    def subject(self, tail: str) -> str:
        return f"{self._domain}.0.{tail}"

    async def connect(self) -> JetStreamLog:
        opening = connect(self._url, domain=self._domain, max_bytes=self._room)
        [log] = await self._stack.enter_async_context(opening)
        return log

    async def pass_time(self, span_s: float) -> None:
        """It passes anyway."""

    async def delete_consumer(self, name: str) -> None:
        await self.log._api.ask(f"CONSUMER.DELETE.{self.log.stream}.{name}", None, soon())

    @asynccontextmanager
    async def unanswered(self) -> AsyncIterator[None]:
        assert self._own
        self._own.pause()
        try:
            # Its threads stop one by one, and until then one may answer.
            async with asyncio.timeout(10):
                while not stopped(self._own.pid):  # noqa: ASYNC110 - nobody tells us of what happens there
                    await asyncio.sleep(0.001)
            yield
        finally:
            self._own.resume()

    async def crash(self) -> None:
        assert self._own
        await self._own.kill()

    async def recover(self) -> None:
        assert self._own
        await self._own.restart()


@asynccontextmanager
async def opened(kind: str, domain: str, *, url: str | None, room: int = ROOM) -> AsyncIterator[World]:
    """A world of one kind; without a URL a real one has a server of its own."""
    if kind == "memory":
        yield MemoryWorld(domain, room)
        return
    async with AsyncExitStack() as stack:
        own = None if url else await stack.enter_async_context(EmbeddedServer(None))
        world = JetStreamWorld(own.url if own else url or "", domain, room, stack, own)
        world.log = await world.connect()
        yield world


def soon() -> float:
    """A deadline for what should take no time."""
    return asyncio.get_running_loop().time() + 5


async def until(true: Callable[[], Awaitable[bool]], *, within_s: float = 10.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(within_s):
        while not await true():  # noqa: ASYNC110  # it is the server's state that is waited for
            await asyncio.sleep(0.01)


async def reached(sized: Sized, size: int) -> None:
    """Wait until a collection has grown, and not a moment longer."""
    async with asyncio.timeout(20):
        while len(sized) < size:  # noqa: ASYNC110  # the tests then strike in the middle of the work
            await asyncio.sleep(0)


async def scanned(log: Log, filters: Sequence[str], *, start: int = 1) -> list[Message]:
    """All that a scan yields."""
    async with asyncio.timeout(10), aclosing(log.scan(filters, start=start)) as messages:
        return [message async for message in messages]


async def taken(consumption: Consumption, number: int) -> list[Message]:
    """So many deliveries."""
    got: list[Message] = []
    async with asyncio.timeout(10):
        while len(got) < number:
            got += await consumption.take(number - len(got))
    return got


async def surely(log: Log, write: Write) -> Seq:
    """Append one write, expected to be the first of its subject, through whatever happens meanwhile."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await log.append([write], timeout_s=2.0)
            except Unavailable:
                await asyncio.sleep(0.01)
            except OutcomeUnknown:
                stored = await _last(log, write.subject)
                if stored:
                    return stored.seq


async def _last(log: Log, subject: str) -> Message | None:
    while True:
        try:
            return await log.last(subject)
        except Unavailable:
            await asyncio.sleep(0.01)
