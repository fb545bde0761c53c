"""Dead letters: what agents could not handle, and what people made of it."""

from base64 import b64decode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

from hocket.client import Bus
from hocket.errors import MalformedEvent, NotFound
from hocket.ids import derived
from hocket.log.base import Message
from hocket.observe.fact import stored_at
from hocket.subjects import Names, address, tokens_of
from hocket_schemas import gate
from hocket_schemas.envelope import Envelope
from hocket_schemas.letters import DeadLetterDiscarded, DeadLetterRedriven

FILTERS_MAX = 100
"""Most filters in one scan."""

PEOPLE = "hocket"
"""In whose name fates are published, whoever asks: so all who ask write to one place, where one comes first."""

Status = Literal["open", "redriven", "discarded"]


@dataclass(frozen=True, slots=True)
class Fate:
    """What somebody made of a dead letter, once and for all."""

    status: Status
    by: str
    reason: str
    at: str
    """When it was stored, RFC 3339."""

    redriven_as: str | None = None
    """The id of the event that was sent in its place."""

    edit: Any = None
    """What was changed in its data; None: nothing."""


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

    ancestor: str | None = None
    """The id of the letter whose redriving died here; None: it came by itself."""

    generation: int = 0
    """How often the event had been sent again before it died here."""

    causes: tuple[str, ...] = ()
    """What the attempts before the last one failed with, the newest ones."""

    failed: tuple[str, ...] = ()
    """When each of them did, RFC 3339."""

    then: str = "dead_letter"
    """What its handler wanted to follow: `hold`, `fail_saga` or `escalate`; `dead_letter`: nothing more."""

    status: Status = "open"
    fate: Fate | None = None
    """None while it is open."""

    @property
    def unreadable(self) -> bool:
        """Whether what came was no event at all; then nobody can send it as it is."""
        return self.id == f"seq-{self.event_seq}"


def letter_of(message: Message, shard: int) -> DeadLetter:
    """Read a dead letter, whatever became of it. Raises MalformedEvent for what is none."""
    try:
        _, agent, key, event_id = tokens_of(message.subject)
        fields = orjson.loads(message.data)
        subject = str(fields["subject"])
        body = fields.get("event")
        raw = body.encode() if isinstance(body, str) else b64decode(fields.get("event_base64") or "")
        envelope = _envelope(raw)
        generation = fields.get("generation")
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
            type=fields.get("type") or (envelope.type if envelope else _type_in(subject)),
            saga=fields.get("saga") or (envelope.correlationid if envelope else None) or key,
            event_seq=int(fields["seq"]),
            event_subject=subject,
            event=body if isinstance(body, str) else None,
            ancestor=fields.get("ancestor"),
            generation=generation if isinstance(generation, int) else 0,
            causes=tuple(map(str, fields.get("causes", ()))),
            failed=tuple(map(str, fields.get("failed", ()))),
            then=str(fields.get("then", "dead_letter")),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedEvent(f"{message.subject} is no dead letter: {error!r}") from error


async def letters(bus: Bus, *, event_id: str | None = None) -> AsyncIterator[DeadLetter]:
    """The dead letters of a domain, shard by shard in log order; all, or those about one event."""
    for shard in range(bus.shards):
        names = Names(bus.domain, shard)
        if event_id is None:
            wanted = [names.events_of_type(kind.event_type) for kind in (DeadLetterRedriven, DeadLetterDiscarded)]
            fates = await _fates(bus, shard, wanted)
            async for letter in _scan(bus, shard, [names.all_dead]):
                yield settled(letter, fates)
        else:
            found = [letter async for letter in _scan(bus, shard, [names.letters(event_id)])]
            for letter in await _with_fates(bus, shard, found):
                yield letter


async def letters_about(bus: Bus, shard: int, events: Sequence[tuple[str, str]]) -> list[DeadLetter]:
    """The dead letters about events of one shard, each event given as (id, key); in log order."""
    names = Names(bus.domain, shard)
    filters = sorted({names.letters(event_id, key) for event_id, key in events})
    found: list[DeadLetter] = []
    for first in range(0, len(filters), FILTERS_MAX):
        found += [letter async for letter in _scan(bus, shard, filters[first : first + FILTERS_MAX])]
    return await _with_fates(bus, shard, sorted(found, key=lambda letter: letter.seq))


def fate_token(letter: DeadLetter) -> str:
    """The name of what becomes of a letter, and the id of the event that says it: one for each letter.

    It follows from the place of the event that died, so that a letter which was written once more has the same.
    """
    return derived(letter.id, f"fate {letter.agent} {letter.event_seq}")


def fate_in(message: Message) -> tuple[str, Fate] | None:
    """What an event says about a dead letter, with the letter's `fate_token`; None: it says nothing of that."""
    try:
        where = address(message.subject)
        if where.agent != PEOPLE or where.kind != "evt":
            return None
        envelope = gate.read(message.data, None, message.headers)
        match where.type:
            case DeadLetterRedriven.event_type:
                redriven = gate.event_of(envelope, DeadLetterRedriven)
                at = stored_at(message.time_ns)
                fate = Fate("redriven", redriven.by, redriven.reason, at, redriven.redriven_as, redriven.edit)
            case DeadLetterDiscarded.event_type:
                discarded = gate.event_of(envelope, DeadLetterDiscarded)
                fate = Fate("discarded", discarded.by, discarded.reason, stored_at(message.time_ns))
            case _:
                return None
    except (MalformedEvent, NotFound):
        return None
    return where.cause, fate


def settled(letter: DeadLetter, fates: Mapping[str, Fate]) -> DeadLetter:
    """The letter with what became of it, if that is among the fates."""
    fate = fates.get(fate_token(letter))
    return replace(letter, status=fate.status, fate=fate) if fate else letter


async def _with_fates(bus: Bus, shard: int, found: Sequence[DeadLetter]) -> list[DeadLetter]:
    names = Names(bus.domain, shard)
    filters = sorted({names.emitted(letter.key, PEOPLE, fate_token(letter)) for letter in found})
    fates: dict[str, Fate] = {}
    for first in range(0, len(filters), FILTERS_MAX):
        fates |= await _fates(bus, shard, filters[first : first + FILTERS_MAX])
    return [settled(letter, fates) for letter in found]


async def _fates(bus: Bus, shard: int, filters: Sequence[str]) -> dict[str, Fate]:
    async with aclosing(bus.logs[shard].scan(filters)) as messages:
        return dict([said async for message in messages if (said := fate_in(message))])


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


__all__ = [
    "PEOPLE",
    "DeadLetter",
    "Fate",
    "Status",
    "fate_in",
    "fate_token",
    "letter_of",
    "letters",
    "letters_about",
    "settled",
]
