"""Dead letters: what agents could not handle, and sending it to them again."""

from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import orjson

from hocket.client import Bus, Receipt
from hocket.errors import MalformedEvent, NotFound
from hocket.ids import derived
from hocket.log.base import Message
from hocket.observe.fact import stored_at
from hocket.subjects import Names, address, tokens_of
from hocket_schemas import gate
from hocket_schemas.envelope import Envelope

FILTERS_MAX = 100
"""Most filters in one scan."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event that one agent could not handle."""

    id: str
    """The event's id; `seq-…` when it could not be read."""

    agent: str
    key: str
    shard: int
    seq: int
    """Of the letter."""

    stored: str
    """When it was written, RFC 3339."""

    reason: str
    """The name of an error of hocket's."""

    error: str
    trace: str | None
    attempts: int
    version: str
    """Of the agent."""

    type: str
    saga: str
    event_seq: int
    event_subject: str
    """Where the event stands in the log, as long as the log has it."""

    event: str | None
    """The event as it came, when it was text and not too large to be kept here."""


def letter_of(message: Message, shard: int) -> DeadLetter:
    """Read a dead letter. Raises MalformedEvent for what is none."""
    try:
        _, agent, key, event_id = tokens_of(message.subject)
        fields = orjson.loads(message.data)
        subject = str(fields["subject"])
        body = fields.get("event")
        raw = body.encode() if isinstance(body, str) else b64decode(fields.get("event_base64") or "")
        envelope = _envelope(raw)
        return DeadLetter(
            id=event_id,
            agent=agent,
            key=key,
            shard=shard,
            seq=message.seq,
            stored=stored_at(message.time_ns),
            reason=str(fields["reason"]),
            error=str(fields["error"]),
            trace=fields.get("trace"),
            attempts=int(fields["attempts"]),
            version=str(fields.get("version", "")),
            type=envelope.type if envelope else _type_in(subject),
            saga=(envelope.correlationid if envelope else None) or key,
            event_seq=int(fields["seq"]),
            event_subject=subject,
            event=body if isinstance(body, str) else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedEvent(f"{message.subject} is no dead letter: {error!r}") from error


async def letters(bus: Bus, *, event_id: str | None = None) -> AsyncIterator[DeadLetter]:
    """The dead letters of a domain, shard by shard in log order; all, or those about one event."""
    for shard in range(bus.shards):
        names = Names(bus.domain, shard)
        async for letter in _scan(bus, shard, [names.all_dead if event_id is None else names.letters(event_id)]):
            yield letter


async def letters_about(bus: Bus, shard: int, events: Sequence[tuple[str, str]]) -> list[DeadLetter]:
    """The dead letters about events of one shard, each event given as (id, key); in log order."""
    names = Names(bus.domain, shard)
    filters = sorted({names.letters(event_id, key) for event_id, key in events})
    found: list[DeadLetter] = []
    for first in range(0, len(filters), FILTERS_MAX):
        found += [letter async for letter in _scan(bus, shard, filters[first : first + FILTERS_MAX])]
    return sorted(found, key=lambda letter: letter.seq)


async def redrive(bus: Bus, letter: DeadLetter, *, timeout_s: float = 10.0) -> Receipt:
    """Send a dead letter's event again, to the agent that could not handle it and to nobody else.

    It is a new event with the old one as its cause, and its hops count from 0 again. Its id follows from the
    letter, so sending one letter twice is harmless: the second receipt says `duplicate`. Raises NotFound
    when neither the letter nor the log has the event any more, and MalformedEvent when it was none.
    """
    message = await bus.logs[letter.shard].last(letter.event_subject)
    if message is not None and message.seq == letter.event_seq:
        old = gate.read(message.data, None, message.headers)
    elif letter.event is not None:
        old = gate.read(letter.event.encode(), gate.CONTENT_TYPE)
    else:
        raise NotFound(f"event {letter.id} is no longer in the log, and was too large for its letter")
    new = replace(
        old,
        id=redriven_id(letter),
        partitionkey=letter.key,
        correlationid=letter.saga,
        causationid=old.id,
        hkhops=0,
    )
    return await bus.publish_envelope(new, to=letter.agent, timeout_s=timeout_s)


def redriven_id(letter: DeadLetter) -> str:
    """The id that a letter's event gets when it is sent again."""
    return derived(letter.id, f"redrive {letter.agent} {letter.seq}")


async def _scan(bus: Bus, shard: int, filters: Sequence[str]) -> AsyncIterator[DeadLetter]:
    async with aclosing(bus.logs[shard].scan(filters)) as messages:
        async for message in messages:
            try:
                yield letter_of(message, shard)
            except MalformedEvent:
                continue  # whoever wrote there is no agent of hocket's


def _envelope(body: bytes) -> Envelope | None:
    try:
        return gate.read(body, gate.CONTENT_TYPE)
    except MalformedEvent:
        return None


def _type_in(subject: str) -> str:
    try:
        return address(subject).type
    except NotFound:
        return ""


__all__ = ["DeadLetter", "letter_of", "letters", "letters_about", "redrive", "redriven_id"]
