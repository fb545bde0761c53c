"""Forgetting: what was remembered about a subject is overwritten in the log, in one append with the event that says so.

It is the one exception to events that nobody changes, and an operator's: no handler can do it.
"""

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from hocket.client import EVENT_HEADERS, Bus
from hocket.errors import Conflict, MalformedEvent, NotFound, OutcomeUnknown
from hocket.forgotten import digest_of, is_tombstone, overwriting, tombstone_in
from hocket.ids import derived
from hocket.log.base import Expect, Message, Write
from hocket.memory.index import FACTS
from hocket.subjects import Names, at_home, type_of
from hocket_schemas import gate
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Event
from hocket_schemas.memory import Disputed, Erased, Forgotten, Retracted, Statement, Superseded

OVERWRITTEN_MAX = 500
"""So many events go in one append."""

ROUNDS_MAX = 20
"""How often to look for what came, or was refused, meanwhile."""

HOME = "memory"
"""The key of the events that say what was forgotten, or what comes closest to it on another shard."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What one call has overwritten."""

    erased: tuple[Erased, ...]
    texts: tuple[str, ...]
    """What was overwritten. It is nowhere else: for looking who has copied it."""

    events: tuple[str, ...]
    """The ids of the events that say so."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What an event says was forgotten, and whether the log bears it out."""

    id: str
    """The event's."""

    event: Forgotten
    standing: tuple[str, ...]
    """The ids of those in whose place there is no such tombstone; empty: it is borne out."""


@dataclass(frozen=True, slots=True)
class _Said:
    """One event of the memory, with its place."""

    shard: int
    message: Message
    envelope: Envelope
    event: Event


async def forget(bus: Bus, subject: str, *, by: str, reason: str = "") -> Forgetting:
    """Overwrite every fact about a subject, and all that was said of those facts, until nothing is left.

    Each message is replaced by its digest, if it is still the one that was read; who supersedes or retracts whom is
    kept. Nobody handles what takes its place, and the projections forget by it. What agents have copied into events,
    states and journals of theirs stays: `traces` finds it. Raises NotFound when nothing is remembered about it.
    """
    erased: list[Erased] = []
    texts: list[str] = []
    events: list[str] = []
    for _ in range(ROUNDS_MAX):
        found, known = await _about(bus, subject)
        if not found:
            if not erased and not known:
                raise NotFound(f"nothing is remembered about {subject!r}")
            break
        for shard in sorted({said.shard for said in found}):
            chosen = [said for said in found if said.shard == shard][:OVERWRITTEN_MAX]
            writes, audit = _overwriting(bus, shard, chosen, subject, by, reason)
            # Noted before: an append without an answer may be stored all the same, and nobody can read them after it.
            texts += [text for said in chosen for text in _texts(said.event)]
            try:
                await bus.logs[shard].append(writes)
            except (Conflict, OutcomeUnknown):
                if await bus.logs[shard].last(writes[-1].subject) is None:
                    continue  # read again: somebody else was quicker, or it was not stored
            erased += audit.erased
            events.append(_id_of(audit))
    else:
        raise Conflict(f"more about {subject!r} comes as fast as it is forgotten")
    return Forgetting(tuple(erased), tuple(dict.fromkeys(texts)), tuple(events))


async def claims(bus: Bus, subject: str | None = None) -> list[Claim]:
    """What was said to be forgotten, about one subject or all, each held against what is in the log now."""
    digest = digest_of(subject) if subject is not None else None
    stones: dict[str, str] = {}
    found: list[tuple[str, Forgotten]] = []
    for shard, log in enumerate(bus.logs):
        names = Names(bus.domain, shard)
        async with aclosing(log.scan(_filters(names, (*FACTS, Forgotten)))) as messages:
            async for message in messages:
                try:
                    if is_tombstone(message):
                        envelope, stone = tombstone_in(message)
                        stones[envelope.id] = stone.digest
                    elif type_of(message.subject) == Forgotten.event_type:
                        envelope = gate.read(message.data, None, message.headers)
                        event = gate.event_of(envelope, Forgotten)
                        if digest in (None, event.subject):
                            found.append((envelope.id, event))
                except MalformedEvent:
                    continue
    return [
        Claim(event_id, event, tuple(each.id for each in event.erased if stones.get(each.id) != each.digest))
        for event_id, event in found
    ]


async def _about(bus: Bus, subject: str) -> tuple[list[_Said], bool]:
    """The events that say something about a subject, and whether something about it was forgotten before."""
    digest = digest_of(subject)
    said: list[_Said] = []
    ids: set[str] = set()
    known = False
    for shard, log in enumerate(bus.logs):
        async with aclosing(log.scan(_filters(Names(bus.domain, shard), FACTS))) as messages:
            async for message in messages:
                try:
                    if is_tombstone(message):
                        envelope, stone = tombstone_in(message)
                        if stone.subject == digest:
                            ids.add(envelope.id)
                            known = True
                        continue
                    envelope = gate.read(message.data, None, message.headers)
                    said.append(_Said(shard, message, envelope, gate.event_of(envelope)))
                except (MalformedEvent, NotFound):
                    continue  # nobody recalls it either
    ids |= {each.envelope.id for each in said if isinstance(each.event, Statement) and each.event.about == subject}
    return [each for each in said if each.envelope.id in ids or _is_about(each.event, ids)], known


def _is_about(event: Event, ids: set[str]) -> bool:
    """Whether it says something of a fact, and is none itself: the reason may tell as much."""
    return isinstance(event, Disputed | Retracted) and event.fact in ids


def _overwriting(
    bus: Bus, shard: int, chosen: Sequence[_Said], subject: str, by: str, reason: str
) -> tuple[list[Write], Forgotten]:
    """The append that overwrites some events and says so."""
    digest = digest_of(subject)
    writes: list[Write] = []
    erased: list[Erased] = []
    for said in chosen:
        fact = said.event.fact if isinstance(said.event, Superseded | Disputed | Retracted) else ""
        write, stone = overwriting(said.message, said.envelope, subject=digest, fact=fact)
        writes.append(write)
        erased.append(Erased(id=said.envelope.id, digest=stone.digest))
    audit = Forgotten(subject=digest, by=by, reason=reason, erased=erased)
    key, event_id = at_home(HOME, shard, bus.shards), _id_of(audit)
    envelope = Envelope(
        id=event_id,
        source=f"/{bus.domain}/{bus.publisher}",
        type=audit.event_type,
        data=audit.model_dump(mode="json"),
        time=bus.now(),
        partitionkey=key,
        correlationid=key,
    )
    where = Names(bus.domain, shard).event(key, bus.publisher, event_id, 0, audit.event_type)
    writes.append(Write(where, gate.write(envelope), Expect(where, 0), None, EVENT_HEADERS))
    return writes, audit


def _id_of(audit: Forgotten) -> str:
    return derived(audit.subject, ",".join(each.id for each in audit.erased))


def _texts(event: Event) -> list[str]:
    return [text for text in (getattr(event, "text", ""), getattr(event, "reason", "")) if text]


def _filters(names: Names, types: Iterable[type[Event]]) -> list[str]:
    return [names.events_of_type(event.event_type) for event in types]


__all__ = ["Claim", "Forgetting", "claims", "forget"]
