"""The real log: a shard's stream on NATS JetStream, appended to in atomic batches, read through pulls.

The connection is `jetstream_link.py`'s business, requests are `api.py`'s, deliveries are `pull.py`'s, bytes and error
codes are `wire.py`'s, configurations are `topology.py`'s. What is left here is the order in which they are used.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any

import orjson

from hocket.beside import beside
from hocket.errors import (
    ConsumerLost,
    PermissionDenied,
    ServerTooOld,
    TopologyMismatch,
    Unavailable,
    UsageError,
)
from hocket.ids import fresh
from hocket.log import wire
from hocket.log.api import ATTEMPT_FIRST_S, ATTEMPT_S, PAUSE_FIRST_S, PAUSE_LONGEST_S, Api, Pauses, code_of
from hocket.log.base import SINGLY_MAX, Message, Seq, Write
from hocket.log.connection import Received
from hocket.log.jetstream_link import Link
from hocket.log.pull import Deliveries
from hocket.log.tampering import LOOK_S, consumer_changed, stream_broken
from hocket.log.topology import (
    ConsumerSettings,
    Create,
    Refuse,
    StreamSettings,
    Update,
    overlaid,
    plan,
    stream_name,
    stream_settings,
)
from hocket.log.untaken import Doubts, Standing

SERVER_VERSION_MIN = (2, 15, 1)
"""Older servers have bugs in atomic batches that break the append protocol."""

READ_S = 5.0
"""The deadline of a read, and of making a consumer."""

SCAN_MESSAGES = 256
SCAN_LOSSES_MAX = 8
"""A scan that loses its consumer so often without reading anything gives up."""

AT_ONCE_MESSAGES = 1000
AT_ONCE_BYTES = 8 << 20
"""The most that a scan takes as one answer; the server gives no more than 1024 messages."""

AT_ONCE_TRIES = 3
"""How often a replica may be behind, or stand still, before a consumer is made instead."""

LISTENER_MESSAGES_MAX = 1024
"""A slow listener keeps this many messages and loses the oldest."""

_CONSUMER_NAME = re.compile(r"[A-Za-z0-9_=-]+")

_CONSUMER_NOT_FOUND = 10014
_MESSAGE_NOT_FOUND = 10037
_NAME_IN_USE = 10058
_CONSUMER_EXISTS = 10148


@asynccontextmanager
async def connect(
    url: str,
    *,
    domain: str = "hocket",
    shards: int | None = None,
    replicas: int | None = None,
    max_bytes: int | None = None,
    name: str = "hocket",
    create: bool = True,
    inbox_prefix: str = "_INBOX",
    timeout_s: float = 10.0,
) -> AsyncIterator[list["JetStreamLog"]]:
    """Open a domain: one connection, and one log for each shard, in their order.

    `url` may name several servers, separated by commas. What is not given is taken from the streams as they
    are; new ones have 1 shard, 1 replica and `topology.STREAM_BYTES_DEFAULT`. With `create` streams that do
    not exist are made, and room and replicas raised where more is asked for.

    Raises Unavailable when no server takes us within `timeout_s`, ServerTooOld, TopologyMismatch with every
    difference that breaks a promise, and StorageFull when the server has no room for a stream.
    """
    if shards is not None and shards < 1:
        raise UsageError(f"a domain has at least one shard, not {shards}")
    until = asyncio.get_running_loop().time() + timeout_s
    async with Link(url, name=name, inbox_prefix=inbox_prefix) as link:
        await require_version(link, until)
        api = Api(link)
        if shards is None:
            config = await api.stream(stream_name(domain, 0), until)
            shards = (StreamSettings.from_api(config).shards if config else 0) or 1
        logs = []
        for shard in range(shards):
            wanted = partial(stream_settings, domain, shard, shards=shards, max_bytes=max_bytes, replicas=replicas)
            settled = await _settle(api, stream_name(domain, shard), wanted, create=create, until=until)
            logs.append(JetStreamLog(link, domain, shard, replicas=settled.num_replicas))
        yield logs


async def require_version(link: Link, until: float) -> None:
    """Raise ServerTooOld when the server is."""
    version = await link.server_version(until)
    if version < SERVER_VERSION_MIN:
        found, least = (".".join(map(str, v)) for v in (version, SERVER_VERSION_MIN))
        raise ServerTooOld(f"nats-server {found} answers; the log needs {least} or newer")


async def _settle(
    api: Api, stream: str, wanted: Callable[..., StreamSettings], *, create: bool, until: float
) -> StreamSettings:
    """Make a stream as wanted, and return what it is then; or say why it cannot be."""
    pauses = Pauses(until)
    while True:
        config = await api.stream(stream, until)
        current = StreamSettings.from_api(config) if config else None
        changes = plan(current, wanted(like=current))
        if current is not None and not changes:
            return current
        match changes[0]:
            case Refuse() as refused:
                raise TopologyMismatch(str(refused))
            case Create() if not create:
                raise TopologyMismatch(f"stream {stream} does not exist")
            case Update() if current is not None and not create:
                return current
            case Create(settings):
                answer = await api.ask(f"STREAM.CREATE.{stream}", settings.to_api(), until)
                if code_of(answer) != _NAME_IN_USE:  # else someone else was quicker
                    wire.required(answer)
            case Update(settings):
                wire.required(await api.ask(f"STREAM.UPDATE.{stream}", overlaid(config or {}, settings), until))
        await pauses.next(f"stream {stream} does not become as wanted")


class JetStreamLog:
    """One shard's log on a server; implements `Log`. Made by `connect`."""

    def __init__(self, link: Link, domain: str, shard: int, *, replicas: int = 1) -> None:
        self.domain = domain
        self.shard = shard
        self.singly_max = SINGLY_MAX if replicas == 1 else 1
        self.stream = stream_name(domain, shard)
        self._root = f"{domain}.{shard}."
        self._link = link
        self._api = Api(link)

    async def append(self, writes: Sequence[Write], *, timeout_s: float = 5.0) -> Seq:
        """See `Log.append`. Raises UsageError for what no log could take."""
        wire.check(writes, self._root)
        until = asyncio.get_running_loop().time() + timeout_s
        pauses = Pauses(until)
        doubts = Doubts(writes, self._link, self._standing, self.last)
        while True:
            found: wire.Verdict
            try:
                answer = await self._link.ask(wire.frames(writes, fresh()), until, doubt=doubts.unanswered)
                found = wire.verdict(answer, self.stream, len(writes))
            except Unavailable as away:
                found = wire.Again(str(away))
            match found:
                case wire.Stored(last):
                    return last
                case wire.Refused(error):
                    raise error
                case wire.Again(reason, incomplete):
                    if incomplete:
                        await doubts.incomplete()
                    await pauses.next(reason)

    async def last(self, subject: str) -> Message | None:
        """See `Log.last`."""
        return await self._newest(subject, _deadline())

    async def end(self) -> Seq:
        """See `Log.end`."""
        return Seq((await self._info())["state"]["last_seq"])

    async def time_s(self) -> float:
        """See `Log.time_s`."""
        return wire.nanoseconds((await self._info())["ts"]) / 1e9

    async def leader(self) -> str | None:
        """The name of the server that leads this shard's stream; None on a single server or while none does."""
        return ((await self._info()).get("cluster") or {}).get("leader") or None

    async def _standing(self) -> Standing:
        info = await self._info()
        since = (info.get("cluster") or {}).get("leader_since")
        led_s = (wire.nanoseconds(info["ts"]) - wire.nanoseconds(since)) / 1e9 if since else None
        return Standing(int(info["config"].get("num_replicas", 1)), led_s)

    async def _info(self) -> Mapping[str, Any]:
        return wire.required(await self._api.ask(f"STREAM.INFO.{self.stream}", None, _deadline()))

    async def server_version(self) -> str:
        """The version of the server that we speak to, such as `2.15.1`."""
        return ".".join(map(str, await self._link.server_version(_deadline())))

    async def scan(
        self, filters: Sequence[str], *, start: int = 1, follow: bool = False
    ) -> AsyncGenerator[Message, None]:
        """See `Log.scan`."""
        position = max(1, start)
        found = await self._at_once(filters) if filters and not follow else None
        if found is not None:
            for message in found:
                if message.seq >= position:
                    yield message
            return
        async with aclosing(self._scan(filters, position, follow)) as messages:
            async for message in messages:
                yield message

    def everything(self, *, start: int = 1, follow: bool = False) -> AsyncGenerator[Message, None]:
        """See `Whole.everything`."""
        return self._scan([f"{self._root}>"], max(1, start), follow, raw=True)

    async def _scan(
        self, filters: Sequence[str], position: int, follow: bool, *, raw: bool = False
    ) -> AsyncGenerator[Message, None]:
        """Yield what a consumer of our own delivers; another takes its place when it is lost."""
        target = None if follow else await self._newest_of(filters)
        losses = 0
        while filters and (target is None or position <= target):
            settings = ConsumerSettings(f"scan-{fresh()}", tuple(filters), position, durable=False)
            try:
                await self._make(settings)
                async with self._reading(settings, raw=raw) as deliveries:
                    while target is None or position <= target:
                        taken = await deliveries.take(SCAN_MESSAGES, idle=not follow)
                        for message in taken:
                            if target is not None and message.seq > target:
                                return
                            position = message.seq + 1
                            losses = 0
                            yield message
                        if target is not None and not taken:
                            # Nothing more comes: what the target was has been overwritten or has aged out,
                            # or the replica that is read from has not seen it yet.
                            target = min(target, await self._newest_of(filters))
            except (ConsumerLost, Unavailable) as lost:
                losses += 1
                if not follow and (isinstance(lost, Unavailable) or losses > SCAN_LOSSES_MAX):
                    raise Unavailable(f"the scan cannot go on after {position - 1}: {lost}") from lost
                await asyncio.sleep(min(PAUSE_FIRST_S * 2**losses, PAUSE_LONGEST_S))

    @asynccontextmanager
    async def consume(self, name: str, filters: Sequence[str], *, start: int) -> AsyncIterator[Deliveries]:
        """See `Log.consume`.

        The consumer is made anew, not reset: a reset would leave the pulls of the reader before in the
        queue, and if that one is only paused they would swallow deliveries for as long as they are open.
        """
        if not filters or not _CONSUMER_NAME.fullmatch(name):
            raise UsageError(f"a consumer needs filters and a plain name, not {name!r} with {list(filters)}")
        settings = ConsumerSettings(name, tuple(filters), start)
        pauses = Pauses(_deadline())
        while not await self._make(settings):
            await pauses.next(f"others make the consumer {name} at the same time")
        async with self._reading(settings) as deliveries, beside(self._guard(settings, deliveries)):
            yield deliveries
            deliveries.flush()

    async def handed_out(self, name: str) -> Seq | None:
        """See `Log.handed_out`."""
        until = asyncio.get_running_loop().time() + ATTEMPT_FIRST_S
        try:
            answer = await self._api.ask(f"CONSUMER.INFO.{self.stream}.{name}", None, until)
        except Unavailable:  # one of several servers has kept it, and nobody else knows
            return None
        if code_of(answer) == _CONSUMER_NOT_FOUND:
            return None
        return Seq(wire.required(answer)["delivered"]["stream_seq"])

    async def _guard(self, settings: ConsumerSettings, deliveries: Deliveries) -> None:
        """Look for what somebody has changed. A consumer can be made again; a stream can not, so that is raised."""
        while True:
            await asyncio.sleep(LOOK_S)
            received = deliveries.received
            with suppress(Unavailable, PermissionDenied):  # nobody looks then
                broken = stream_broken(await self._api.stream(self.stream, _deadline()), self.domain, self.shard)
                if broken:
                    raise TopologyMismatch(broken)
                answer = await self._api.ask(f"CONSUMER.INFO.{self.stream}.{settings.name}", None, _deadline())
                if changed := consumer_changed(answer, settings, received):
                    deliveries.lose(f"somebody has changed it: {changed}")

    async def tell(self, subject: str, data: bytes) -> None:
        """See `Log.tell`. Raises Unavailable at once when there is no connection."""
        wire.check_subject(subject)
        self._link.tell(wire.Frame(subject, data))

    @asynccontextmanager
    async def listen(self, subject: str) -> AsyncIterator[AsyncIterator[Message]]:
        """See `Log.listen`. A slow listener keeps the newest 1024 messages."""
        wire.check_pattern(subject)
        listener = _Listener()
        async with self._link.listening(subject, listener, _deadline()):
            yield listener.heard()

    async def _at_once(self, filters: Sequence[str]) -> list[Message] | None:
        """All that is stored under the filters, if one answer can hold it: a tenth of what a consumer costs.

        Any replica answers, unless it stands still: then it is asked again, and it may be another. One that has not
        come as far as the leader is asked again, and not believed. That there is nothing is believed only where there
        is one replica, since who says so does not say how far it has come.
        """
        until = _deadline()
        question = orjson.dumps({"multi_last": list(filters), "batch": AT_ONCE_MESSAGES, "max_bytes": AT_ONCE_BYTES})
        subject = f"$JS.API.DIRECT.GET.{self.stream}"
        info: Mapping[str, Any] = {}
        for _ in range(AT_ONCE_TRIES):
            answer = _Answer()
            try:
                async with self._link.channel(answer, until, speaks=subject) as channel, asyncio.timeout(ATTEMPT_S):
                    if not channel.send(subject, question, reply=True):
                        return None
                    # Asked meanwhile: an end that is younger than the answer costs one more try, and no truth.
                    info = info or await self._info()
                    if not await answer.begins(ATTEMPT_FIRST_S):
                        continue
                    verdict = await answer.ended
            except (Unavailable, TimeoutError):
                return None
            if verdict.get("Status") == "404" and info["config"].get("num_replicas", 1) == 1:
                return []
            if verdict.get("Status") != "204" or verdict.get("Nats-Num-Pending") != "0":
                return None
            if int(verdict.get("Nats-UpTo-Sequence", 0)) >= info["state"]["last_seq"]:
                return sorted(map(wire.got_message, answer.messages), key=lambda message: message.seq)
        return None

    async def _make(self, settings: ConsumerSettings) -> bool:
        """Make a consumer in place of any that has its name; False when another was made in between.

        Where several servers keep the stream one of them is to make it, and says nothing if it stands still. Of a
        consumer that is deleted and made anew it may be another one.
        """
        until = _deadline()
        verb = f"{self.stream}.{settings.name}"
        body = {"stream_name": self.stream, "config": settings.to_api(), "action": "create"}
        replaces, attempt_s = settings.durable, ATTEMPT_FIRST_S
        while True:
            if replaces:
                gone = await self._api.ask(f"CONSUMER.DELETE.{verb}", None, until)
                if code_of(gone) != _CONSUMER_NOT_FOUND:
                    wire.required(gone)
            within = min(until, asyncio.get_running_loop().time() + attempt_s)
            try:
                made = await self._api.ask(f"CONSUMER.CREATE.{verb}", body, within)
            except Unavailable:
                if within == until:
                    raise
                replaces, attempt_s = True, 2 * attempt_s
                continue
            if code_of(made) == _CONSUMER_EXISTS:
                return False
            wire.required(made)
            return True

    @asynccontextmanager
    async def _reading(self, settings: ConsumerSettings, *, raw: bool = False) -> AsyncIterator[Deliveries]:
        """Read from a consumer that was just made."""
        total = partial(self._total, settings.name)
        acks = settings.durable
        deliveries = Deliveries(self.stream, settings.name, acks=acks, total=total, raw=raw)
        async with self._link.channel(deliveries, _deadline(), speaks=deliveries.request) as channel:
            await deliveries.begin(channel)
            try:
                yield deliveries
            finally:
                if not settings.durable:
                    channel.send(f"$JS.API.CONSUMER.DELETE.{self.stream}.{settings.name}", b"")

    async def _total(self, consumer: str) -> int:
        """How many messages a consumer has sent, and how many it would send now."""
        answer = wire.required(await self._api.ask(f"CONSUMER.INFO.{self.stream}.{consumer}", None, _deadline()))
        return int(answer["delivered"]["consumer_seq"]) + int(answer["num_pending"])

    async def _newest_of(self, filters: Sequence[str]) -> int:
        """The sequence of the newest message under any filter, as the leader knows it."""
        until = _deadline()
        found = [await self._newest(pattern, until) for pattern in filters]
        return max((message.seq for message in found if message), default=0)

    async def _newest(self, subject: str, until: float) -> Message | None:
        # Not a direct get: any replica answers that, and one that lags answers with the past.
        answer = await self._api.ask(f"STREAM.MSG.GET.{self.stream}", {"last_by_subj": subject}, until)
        if code_of(answer) == _MESSAGE_NOT_FOUND:
            return None
        return wire.stored_message(wire.required(answer)["message"])


