"""One connection to NATS that is replaced when it dies. The only module that imports nats.

nats-py makes the connection: addresses, TLS, authentication. Then `connection.py` takes it over, since nats-py handles
each message by itself, sends again after reconnecting what it had not sent before, and keeps a connection whose read
loop has died. So a connection's end is always the same: what was asked has an unknown outcome, what was read is lost,
what was listened to is subscribed to again on the next one.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Protocol, Self

import nats.errors
from nats.aio.client import Client

from hocket.errors import AppendTooLarge, LogError, OutcomeUnknown, PermissionDenied, Unavailable, UsageError
from hocket.log.connection import Connection, Received
from hocket.log.wire import Frame

TICK_S = 0.5
"""How often readers look for silence."""

CONNECT_S = 2.0
"""The longest for one attempt to connect."""

PAUSE_FIRST_S = 0.05
PAUSE_LONGEST_S = 0.5
"""The pauses between two attempts to connect; each is up to half as long again, at random."""

PACE_BYTES = 1 << 20
"""So much is sent ahead of what the server has read: what is small, heartbeats above all, must not wait for long."""

CLOSE_S = 1.0
"""The longest for sending what is left at the end."""

DOUBT_S = 0.9
"""After this without an answer somebody may say that none will come. Twice this, and it is said within 3 s."""

_NO_RESPONDERS = "503"
_PASSWORD = re.compile(r"//[^@/]*@")
_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"', re.IGNORECASE)


Doubt = Callable[[float], Awaitable[LogError | None]]
"""Finds out why no answer has come for so many seconds, if anybody can."""


class Reader(Protocol):
    """Who receives on a subscription. None of its methods may raise."""

    def receive(self, message: Received, /) -> None:
        """Take a message."""
        ...

    def lose(self, reason: str, /) -> None:
        """Learn that nothing more will come."""
        ...

    def tick(self) -> None:
        """Look at the time: called about twice a second while there is a connection."""
        ...


@dataclass(eq=False, slots=True)
class _Subscribed:
    """A subscription, on this connection and perhaps on later ones."""

    subject: str
    reader: Reader
    lasting: bool = False
    speaks: str = ""
    """The subject that the reader sends its own requests to."""

    number: bytes = b""
    """Of the subscription, on the connection of now."""

    def begin(self, connection: Connection) -> None:
        """Subscribe. Bounds are the reader's: it asks for no more than it can hold."""
        self.number = connection.subscribe(self.subject, self.reader.receive)


@dataclass(eq=False, slots=True)
class _Asked:
    """A request that waits for its answer."""

    inbox: str
    frames: Sequence[Frame]
    answer: asyncio.Future[Received]

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless there is an answer already."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def deny(self, denied: str) -> None:
        """Answer that a subject is not allowed, if it is one of these."""
        every_answer = f"{self.inbox.rpartition('.')[0]}.*"
        if denied in (every_answer, self.inbox, *(frame.subject for frame in self.frames)):
            self.fail(PermissionDenied(denied))


@dataclass(eq=False, slots=True)
class _Session:
    """A connection and what ends with it."""

    connection: Connection
    version: tuple[int, int, int]
    inbox: str
    asked: dict[str, _Asked] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    """Subjects that may not be subscribed to."""

    def answer(self, message: Received) -> None:
        """Hand an answer to whoever asked, if it still waits."""
        asked = self.asked.get(message.subject.rpartition(".")[2])
        if asked and not asked.answer.done():
            asked.answer.set_result(message)


@dataclass(frozen=True, eq=False, slots=True)
class Channel:
    """An inbox, and the way to speak on the connection that it belongs to."""

    inbox: str
    connection: Connection

    def send(self, subject: str, data: bytes, *, reply: bool = False) -> bool:
        """Send, and have what is answered sent to the inbox. False when the connection is gone."""
        if self.connection.up:
            self.connection.send([Frame(subject, data)], self.inbox if reply else "")
        return self.connection.up


