"""Who is heard: which instance owns which agent and shard, who stands by, and how far behind they are."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from hocket.beside import beside
from hocket.engine.owner import OWNER, RECOVERING, RELEASED, STANDBY
from hocket.log.base import Log
from hocket.subjects import Names

FRESH_S = 3.5
"""A heartbeat counts for so long: three of them may be lost."""

KEPT_MAX = 10_000
"""Most instances remembered. Anybody can send heartbeats, so there has to be an end to it."""


@dataclass(frozen=True, slots=True)
class Card:
    """What an instance last said of itself."""

    agent: str
    shard: int
    instance: str
    role: str
    """`owner`, `standby` or `released`."""

    token: int
    """Of its claim; 0 when it stands by."""

    version: str
    host: str
    pid: int
    consumes: tuple[str, ...]
    emits: tuple[str, ...]
    lag: int | None
    """How many events wait for it; None when it does not know."""

    handled: int
    heard_s: float
    """When it was heard, by the listener's own clock."""

    concurrency: int = 0
    """The most handlers that it runs at once; 0 when it does not say."""

    started: str = ""
    """When its process began."""

    memory_bytes: int | None = None
    """What its process holds; None where nobody knows."""

    blocks: int = 0
    """How often the process's event loop was blocked."""

    blocked: str = ""
    """By whom last, as a sentence's worth; empty: never."""

    held: int = 0
    """How many events wait because their key or their saga is in quarantine."""

    holds: int = 0
    """The sequence of the newest word about a pause or a quarantine that it knows."""


def card_of(body: bytes, heard_s: float) -> Card | None:
    """Read a heartbeat; None for what is none, since anybody may send it."""
    try:
        fields = orjson.loads(body)
        lag, memory_bytes = fields.get("lag"), fields.get("memory_bytes")
        return Card(
            agent=str(fields["agent"]),
            shard=int(fields["shard"]),
            instance=str(fields["instance"]),
            role=str(fields["role"]),
            token=int(fields["token"]),
            version=str(fields.get("version", "")),
            host=str(fields.get("host", "")),
            pid=int(fields.get("pid", 0)),
            consumes=tuple(map(str, fields.get("consumes", ()))),
            emits=tuple(map(str, fields.get("emits", ()))),
            lag=None if lag is None else int(lag),
            handled=int(fields.get("handled", 0)),
            heard_s=heard_s,
            concurrency=int(fields.get("concurrency", 0)),
            started=str(fields.get("started", "")),
            memory_bytes=None if memory_bytes is None else int(memory_bytes),
            blocks=int(fields.get("blocks", 0)),
            blocked=blocked_by(fields.get("blocked")),
            held=int(fields.get("held", 0)),
            holds=int(fields.get("holds", 0)),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def blocked_by(fields: Any) -> str:
    """What a watchdog has found, as a sentence's worth: `greet of ada on event 7, at agent.py:12 in greet, 5.1 s`."""
    if not isinstance(fields, dict):
        return ""
    who = f"{fields['handler']} of {fields['agent']} on event {fields['id']}, at " if fields.get("agent") else ""
    return f"{who}{fields['where']}, {float(fields['for_s']):g} s"


class Health:
    """The newest card of every instance that was heard."""

    def __init__(self) -> None:
        self._cards: dict[tuple[str, int, str], Card] = {}

    def hear(self, card: Card) -> bool:
        """Take a card in; whether it says something new, besides that the instance still lives."""
        place = (card.agent, card.shard, card.instance)
        before = self._cards.pop(place, None)
        self._cards[place] = card
        if len(self._cards) > KEPT_MAX:
            del self._cards[next(iter(self._cards))]
        return before is None or (before.role, before.token, before.pid) != (card.role, card.token, card.pid)

    def owner(self, agent: str, shard: int, now_s: float) -> Card | None:
        """The owner as far as it is heard: of those that say so, the one with the newest token."""
        owners = [c for c in self.fresh(now_s) if (c.agent, c.shard, c.role) == (agent, shard, OWNER)]
        return max(owners, key=lambda card: card.token, default=None)

    def fresh(self, now_s: float) -> Iterator[Card]:
        """The cards that still count."""
        return (card for card in self._cards.values() if card.heard_s > now_s - FRESH_S)

    def table(self, now_s: float) -> list[Card]:
        """All that are heard, owners first within their agent and shard."""
        rank = {OWNER: 0, RECOVERING: 1, STANDBY: 2, RELEASED: 3}
        return sorted(self.fresh(now_s), key=lambda c: (c.agent, c.shard, rank.get(c.role, 3), c.instance))


@asynccontextmanager
async def listening(
    logs: Sequence[Log], *, changed: Callable[[Card], None] = lambda card: None
) -> AsyncIterator[Health]:
    """Listen to the heartbeats of a domain for as long as the block lasts.

    `changed` is called with each card that says something new. Raises Unavailable when listening ends, such as
    for a permission that was taken away; a lost connection alone does not end it.
    """
    health = Health()
    loop = asyncio.get_running_loop()

    async def hear(log: Log) -> None:
        async with log.listen(Names(log.domain, log.shard).heartbeats) as heard:
            ready.release()
            async for message in heard:
                card = card_of(message.data, loop.time())
                if card is not None and card.shard == log.shard and health.hear(card):
                    changed(card)

    ready = asyncio.Semaphore(0)
    async with beside(*(hear(log) for log in logs)):
        for _ in logs:
            await ready.acquire()
        yield health


__all__ = ["Card", "Health", "blocked_by", "card_of", "listening"]