def _deadline() -> float:
    return asyncio.get_running_loop().time() + READ_S


class _Answer:
    """Takes what one question is answered with: messages, and a last one that says that these were all."""

    def __init__(self) -> None:
        self.messages: list[Received] = []
        self.ended: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
        self._begun = asyncio.Event()

    async def begins(self, within_s: float) -> bool:
        """Wait for the first of it; return whether it came in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._begun.wait()
        return self._begun.is_set()

    def receive(self, message: Received) -> None:
        self._begun.set()
        if not wire.says_more(message.head):
            self.messages.append(message)
        elif not self.ended.done():
            self.ended.set_result(message.headers)

    def lose(self, reason: str) -> None:
        self._begun.set()
        if not self.ended.done():
            self.ended.set_exception(Unavailable(reason))

    def tick(self) -> None:
        """The wait for the end has its own deadline."""


class _Listener:
    """Keeps what was heard until it is read."""

    def __init__(self) -> None:
        self._heard: deque[Message] = deque(maxlen=LISTENER_MESSAGES_MAX)
        self._ready = asyncio.Event()
        self._lost = ""

    def receive(self, message: Received) -> None:
        headers = wire.own_headers(message.head)
        self._heard.append(Message(message.subject, Seq(0), message.data, headers=headers))
        self._ready.set()

    def lose(self, reason: str) -> None:
        self._lost = reason
        self._ready.set()

    def tick(self) -> None:
        """Silence means nothing here."""

    async def heard(self) -> AsyncIterator[Message]:
        """What was heard, oldest first. Raises Unavailable when listening is no longer allowed."""
        while True:
            while self._heard:
                yield self._heard.popleft()
            if self._lost:
                raise Unavailable(self._lost)
            self._ready.clear()
            await self._ready.wait()
