"""The bus as everyone sees it who is not an agent: publish, subscribe from any point, wait for an answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Literal

from opentelemetry.trace import SpanKind

from hocket.beside import beside
from hocket.clock import Clock, SystemClock, rfc3339
from hocket.errors import NotFound, Unavailable
from hocket.forgotten import in_its_place, is_tombstone
from hocket.ids import fresh
from hocket.ingress import Ingress
from hocket.log.base import Expect, Log, Message, Seq, Write
from hocket.subjects import Address, Names, address, shard_of
from hocket.telemetry import ATTRIBUTE_EVENT_ID, ATTRIBUTE_EVENT_TYPE, SPAN_PUBLISH, span, tracing
from hocket_schemas import gate
from hocket_schemas.envelope import Envelope, of_checked
from hocket_schemas.event import Event

EVENT_HEADERS = {"Content-Type": gate.CONTENT_TYPE}

FOLLOWED_MAX = 1024
"""Most deliveries that wait for a slow subscriber; beyond that the log waits."""

Start = Literal["live", "start"] | int
"""Where to begin: with what comes from now on, with the first event ever, or at a sequence."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a publisher gets back: the event is in the log, and stays."""

    id: str
    key: str
    saga: str
    shard: int
    seq: Seq
    duplicate: bool = False
    """Whether an event with this id was there before; then nothing was added."""


@dataclass(frozen=True)
class Delivery:
    """One event as it stands in the log."""

    message: Message
    shard: int
    address: Address

    @property
    def seq(self) -> Seq:
        """Its position in its shard's log."""
        return self.message.seq

    @cached_property
    def envelope(self) -> Envelope:
        """The CloudEvent. Raises MalformedEvent when somebody published what is none."""
        return gate.read(self.message.data, None, self.message.headers)

    @cached_property
    def event(self) -> Event:
        """The typed event. Raises UnknownType when its class was not imported, DataRefused when it does not fit."""
        return gate.event_of(self.envelope)


