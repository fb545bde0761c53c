"""Whose state knows of a saga: which actors it has changed, and whether they were told that it was undone."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from hocket.client import Bus
from hocket.errors import MalformedEvent
from hocket.log.base import Log
from hocket.observe.fact import Fact
from hocket.saga.record import COORDINATOR
from hocket.subjects import Names, tokens_of
from hocket_schemas import gate
from hocket_schemas.runtime import SagaAborted


class Knowing(StrEnum):
    """What is known of an actor's state."""

    CHANGED = "changed"
    """An event of the saga has changed it."""

    TOLD = "told"
    """So it has, and the actor was told that the saga is undone."""

    POSSIBLE = "possible"
    """Its agent has no `on_aborted`. It answered an event of the saga, and has a state."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """One actor."""

    agent: str
    key: str
    state: Knowing


async def knowledge_of(bus: Bus, saga: str, facts: Sequence[Fact]) -> list[Knowledge]:
    """The actors whose state may hold something of a saga, given the events of it that the log holds."""
    keys = {(fact.shard, fact.id): fact.key for fact in facts}
    found: dict[tuple[str, str], Knowledge] = {}
    for shard, log in enumerate(bus.logs):
        names = Names(bus.domain, shard)
        async with aclosing(log.scan([names.parts(saga)])) as messages:
            parts = [tokens_of(message.subject) async for message in messages]
        for _, agent, _, key in parts:
            told = await _is_told(log, names, agent, key, saga)
            found[agent, key] = Knowledge(agent, key, Knowing.TOLD if told else Knowing.CHANGED)
        answered = {(f.publisher, keys.get((shard, f.cause))) for f in facts if f.shard == shard and f.cause}
        for agent, actor_key in sorted((a, k) for a, k in answered if a not in ("", COORDINATOR) and k is not None):
            if (agent, actor_key) not in found and await log.last(names.actor(agent, actor_key)) is not None:
                found[agent, actor_key] = Knowledge(agent, actor_key, Knowing.POSSIBLE)
    return sorted(found.values(), key=lambda known: (known.agent, known.key))


async def _is_told(log: Log, names: Names, agent: str, key: str, saga: str) -> bool:
    pattern = names.commands_of_key(agent, key, SagaAborted.event_type)
    async with aclosing(log.scan([pattern])) as messages:
        async for message in messages:
            try:
                envelope = gate.read(message.data, None, message.headers)
            except MalformedEvent:
                continue
            if envelope.correlationid == saga:
                return True
    return False


__all__ = ["Knowing", "Knowledge", "knowledge_of"]
