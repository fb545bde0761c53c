"""What agents did while they handled events: the journals of their runs, each thing once and as it stands now."""

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace

from hocket.client import Bus
from hocket.ids import cause_of
from hocket.observe.fact import Fact
from hocket.observe.history import Remembered, entry_of
from hocket.observe.letters import FILTERS_MAX
from hocket.run import DONE
from hocket.subjects import Names
from hocket_schemas.moment import datetime_of


@dataclass(frozen=True, slots=True)
class Handling:
    """One agent's handling of one event, as far as it remembered something."""

    agent: str
    event_id: str
    event_type: str
    did: tuple[Remembered, ...]
    """Steps, effects and waits in the order in which they began, each with what became of it."""


Handled = tuple[str, Fact]
"""An agent, and an event that it may have handled."""


async def deeds(bus: Bus, shard: int, handled: Iterable[Handled]) -> list[Handling]:
    """What the journals hold of some handlings on one shard, in the order in which these began.

    Handlings that remembered nothing are left out, and so are those whose journal has aged out of the log.
    """
    names = Names(bus.domain, shard)
    runs = {(agent, fact.key, cause_of(agent, fact.source, fact.id)): fact for agent, fact in handled}
    found: dict[tuple[str, str, str], list[Remembered]] = {}
    async for entry in _entries(bus, shard, [f"{names.journal(*run)}.*" for run in runs]):
        found.setdefault((entry.agent, entry.key, entry.run), []).append(entry)
    handlings = [Handling(run[0], runs[run].id, runs[run].type, folded(found[run])) for run in runs if run in found]
    return sorted(handlings, key=lambda handling: handling.did[0].seq)


def folded(entries: Iterable[Remembered]) -> tuple[Remembered, ...]:
    """Of each thing the newest entry, in the order of their first ones. A wait took from its begin to its end."""
    first: dict[tuple[str, int], Remembered] = {}
    newest: dict[tuple[str, int], Remembered] = {}
    for entry in sorted(entries, key=lambda entry: entry.seq):
        place = (entry.name, entry.occurrence)
        first.setdefault(place, entry)
        newest[place] = entry
    return tuple(_timed(first[place], entry) for place, entry in newest.items())


def _timed(first: Remembered, last: Remembered) -> Remembered:
    if last.took_s or last is first or last.phase != DONE:
        return last
    took = datetime_of(last.stored) - datetime_of(first.stored)
    return replace(last, took_s=took.total_seconds())


async def _entries(bus: Bus, shard: int, filters: list[str]) -> AsyncIterator[Remembered]:
    for begin in range(0, len(filters), FILTERS_MAX):
        async with aclosing(bus.logs[shard].scan(filters[begin : begin + FILTERS_MAX])) as messages:
            async for message in messages:
                entry = entry_of(message, shard)
                if isinstance(entry, Remembered):
                    yield entry


__all__ = ["Handled", "Handling", "deeds", "folded"]
