"""One connection to NATS that is replaced when it dies. The only module that imports nats.

nats-py can reconnect by itself, but then sends again what it had not sent before, keeps a connection whose
read loop has died, and gives up for good over some errors. So a client here lives as long as its connection,
and its end is always the same: what was asked has an unknown outcome, what was read is lost, what was
listened to is subscribed to again on the next one.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Protocol, Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from hocket.errors import AppendTooLarge, OutcomeUnknown, PermissionDenied, Unavailable, UsageError
from hocket.log.wire import HEADERS_BYTES_MAX, Frame

TICK_S = 0.5
"""How often readers look for silence."""

CONNECT_S = 2.0
"""The longest for one attempt to connect."""

PING_S = 2
"""After two such intervals without an answer a connection is dead: a paused server is noticed in 6 s."""

PAUSE_FIRST_S = 0.05
PAUSE_LONGEST_S = 0.5
"""The pauses between two attempts to connect; each is up to half as long again, at random."""

CLOSE_S = 1.0
"""The longest for sending what is left at the end."""

_NO_RESPONDERS = "503"
_PASSWORD = re.compile(r"//[^@/]*@")
_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')


class Received(Protocol):
    """A message as the connection hands it over."""

    @property
    def subject(self) -> str: ...
    @property
    def reply(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str] | None: ...


class Reader(Protocol):
    """Who receives on a subscription. None of its methods may raise."""

    def receive(self, message: Received, /) -> None:
        """Take a message."""
        ...

    def lose(self, reason: str, /) -> None:
        """Learn that nothing more will come."""
        ...

    async def tick(self) -> None:
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

    subscription: Subscription | None = None

    async def begin(self, client: Client) -> None:
        """Subscribe. Bounds are the reader's: it asks for no more than it can hold."""

        async def receive(message: Msg) -> None:
            self.reader.receive(message)

        self.subscription = await client.subscribe(
            self.subject, cb=receive, pending_msgs_limit=0, pending_bytes_limit=0
        )


@dataclass(eq=False, slots=True)
class _Asked:
    """A request that waits for its answer."""

    inbox: str
    frames: Sequence[Frame]
    answer: "asyncio.Future[Msg]"

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless there is an answer already."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def deny(self, denied: str) -> None:
        """Answer that a subject, given in lower case, is not allowed, if it is one of these."""
        every_answer = f"{self.inbox.rpartition('.')[0]}.*"
        for subject in (every_answer, self.inbox, *(frame.subject for frame in self.frames)):
            if subject.lower() == denied:
                self.fail(PermissionDenied(subject))


@dataclass(eq=False, slots=True)
class _Connection:
    """A client and what ends with it."""

    client: Client = field(default_factory=Client)
    inbox: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    asked: dict[str, _Asked] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    """Subjects that may not be subscribed to, in lower case, as nats-py reports them."""

    async def answer(self, message: Msg) -> None:
        """Hand an answer to whoever asked, if it still waits."""
        asked = self.asked.get(message.subject.rpartition(".")[2])
        if asked and not asked.answer.done():
            asked.answer.set_result(message)

    async def end(self) -> None:
        """Called by nats-py when the connection is over."""
        self.ended.set()