class Bus:
    """One domain's events, for publishers, readers and whoever asks a question.

    Made by `open_bus` or `hocket.connect`, which own its tasks.
    """

    def __init__(self, logs: Sequence[Log], *, publisher: str, clock: Clock) -> None:
        self.domain = logs[0].domain
        self.shards = len(logs)
        self.logs = logs
        self.publisher = publisher
        """Who its events come from."""

        self._clock = clock
        self._source = f"/{self.domain}/{publisher}"
        self._names = [Names(self.domain, shard) for shard in range(self.shards)]
        self._tracing = tracing()  # once: it looks into the environment
        self.ingress = [Ingress(log) for log in logs]

    async def publish(
        self,
        event: Event,
        *,
        key: str | None = None,
        saga: str | None = None,
        event_id: str | None = None,
        timeout_s: float = 10.0,
    ) -> Receipt:
        """Store an event; when this returns it is in the log, once.

        Give an `event_id` of your own (an order number, a request id) and publishing again under the same key is
        harmless: the receipt then says `duplicate`. The key is the saga's id unless told otherwise, and the
        saga's id is the key, else your `event_id`, else fresh. Concurrent publishes share appends. Raises
        StorageFull, AppendTooLarge, PermissionDenied, or after `timeout_s` Unavailable (not stored) or
        OutcomeUnknown (may be stored).
        """
        envelope = self._envelope(event, key, saga, event_id)
        return await self.publish_envelope(envelope, timeout_s=timeout_s, retention=event.retention)

    async def command(
        self,
        event: Event,
        *,
        to: str,
        key: str,
        saga: str | None = None,
        cause: str | None = None,
        event_id: str | None = None,
        timeout_s: float = 10.0,
    ) -> Receipt:
        """Store an event that is addressed to one agent, such as a decision that it waits for.

        `cause` is the id of the event that it answers, if it answers one.
        """
        envelope = replace(self._envelope(event, key, saga, event_id), causationid=cause)
        return await self.publish_envelope(envelope, to=to, timeout_s=timeout_s, retention=event.retention)

    async def publish_many(
        self,
        events: Sequence[Event],
        *,
        key: str | None = None,
        saga: str | None = None,
        timeout_s: float = 10.0,
    ) -> list[Receipt]:
        """Store events, each once, in their order per key; not all-or-nothing."""
        saga = saga or fresh()
        return await asyncio.gather(*(self.publish(event, key=key, saga=saga, timeout_s=timeout_s) for event in events))

    async def publish_envelope(
        self,
        envelope: Envelope,
        *,
        to: str | None = None,
        timeout_s: float = 10.0,
        retention: timedelta | None = None,
    ) -> Receipt:
        """Store an event that is an envelope already, such as one from the `cloudevents` SDK.

        With `to` it is addressed to that agent alone, which handles it as it would any other of its type.
        """
        if not self._tracing:
            return await self._store(envelope, to, timeout_s, retention)
        attributes = {ATTRIBUTE_EVENT_ID: envelope.id, ATTRIBUTE_EVENT_TYPE: envelope.type}
        with span(SPAN_PUBLISH, attributes, kind=SpanKind.PRODUCER, traceparent=envelope.traceparent) as trace:
            if trace != envelope.traceparent:
                envelope = replace(envelope, traceparent=trace)
            return await self._store(envelope, to, timeout_s, retention)

    async def _store(
        self, envelope: Envelope, to: str | None, timeout_s: float, retention: timedelta | None
    ) -> Receipt:
        key = envelope.partitionkey or envelope.correlationid or envelope.id
        shard = shard_of(key, self.shards)
        names = self._names[shard]
        if to is None:
            subject = names.event(key, self.publisher, envelope.id, 0, envelope.type)
        else:
            subject = names.command(to, key, envelope.id, 0, envelope.type)
        write = Write(subject, gate.write(envelope), Expect(subject, 0), retention, EVENT_HEADERS)
        seq, duplicate = await self.ingress[shard].publish(write, timeout_s)
        return Receipt(envelope.id, key, envelope.correlationid or key, shard, seq, duplicate)

    @asynccontextmanager
    async def subscribe(
        self, *types: type[Event] | str, key: str | None = None, start: Start = "live"
    ) -> AsyncIterator[AsyncIterator[Delivery]]:
        """Follow events as they come, in log order per shard, without a gap from `start` on.

        No types: all of them. A `key` narrows to that key's events. A sequence as `start` needs a key or a
        domain of one shard, since each shard counts for itself.
        """
        shards = [shard_of(key, self.shards)] if key is not None else list(range(self.shards))
        if isinstance(start, int) and len(shards) > 1:
            raise NotFound("a sequence names a place in one shard: give a key, or start 'live' or at the 'start'")
        arrived: asyncio.Queue[Delivery] = asyncio.Queue(FOLLOWED_MAX)

        async def follow(shard: int, first: int) -> None:
            filters = self._filters(shard, types, key)
            async with aclosing(self.logs[shard].scan(filters, start=first, follow=True)) as messages:
                async for message in messages:
                    delivery = None if is_tombstone(message) else _delivery(message, shard)
                    if delivery:
                        await arrived.put(delivery)

        async def deliveries() -> AsyncIterator[Delivery]:
            while True:
                yield await arrived.get()

        firsts = {shard: start if isinstance(start, int) else 1 for shard in shards}
        if start == "live":
            firsts = {shard: await self.logs[shard].end() + 1 for shard in shards}
        async with beside(*(follow(shard, first) for shard, first in firsts.items())):
            yield deliveries()

    async def read(self, *types: type[Event] | str, key: str | None = None, start: int = 1) -> AsyncIterator[Delivery]:
        """What the log holds now, in log order per shard, one shard after the other."""
        shards = [shard_of(key, self.shards)] if key is not None else list(range(self.shards))
        for shard in shards:
            filters = self._filters(shard, types, key)
            async with aclosing(self.logs[shard].scan(filters, start=start)) as messages:
                async for message in messages:
                    delivery = None if is_tombstone(message) else _delivery(message, shard)
                    if delivery:
                        yield delivery

    async def find(self, event_id: str) -> Delivery:
        """The event with this id; of one that was forgotten what is left. Raises NotFound."""
        for shard, log in enumerate(self.logs):
            async with aclosing(log.scan(Names(self.domain, shard).events_by_id(event_id))) as messages:
                async for message in messages:
                    delivery = _delivery(in_its_place(message), shard)
                    if delivery:
                        return delivery
        raise NotFound(f"no event with id {event_id!r} is in the log of domain {self.domain!r}")

    async def ask(
        self,
        event: Event,
        *,
        reply: type[Event] | Sequence[type[Event]],
        key: str | None = None,
        saga: str | None = None,
        timeout_s: float = 60.0,
    ) -> Delivery:
        """Publish an event and wait for an answer: the first event of a reply type in the same saga.

        Raises TimeoutError when none comes in time; the event stays published and the work goes on.
        """
        envelope = self._envelope(event, key, saga, None)
        wanted = [reply] if isinstance(reply, type) else list(reply)
        async with asyncio.timeout(timeout_s):
            first = await self._next_seq(shard_of(str(envelope.partitionkey), self.shards))
            async with self.subscribe(*wanted, key=envelope.partitionkey, start=first) as deliveries:
                await self.publish_envelope(envelope, timeout_s=timeout_s, retention=event.retention)
                async for delivery in deliveries:
                    if delivery.envelope.correlationid == envelope.correlationid:
                        return delivery
        raise AssertionError("a followed log does not end")

    def now(self) -> str:
        """The moment by the bus's clock, RFC 3339: the `time` of what is published now."""
        return rfc3339(self._clock.now_s())

    async def _next_seq(self, shard: int) -> int:
        """Where what comes from now on begins; a log that is away is waited for, as long as the caller waits."""
        while True:
            try:
                return await self.logs[shard].end() + 1
            except Unavailable:
                await asyncio.sleep(0.25)

    def _envelope(self, event: Event, key: str | None, saga: str | None, event_id: str | None) -> Envelope:
        saga = saga or key or event_id or fresh()
        return of_checked(
            {
                "id": event_id or fresh(),
                "source": self._source,
                "type": event.event_type,
                "data": event.model_dump(mode="json"),
                "time": self.now(),
                "partitionkey": key or saga,
                "correlationid": saga,
            }
        )

    def _filters(self, shard: int, types: Sequence[type[Event] | str], key: str | None) -> list[str]:
        names = Names(self.domain, shard)
        wanted = sorted({kind if isinstance(kind, str) else kind.event_type for kind in types})
        if key is None:
            return [names.events_of_type(kind) for kind in wanted] or [names.all_events]
        return [names.events_of_key(key, kind) for kind in wanted] or [names.events_of_key(key)]


