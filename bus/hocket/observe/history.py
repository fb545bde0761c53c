"""All that the log holds under a key, in the order in which it came."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from hocket.client import Bus, Delivery
from hocket.clock import rfc3339
from hocket.engine.runs import Head
from hocket.errors import MalformedEvent, NotFound
from hocket.forgotten import in_its_place
from hocket.log.base import Message
from hocket.observe.fact import Fact, fact_of, stored_at
from hocket.observe.letters import DeadLetter, Fate, fate_in, letter_of, settled
from hocket.run import Entry as JournalEntry
from hocket.subjects import Names, address, shard_of, tokens_of


@dataclass(frozen=True, slots=True)
class State:
    """What an agent remembers of the key, as of its last change."""

    agent: str
    key: str
    seq: int
    stored: str
    state: Any
    """As JSON; None when it is no JSON."""


@dataclass(frozen=True, slots=True)
class RunHead:
    """A handling that takes long and has not ended."""

    agent: str
    key: str
    run: str
    seq: int
    stored: str
    event_seq: int
    handler: str
    version: str
    until: str | None
    """When it goes on at the latest, RFC 3339; None: it runs, or waits for as long as it takes."""

    waits: tuple[str, ...]
    """The event types that it waits for."""

    approval: Any
    """What it asks people, as JSON; None: nothing."""

    parked: str | None
    """Why a person has to look at it; None: nobody has to."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a run did: one entry of its journal."""

    agent: str
    key: str
    run: str
    seq: int
    stored: str
    kind: str
    """`step`, `effect`, `sleep`, `wait`, `approval`, `notice` of what a change of the code has left, or `attempts` that
    failed before another one came further."""

    phase: str
    """`done`, or how far it has come."""

    name: str
    occurrence: int
    """The how-manieth of its name in the run."""

    took_s: float
    until: str | None
    """Of a wait: when it ends at the latest, RFC 3339."""

    word: str
    """What a person names it by: of an effect its idempotency key, of an approval its id."""

    arguments: Any
    """Of an effect: what it was called with. Of an approval: what was asked."""

    result: Any
    error: str | None
    failures: tuple[str, ...] = ()
    """When the attempts before the last one failed, and with what."""

    record: Any = None
    """How the result came about, if that was recorded: see `hocket.observe.lineage`."""


Entry = Fact | DeadLetter | State | RunHead | Remembered


async def history(bus: Bus, key: str) -> list[Entry]:
    """Events, dead letters, states, open runs and journals of a key, in log order.

    Raises NotFound for a key that nobody has used.
    """
    shard = shard_of(key, bus.shards)
    entries: list[Entry] = []
    fates: dict[str, Fate] = {}
    async with aclosing(bus.logs[shard].scan(Names(bus.domain, shard).everything_of_key(key))) as messages:
        async for message in messages:
            entry = entry_of(message, shard)
            if entry is not None:
                entries.append(entry)
            if said := fate_in(message):
                fates.update([said])
    if not entries:
        raise NotFound(f"the log of domain {bus.domain!r} holds nothing under key {key!r}")
    entries.sort(key=lambda entry: entry.seq)  # what was forgotten is stored later than it was said
    return [settled(entry, fates) if isinstance(entry, DeadLetter) else entry for entry in entries]


def entry_of(message: Message, shard: int) -> Entry | None:
    """What a message is to a reader of the history; None for what says nothing, such as the end of a run."""
    kind, *names = tokens_of(message.subject)
    stored = stored_at(message.time_ns)
    try:
        match kind:
            case "evt" | "cmd":
                message = in_its_place(message)
                return fact_of(Delivery(message, shard, address(message.subject)))
            case "dead":
                return letter_of(message, shard)
            case "act":
                return State(names[0], names[1], message.seq, stored, _json(message.data))
            case "run" if message.data:
                return _open_run(message, names, stored)
            case "jrn":
                return _remembered(message, names, stored)
            case _:
                return None
    except (MalformedEvent, NotFound, ValueError, LookupError, TypeError):
        return None  # whoever wrote there is no agent of hocket's


def _open_run(message: Message, names: Sequence[str], stored: str) -> RunHead:
    head = Head.from_json(message.data)
    waiting = head.until_s != 0.0  # else its answer has come
    return RunHead(
        agent=names[0],
        key=names[1],
        run=names[2],
        seq=message.seq,
        stored=stored,
        event_seq=head.seq,
        handler=head.handler,
        version=head.version,
        until=rfc3339(head.until_s) if waiting and head.until_s is not None else None,
        waits=head.waits if waiting else (),
        approval=head.approval,
        parked=head.parked,
    )


def _remembered(message: Message, names: Sequence[str], stored: str) -> Remembered:
    entry = JournalEntry.from_json(message.data)
    return Remembered(
        agent=names[0],
        key=names[1],
        run=names[2],
        seq=message.seq,
        stored=stored,
        kind=entry.kind,
        phase=entry.phase,
        name=entry.name,
        occurrence=entry.occurrence,
        took_s=entry.took_s,
        until=None if entry.until_s is None else rfc3339(entry.until_s),
        word=entry.key,
        arguments=entry.arguments,
        result=entry.result,
        error=": ".join(entry.error) if entry.error else None,
        failures=tuple(f"{at} {failure}" for at, failure in entry.failures),
        record=entry.record,
    )


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


__all__ = ["Entry", "Remembered", "RunHead", "State", "entry_of", "history"]
