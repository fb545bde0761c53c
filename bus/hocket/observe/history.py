"""All that the log holds under a key, in the order in which it came."""

from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from hocket.client import Bus, Delivery
from hocket.errors import MalformedEvent, NotFound
from hocket.log.base import Message
from hocket.observe.fact import Fact, fact_of, stored_at
from hocket.observe.letters import DeadLetter, letter_of
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
class OpenRun:
    """A handling that takes long and has not ended."""

    agent: str
    key: str
    run: str
    seq: int
    stored: str
    event_seq: int
    handler: str
    version: str


Entry = Fact | DeadLetter | State | OpenRun


async def history(bus: Bus, key: str) -> list[Entry]:
    """Events, dead letters, states and open runs of a key, in log order. Raises NotFound for an unknown key."""
    shard = shard_of(key, bus.shards)
    entries: list[Entry] = []
    async with aclosing(bus.logs[shard].scan(Names(bus.domain, shard).everything_of_key(key))) as messages:
        async for message in messages:
            entry = entry_of(message, shard)
            if entry is not None:
                entries.append(entry)
    if not entries:
        raise NotFound(f"the log of domain {bus.domain!r} holds nothing under key {key!r}")
    return entries


def entry_of(message: Message, shard: int) -> Entry | None:
    """What a message is to a reader of the history; None for what says nothing, such as the end of a run."""
    kind, *names = tokens_of(message.subject)
    stored = stored_at(message.time_ns)
    try:
        if kind in ("evt", "cmd"):
            return fact_of(Delivery(message, shard, address(message.subject)))
        if kind == "dead":
            return letter_of(message, shard)
        if kind == "act":
            return State(names[0], names[1], message.seq, stored, _json(message.data))
        if kind == "run" and message.data:
            head = orjson.loads(message.data)
            handler, version = str(head.get("handler", "")), str(head.get("version", ""))
            return OpenRun(names[0], names[1], names[2], message.seq, stored, int(head["seq"]), handler, version)
    except (MalformedEvent, NotFound, ValueError, KeyError, TypeError, AttributeError):
        return None  # whoever wrote there is no agent of hocket's
    return None


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


__all__ = ["Entry", "OpenRun", "State", "entry_of", "history"]
