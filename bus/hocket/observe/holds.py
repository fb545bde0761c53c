"""Holds from outside: where a word about one has to go, who has heard it, and what is held now."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from hocket.client import Bus, Receipt
from hocket.engine.holds import WORDS, read_word, told
from hocket.errors import MalformedEvent
from hocket.ids import fresh
from hocket.subjects import Names, at_home, shard_of, tokens_of
from hocket_schemas.holds import Hold, HoldPlaced

LOOK_S = 0.1
"""How often to look whether everybody has heard it."""

Place = tuple[str, int]
"""An agent, and a shard."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is held on one shard, and by whom."""

    kind: str
    """`agent`, `key` or `saga`."""

    name: str
    agent: str | None
    """Where a key or a saga is held; None: at every agent."""

    shard: int
    by: str
    reason: str
    since: str
    """RFC 3339."""

    def __str__(self) -> str:
        return told(HoldPlaced(agent=self.agent or self.name, by=self.by, reason=self.reason))


async def say(bus: Bus, word: Hold, *, event_id: str | None = None) -> list[Receipt]:
    """Put a word about a hold into the log, on every shard that it may concern; the same `event_id` adds nothing."""
    kind, name = word.scope
    event_id = event_id or fresh()
    if kind == "key":
        keys = [name]
    else:
        own = shard_of(name, bus.shards)
        keys = [name if shard == own else at_home(name, shard, bus.shards) for shard in range(bus.shards)]
    saga = name if kind == "saga" else event_id
    return [await bus.publish(word, key=key, saga=saga, event_id=event_id) for key in keys]


async def held(bus: Bus) -> list[Held]:
    """All that is held now: of each agent, key and saga the newest word, where that is no release."""
    found: list[Held] = []
    for shard, log in enumerate(bus.logs):
        newest: dict[tuple[str, str, str | None], Held] = {}
        async with aclosing(log.scan([*map(Names(bus.domain, shard).events_of_type, WORDS)])) as messages:
            async for message in messages:
                try:
                    said = read_word(message)
                except MalformedEvent:
                    continue
                word, (kind, name) = said.word, said.word.scope
                agent = None if kind == "agent" else word.agent
                if agent is None:  # it is said of every agent, whatever was said of one
                    newest = {place: one for place, one in newest.items() if place[:2] != (kind, name)}
                newest.pop((kind, name, agent), None)
                if said.placed:
                    newest[kind, name, agent] = Held(kind, name, agent, shard, word.by, word.reason, said.since)
        found += newest.values()
    return found


async def heard(
    word: Hold, receipts: Sequence[Receipt], *, owners: Callable[[], Mapping[Place, int]], timeout_s: float
) -> list[str]:
    """Wait until every owner that a word concerns knows it, or for so long; return the agents that do not yet.

    `owners` are those that are heard, with the sequence of the newest word that each of them knows.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + timeout_s
    said = {receipt.shard: receipt.seq for receipt in receipts}
    while True:
        behind = {
            agent
            for (agent, shard), newest in owners().items()
            if word.agent in (None, agent) and newest < said.get(shard, 0)
        }
        if not behind or loop.time() >= until_s:
            return sorted(behind)
        await asyncio.sleep(LOOK_S)


async def known_agents(bus: Bus) -> set[str]:
    """Every agent that has ever owned a shard."""
    found: set[str] = set()
    for shard, log in enumerate(bus.logs):
        async with aclosing(log.scan([Names(bus.domain, shard).owners])) as messages:
            async for message in messages:
                found.add(tokens_of(message.subject)[1])
    return found


__all__ = ["Held", "heard", "held", "known_agents", "say"]