@dataclass(frozen=True, eq=False, slots=True)
class Channel:
    """An inbox, and the way to speak on the connection that it belongs to."""

    inbox: str
    client: Client

    async def send(self, subject: str, data: bytes, *, reply: bool = False) -> bool:
        """Send, and have what is answered sent to the inbox. False when the connection is gone."""
        try:
            await self.client.publish(subject, data, self.inbox if reply else "")
        except nats.errors.Error:
            return False
        return True


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
        self._connection: _Connection | None = None
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
        version = (await self._up(until)).client.connected_server_version
        return version.major, version.minor, version.patch

    async def ask(self, frames: Sequence[Frame], until: float) -> bytes:
        """Send messages next to each other and wait for the answer to the last one.

        `until` is a time of the running loop. Raises AppendTooLarge and PermissionDenied, Unavailable when
        nothing was sent or nobody is there to take it, and OutcomeUnknown when no answer comes.
        """
        connection = await self._up(until)
        payload_max = connection.client.max_payload
        for frame in frames:
            if len(frame.data) + HEADERS_BYTES_MAX > payload_max and frame.size > payload_max:
                raise AppendTooLarge(f"{frame.size} bytes for {frame.subject}, limit {payload_max}")
        *others, last = frames
        with self._asking(connection, frames) as asked:
            with _sending():
                # Nothing here gives way to another task: the messages leave next to each other, or none does.
                for frame in others:
                    await connection.client.publish(frame.subject, frame.data, "", frame.headers or None)
                await connection.client.publish(last.subject, last.data, asked.inbox, last.headers or None)
            try:
                async with asyncio.timeout_at(until):
                    message = await asked.answer
            except TimeoutError:
                raise OutcomeUnknown(f"no answer in time for {last.subject}") from None
        if not message.data and message.headers and message.headers.get("Status") == _NO_RESPONDERS:
            raise Unavailable(f"nobody takes {last.subject}")
        return message.data

    async def tell(self, frame: Frame) -> None:
        """Send without an answer. Raises Unavailable at once when there is no connection."""
        connection = self._connection
        if connection is None or not connection.client.is_connected:
            raise Unavailable(self._away())
        if frame.size > connection.client.max_payload:
            raise AppendTooLarge(f"{frame.size} bytes for {frame.subject}")
        with _sending():
            await connection.client.publish(frame.subject, frame.data)

    @asynccontextmanager
    async def channel(self, reader: Reader, until: float, *, speaks: str) -> AsyncIterator[Channel]:
        """Open an inbox for a reader, for as long as the connection of now lasts."""
        connection = await self._up(until)
        channel = Channel(connection.client.new_inbox(), connection.client)
        async with self._subscription(connection, _Subscribed(channel.inbox, reader, speaks=speaks)):
            yield channel

    @asynccontextmanager
    async def listening(self, subject: str, reader: Reader, until: float) -> AsyncIterator[None]:
        """Subscribe, from entry on and on every connection to come. Raises PermissionDenied."""
        connection = await self._up(until)
        async with self._subscription(connection, _Subscribed(subject, reader, lasting=True)):
            await self._round_trip(connection, until)
            if subject.lower() in connection.denied:
                raise PermissionDenied(subject)
            yield

    async def _run(self) -> None:
        """Keep a connection up until cancelled."""
        while True:
            connection = await self._connect()
            reason = "the connection was lost"
            try:
                await self._serve(connection)
            except asyncio.CancelledError:
                reason = "the log was closed"
                await _close(connection.client)
                raise
            finally:
                self._end(connection, reason)
                await _cut(connection.client)

    async def _serve(self, connection: _Connection) -> None:
        """Wait until the connection is over, and give readers the time meanwhile."""
        self._connection = connection
        self._connected.set()
        while connection.client.is_connected and not connection.ended.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await connection.ended.wait()
            for subscribed in tuple(self._subscribed):
                await subscribed.reader.tick()

    async def _connect(self) -> _Connection:
        """Try one server after the other until one takes us."""
        pause_s = PAUSE_FIRST_S
        while True:
            connection = _Connection()
            try:
                await self._establish(connection)
            except asyncio.CancelledError:
                await _cut(connection.client)
                raise
            except (nats.errors.Error, OSError, TimeoutError, Unavailable, OutcomeUnknown) as error:
                if not isinstance(error, nats.errors.NoServersError):  # it would hide why there is none
                    self._trouble = str(error) or type(error).__name__
            else:
                if not self._closing:
                    return connection
            await _cut(connection.client)
            if self._closing:
                # nats-py connects by `wait_for`, which loses a cancellation that comes together with the result.
                raise asyncio.CancelledError
            self._servers.append(self._servers.pop(0))
            await asyncio.sleep(pause_s * (1 + self._rng.random() / 2))
            pause_s = min(2 * pause_s, PAUSE_LONGEST_S)

    async def _establish(self, connection: _Connection) -> None:
        """Connect to the first server and subscribe to all that is wanted."""
        client = connection.client

        async def heed(error: Exception) -> None:
            self._heed(connection, error)

        async with asyncio.timeout(2 * CONNECT_S):
            await client.connect(
                self._servers[:1],
                name=self._name,
                error_cb=heed,
                closed_cb=connection.end,
                disconnected_cb=connection.end,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=CONNECT_S,  # type: ignore[arg-type]  # nats-py says int and takes any number
                ping_interval=PING_S,
                max_outstanding_pings=2,
                pending_size=0,  # never wait for the socket in the middle of a batch
                inbox_prefix=self._inbox_prefix,
                skip_subject_validation=True,  # `wire.check` has done it, before anything was sent
            )
            connection.inbox = client.new_inbox()
            mine = f"{connection.inbox}.*"
            await client.subscribe(mine, cb=connection.answer)
            for subscribed in tuple(self._subscribed):
                await subscribed.begin(client)
            await self._round_trip(connection, asyncio.get_running_loop().time() + CONNECT_S)
        if mine.lower() in connection.denied:
            raise Unavailable(f"not allowed to subscribe to {mine}, where answers arrive")

    async def _round_trip(self, connection: _Connection, until: float) -> None:
        """Wait until the server has seen all that was sent so far.

        A message to oneself is back after that, and so is the refusal to let one be sent.
        """
        with self._asking(connection, ()) as asked:
            with _sending():
                await connection.client.publish(asked.inbox)
            try:
                async with asyncio.timeout_at(until):
                    await asked.answer
            except PermissionDenied:
                return
            except TimeoutError:
                raise Unavailable("the server does not answer") from None

    @contextmanager
    def _asking(self, connection: _Connection, frames: Sequence[Frame]) -> Iterator[_Asked]:
        """Hold a place for an answer."""
        token = str(next(self._tokens))
        asked = _Asked(f"{connection.inbox}.{token}", frames, asyncio.get_running_loop().create_future())
        connection.asked[token] = asked
        try:
            yield asked
        finally:
            del connection.asked[token]

    @asynccontextmanager
    async def _subscription(self, connection: _Connection, subscribed: _Subscribed) -> AsyncIterator[None]:
        self._subscribed.add(subscribed)
        try:
            with _sending():
                await subscribed.begin(connection.client)
            yield
        finally:
            self._subscribed.discard(subscribed)
            if subscribed.subscription:
                with suppress(nats.errors.Error):
                    await subscribed.subscription.unsubscribe()

    async def _up(self, until: float) -> _Connection:
        """The connection, waiting for one until the deadline."""
        if self._connection and self._connection.client.is_connected:
            return self._connection
        try:
            async with asyncio.timeout_at(until):
                while True:
                    await self._connected.wait()
                    if self._connection and self._connection.client.is_connected:
                        return self._connection
                    await asyncio.sleep(PAUSE_FIRST_S)  # its end is known, but not yet dealt with
        except TimeoutError:
            raise Unavailable(self._away()) from None

    def _away(self) -> str:
        servers = _PASSWORD.sub("//", ", ".join(self._servers))
        return f"no connection to {servers}: {self._trouble}"

    def _end(self, connection: _Connection, reason: str) -> None:
        """Tell everyone who relied on the connection that it is over."""
        self._connection = None
        self._connected.clear()
        self._trouble = reason
        for asked in connection.asked.values():
            asked.fail(OutcomeUnknown(f"{reason} before an answer came"))
        for subscribed in tuple(self._subscribed):
            subscribed.subscription = None
            if not subscribed.lasting:
                self._subscribed.discard(subscribed)
                subscribed.reader.lose(reason)

    def _heed(self, connection: _Connection, error: Exception) -> None:
        """Hear what nats-py reports on the side. An exception from here would kill its read loop."""
        denied = _DENIED.search(str(error))
        if denied is None:
            self._trouble = str(error) or type(error).__name__
            return
        what, subject = denied.groups()
        if what == "subscription":
            connection.denied.add(subject)
        for asked in connection.asked.values():
            asked.deny(subject)
        for subscribed in tuple(self._subscribed):
            if subject in (subscribed.subject.lower(), subscribed.speaks.lower()):
                subscribed.reader.lose(f"not allowed: {subject}")


@contextmanager
def _sending() -> Iterator[None]:
    """Turn nats-py's refusal to send into Unavailable: nothing has left."""
    try:
        yield
    except nats.errors.Error as error:
        raise Unavailable(f"the connection was lost before anything was sent: {error}") from error


async def _close(client: Client) -> None:
    """Send what is left and close; give up on a peer that does not read."""
    with suppress(TimeoutError, OSError, nats.errors.Error):
        async with asyncio.timeout(CLOSE_S):
            await client.close()


async def _cut(client: Client) -> None:
    """End a client without waiting for its peer.

    nats-py has no such call: its close first waits for the peer to read what is pending, and when that
    fails leaves its tasks and its socket behind. So this reaches for them itself.
    """
    client._status = Client.CLOSED
    own = [client._reading_task, client._ping_interval_task, client._flusher_task]
    tasks = [t for t in (*own, *(s._wait_for_msgs_task for s in client._subs.values())) if t]
    for task in tasks:
        task.cancel()
    writer = getattr(client._transport, "_io_writer", None)
    if writer:
        writer.transport.abort()
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=CLOSE_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # looked at, so that asyncio does not report a broken pipe as a surprise