@asynccontextmanager
async def open_bus(logs: Sequence[Log], *, publisher: str = "client", clock: Clock | None = None) -> AsyncIterator[Bus]:
    """A bus over the logs of a domain, one per shard, for as long as the block lasts.

    `publisher` is who its events come from, the agent token of their subjects.
    """
    bus = Bus(logs, publisher=publisher, clock=clock or SystemClock())
    async with beside(*(ingress.run() for ingress in bus.ingress)):
        yield bus


@asynccontextmanager
async def connect(url: str, *, domain: str = "hocket", publisher: str = "client") -> AsyncIterator[Bus]:
    """A bus on a running NATS server; several servers are given as one text, with commas.

    ```python
    async with hocket.connect("nats://127.0.0.1:4222") as bus:
        receipt = await bus.publish(TripRequested(route="MUC-OSL"))
    ```

    Raises Unavailable when no server answers, ServerTooOld and TopologyMismatch when it cannot be relied on.
    """
    from hocket.log import jetstream  # here, so that writing agents and tests does not load the NATS client

    async with jetstream.connect(url, domain=domain) as logs, open_bus(logs, publisher=publisher) as bus:
        yield bus


def _delivery(message: Message, shard: int) -> Delivery | None:
    try:
        return Delivery(message, shard, address(message.subject))
    except NotFound:
        return None


__all__ = ["Bus", "Delivery", "Receipt", "Start", "connect", "open_bus"]
