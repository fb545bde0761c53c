"""The log held against itself and against a copy: facts that others name as their cause, facts that a copy holds."""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from hocket.client import Delivery
from hocket.errors import NotFound
from hocket.log.base import Message, Whole
from hocket.observe.fact import Fact, fact_of
from hocket.observe.letters import letter_of
from hocket.storage.checking import messages_of
from hocket.storage.line import Stored, whose
from hocket.subjects import Names, address

IMMUTABLE = frozenset({"evt", "cmd", "jrn", "dead"})


@dataclass(frozen=True, slots=True)
class Missing:
    """A fact that should be in the log and is not."""

    key: str | None
    id: str
    """Of an event its id."""

    what: str
    """`cause`: another event names it as its cause; `gone`: a copy holds it; `replaced`: another is in its place."""

    shard: int
    detail: str


async def without_cause(logs: Sequence[Whole], archived: Collection[str] = ()) -> list[Missing]:
    """The causes that events name and that are neither in the log nor archived, by key."""
    cited: list[Fact] = []
    there: set[str] = set(archived)
    for log in logs:
        async for fact in _facts(log):
            there.add(fact.id)
            if fact.cause is not None:
                cited.append(fact)
        async with aclosing(log.scan([Names(log.domain, log.shard).all_dead])) as letters:
            there.update([letter_of(message, log.shard).id async for message in letters])
    found = {
        (fact.key, fact.cause): Missing(
            fact.key, fact.cause, "cause", fact.shard, f"named by {fact.type} {fact.id}, sequence {fact.seq}"
        )
        for fact in cited
        if fact.cause is not None and fact.cause not in there
    }
    return sorted(found.values(), key=lambda missing: (missing.key or "", missing.id))


async def not_in_log(logs: Sequence[Whole], copy: Path) -> list[Missing]:
    """The immutable messages of a sound copy that are not in the log any more, though their time has not run out."""
    now_ns = await logs[0].time_s() * 1e9
    found: list[Missing] = []
    for log in logs:
        wanted = (s for s in messages_of(copy) if s.shard == log.shard and whose(s.message.subject).kind in IMMUTABLE)
        async with aclosing(log.everything()) as messages:
            lost = [stored async for stored in _lost(wanted, messages) if not _over(stored, now_ns)]
        for stored in lost:
            message, about = stored.message, whose(stored.message.subject)
            newer = await log.last(message.subject)
            what = "gone" if newer is None else "replaced"
            detail = f"{message.subject}, sequence {message.seq}" + (f", now {newer.seq}" if newer else "")
            found.append(Missing(about.key, about.id, what, log.shard, detail))
    return sorted(found, key=lambda missing: (missing.key or "", missing.id))


def archived_ids(files: Iterable[Path]) -> set[str]:
    """The ids of all events in some sound copies."""
    return {fact.id for path in files for fact in _facts_of(messages_of(path))}


def _over(stored: Stored, now_ns: float) -> bool:
    return stored.ttl is not None and stored.message.time_ns + stored.ttl.total_seconds() * 1e9 <= now_ns


async def _lost(wanted: Iterator[Stored], messages: AsyncIterator[Message]) -> AsyncIterator[Stored]:
    """What is wanted and does not come; both are in the order of the log."""
    next_wanted = next(wanted, None)
    async for message in messages:
        while next_wanted is not None and next_wanted.message.seq < message.seq:
            yield next_wanted
            next_wanted = next(wanted, None)
        if next_wanted is None:
            return
        if next_wanted.message.seq == message.seq:
            if (next_wanted.message.subject, next_wanted.message.data) != (message.subject, message.data):
                yield next_wanted
            next_wanted = next(wanted, None)
    while next_wanted is not None:
        yield next_wanted
        next_wanted = next(wanted, None)


async def _facts(log: Whole) -> AsyncIterator[Fact]:
    names = Names(log.domain, log.shard)
    async with aclosing(log.scan([names.all_events, f"{names.root}.cmd.>"])) as messages:
        async for message in messages:
            for fact in _facts_of([Stored(log.shard, message)]):
                yield fact


def _facts_of(found: Iterable[Stored]) -> Iterator[Fact]:
    for stored in found:
        try:
            yield fact_of(Delivery(stored.message, stored.shard, address(stored.message.subject)))
        except NotFound:
            continue  # whoever wrote there is no agent of hocket's


__all__ = ["Missing", "archived_ids", "not_in_log", "without_cause"]