class Link:
    """A connection to one of several servers, kept up for as long as the block lasts."""

    def __init__(self, url: str, *, name: str, inbox_prefix: str) -> None:
        self._servers = [server.strip() for server in url.split(",") if server.strip()]
        if not self._servers:
            raise UsageError("no NATS URL is given")
        self._rng = random.Random()
        self._rng.shuffle(self._servers)  # spreads the clients over a cluster
        self._name = name
        self._inbox_prefix = inbox_prefix
        self._session: _Session | None = None
        self._connected = asyncio.Event()
        self._subscribed: set[_Subscribed] = set()
        self._tokens = count()
        self._trouble = "no attempt yet"
        self._tasks = asyncio.TaskGroup()
        self._running: asyncio.Task[None] | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        """Begin to connect. Whatever is asked waits for the connection."""
        await self._tasks.__aenter__()
        self._running = self._tasks.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what is left, and close."""
        self._closing = True
        if self._running:
            self._running.cancel()
        # What the block raised is not the group's: it would come out wrapped.
        await self._tasks.__aexit__(None, None, None)

    async def server_version(self, until: float) -> tuple[int, int, int]:
        """The version of the server that we are connected to."""
        return (await self._up(until)).version

    async def ask(self, frames: Sequence[Frame], until: float, *, doubt: Doubt | None = None) -> bytes:
        """Send messages next to each other and wait for the answer to the last one.

        `until` is a time of the running loop. `doubt` is asked again and again while the answer takes long; what it
        gives is raised. Raises AppendTooLarge and PermissionDenied, Unavailable when
        nothing was sent or nobody is there to take it, and OutcomeUnknown when no answer comes.
        """
        session = await self._up(until)
        payload_max = session.connection.payload_max
        for frame in frames:
            if frame.size > payload_max:
                raise AppendTooLarge(f"{frame.size} bytes for {frame.subject}, limit {payload_max}")
        with self._asking(session, frames) as asked:
            *ahead, rest = _paced(frames)
            for part in ahead:
                session.connection.send(part)
                await self._read(session, until)
            session.connection.send(rest, asked.inbox)
            sent_s = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout_at(until):
                    while doubt is not None and not (await asyncio.wait({asked.answer}, timeout=DOUBT_S))[0]:
                        found = await doubt(asyncio.get_running_loop().time() - sent_s)
                        if found is not None:
                            asked.fail(found)
                    message = await asked.answer
            except TimeoutError:
                raise OutcomeUnknown(f"no answer in time for {frames[-1].subject}") from None
        if not message.data and message.headers.get("Status") == _NO_RESPONDERS:
            raise Unavailable(f"nobody takes {frames[-1].subject}")
        return message.data

    def tell(self, frame: Frame) -> None:
        """Send without an answer. Raises Unavailable at once when no connection takes it."""
        session = self._session
        if session is None or not session.connection.flowing:
            raise Unavailable(self._away())
        if frame.size > session.connection.payload_max:
            raise AppendTooLarge(f"{frame.size} bytes for {frame.subject}")
        session.connection.send([frame])

    @asynccontextmanager
    async def channel(self, reader: Reader, until: float, *, speaks: str) -> AsyncIterator[Channel]:
        """Open an inbox for a reader, for as long as the connection of now lasts."""
        session = await self._up(until)
        channel = Channel(f"{session.inbox}.{next(self._tokens)}.read", session.connection)
        with self._subscription(session, _Subscribed(channel.inbox, reader, speaks=speaks)):
            yield channel

    @asynccontextmanager
    async def listening(self, subject: str, reader: Reader, until: float) -> AsyncIterator[None]:
        """Subscribe, from entry on and on every connection to come. Raises PermissionDenied."""
        session = await self._up(until)
        with self._subscription(session, _Subscribed(subject, reader, lasting=True)):
            await self._round_trip(session, until)
            if subject in session.denied:
                raise PermissionDenied(subject)
            yield

    async def _run(self) -> None:
        """Keep a connection up until cancelled."""
        while True:
            session = await self._connect()
            try:
                await self._serve(session)
            finally:  # cancelled: the log is closed
                await _close(session.connection)
            self._servers.append(self._servers.pop(0))  # one that stands still would be waited for once more

    async def _serve(self, session: _Session) -> None:
        """Wait until the connection is over, and give readers the time meanwhile."""
        if session.connection.up:
            self._session = session
            self._connected.set()
        while session.connection.up:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await session.connection.ended.wait()
            session.connection.tick()
            for subscribed in tuple(self._subscribed):
                subscribed.reader.tick()

    async def _connect(self) -> _Session:
        """Try one server after the other until one takes us."""
        pause_s = PAUSE_FIRST_S
        while True:
            try:
                session = await self._establish()
            except (nats.errors.Error, OSError, TimeoutError, Unavailable, OutcomeUnknown) as error:
                if not isinstance(error, nats.errors.NoServersError):  # it would hide why there is none
                    self._trouble = str(error) or type(error).__name__
            else:
                if not self._closing:
                    return session
                session.connection.cut("the log was closed")
            if self._closing:
                # nats-py connects by `wait_for`, which loses a cancellation that comes together with the result.
                raise asyncio.CancelledError
            self._servers.append(self._servers.pop(0))
            await asyncio.sleep(pause_s * (1 + self._rng.random() / 2))
            pause_s = min(2 * pause_s, PAUSE_LONGEST_S)

    async def _establish(self) -> _Session:
        """Connect to the first server and subscribe to all that is wanted."""
        connection: Connection | None = None
        client = Client()
        try:
            async with asyncio.timeout(2 * CONNECT_S):
                await client.connect(
                    self._servers[:1],
                    name=self._name,
                    error_cb=self._report,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=CONNECT_S,  # type: ignore[arg-type]  # nats-py says int and takes any number
                    inbox_prefix=self._inbox_prefix,
                )
                version = client.connected_server_version
                connection = Connection(
                    lambda said: self._heed(session, said),
                    lambda reason: self._end(session, reason),
                    payload_max=client.max_payload,
                )
                session = _Session(connection, (version.major, version.minor, version.patch), client.new_inbox())
                await _hand_over(client, connection)
                await self._begin(session)
        except BaseException:
            await _discard(client)
            if connection is not None:
                connection.cut("it could not be set up")
            raise
        return session

    async def _begin(self, session: _Session) -> None:
        """Listen for answers, and to all that is listened to."""
        answers = f"{session.inbox}.*"
        session.connection.subscribe(answers, session.answer)
        for subscribed in tuple(self._subscribed):
            subscribed.begin(session.connection)
        await self._round_trip(session, asyncio.get_running_loop().time() + CONNECT_S)
        if answers in session.denied:
            raise Unavailable(f"not allowed to subscribe to {answers}, where answers arrive")

    async def _read(self, session: _Session, until: float) -> None:
        """Wait until the server has read what was sent of a batch. Without its end nothing of it is stored."""
        try:
            await self._round_trip(session, until)
        except OutcomeUnknown as lost:
            raise Unavailable(str(lost)) from lost

    async def _round_trip(self, session: _Session, until: float) -> None:
        """Wait until the server has seen all that was sent so far.

        A message to oneself is back after that, and so is the refusal to let one be sent.
        """
        with self._asking(session, ()) as asked:
            session.connection.send([Frame(asked.inbox)])
            try:
                async with asyncio.timeout_at(until):
                    await asked.answer
            except PermissionDenied:
                return
            except TimeoutError:
                raise Unavailable("the server does not answer") from None

    @contextmanager
    def _asking(self, session: _Session, frames: Sequence[Frame]) -> Iterator[_Asked]:
        """Hold a place for an answer."""
        token = str(next(self._tokens))
        asked = _Asked(f"{session.inbox}.{token}", frames, asyncio.get_running_loop().create_future())
        session.asked[token] = asked
        try:
            yield asked
        finally:
            del session.asked[token]
            if asked.answer.done() and not asked.answer.cancelled():
                asked.answer.exception()  # seen: nobody waits for it when a batch ended half way

    @contextmanager
    def _subscription(self, session: _Session, subscribed: _Subscribed) -> Iterator[None]:
        self._subscribed.add(subscribed)
        subscribed.begin(session.connection)
        try:
            yield
        finally:
            self._subscribed.discard(subscribed)
            if self._session is not None:
                self._session.connection.unsubscribe(subscribed.number)

    async def _up(self, until: float) -> _Session:
        """What takes messages now, waiting for it until the deadline."""
        if self._session and self._session.connection.flowing:
            return self._session
        try:
            async with asyncio.timeout_at(until):
                while True:
                    await self._connected.wait()
                    if self._session and self._session.connection.flowing:
                        return self._session
                    await asyncio.sleep(PAUSE_FIRST_S)  # the server is slow to take what was sent
        except TimeoutError:
            raise Unavailable(self._away()) from None

    def _away(self) -> str:
        servers = _PASSWORD.sub("//", ", ".join(self._servers))
        return f"no connection to {servers}: {self._trouble}"

    def _end(self, session: _Session, reason: str) -> None:
        """Tell everyone who relied on the connection that it is over."""
        self._trouble = reason
        for asked in session.asked.values():
            asked.fail(OutcomeUnknown(f"{reason} before an answer came"))
        if session is not self._session:
            return
        self._session = None
        self._connected.clear()
        for subscribed in tuple(self._subscribed):
            subscribed.number = b""
            if not subscribed.lasting:
                self._subscribed.discard(subscribed)
                subscribed.reader.lose(reason)

    def _heed(self, session: _Session, said: str) -> None:
        """Hear what the server does not allow."""
        denied = _DENIED.search(said)
        if denied is None:
            self._trouble = said
            return
        what, subject = denied.groups()
        if what.lower() == "subscription":
            session.denied.add(subject)
        for asked in session.asked.values():
            asked.deny(subject)
        for subscribed in tuple(self._subscribed):
            if subject in (subscribed.subject, subscribed.speaks):
                subscribed.reader.lose(f"not allowed: {subject}")

    async def _report(self, error: Exception) -> None:
        """Hear what nats-py reports on the side. An exception from here would kill its read loop."""
        self._trouble = str(error) or type(error).__name__


async def _hand_over(client: Client, connection: Connection) -> None:
    """Let nats-py forget the connection that it has made, and another read and write it."""
    await _stop(client)
    writer, reader = getattr(client._transport, "_io_writer", None), getattr(client._transport, "_io_reader", None)
    if writer is None or reader is None:
        raise UsageError("only nats:// and tls:// addresses can be connected to")
    if writer.transport.is_closing():
        raise Unavailable("the connection was lost at once")
    # What has come already: between here and the end no other task runs.
    early = bytes(client._ps.buf) + bytes(reader._buffer)
    reader._buffer.clear()
    writer.transport.set_protocol(connection)
    writer.transport.resume_reading()
    connection.connection_made(writer.transport)
    connection.holds = client  # a stream writer that nobody holds any more closes what it wrote to
    if early:
        connection.data_received(early)


async def _stop(client: Client) -> None:
    """End nats-py's own tasks. Whoever calls it has the connection to end."""
    client._status = Client.CLOSED
    tasks = [t for t in (client._reading_task, client._ping_interval_task, client._flusher_task) if t]
    for task in tasks:
        task.cancel()
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=CLOSE_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # looked at, so that asyncio does not report a broken pipe as a surprise


async def _discard(client: Client) -> None:
    """End a client that did not come to anything. Its own close waits for the peer, and leaves its socket behind."""
    await _stop(client)
    writer = getattr(client._transport, "_io_writer", None)
    if writer:
        writer.transport.abort()


async def _close(connection: Connection) -> None:
    """Send what is left and hang up; give up on a peer that does not read."""
    connection.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await connection.ended.wait()
    connection.cut("the log was closed")


def _paced(frames: Sequence[Frame]) -> list[Sequence[Frame]]:
    """The messages of an append in parts; one part unless they are large."""
    parts, first, size = [], 0, 0
    for i, frame in enumerate(frames):
        size += frame.size
        if size > PACE_BYTES and i > first:
            parts.append(frames[first:i])
            first, size = i, frame.size
    return [*parts, frames[first:]]
