"""How fast a shard's stream grows, what it consists of, and when it is full at that rate."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from hocket.clock import rfc3339
from hocket.errors import LogError
from hocket.ids import fresh
from hocket.log.jetstream_link import Link
from hocket.log.topology import stream_name
from hocket.log.wire import Frame

DAY_S = 86_400.0
YOUNG_S = 3600.0
"""A log that is younger tells nothing about a day."""

ANSWER_S = 3.0

KINDS: Mapping[str, Sequence[str]] = {
    "events": ("evt", "cmd"),
    "states": ("act", "part"),
    "runs": ("run",),
    "ended runs": ("end",),
    "journal": ("jrn", "blob"),
    "dead letters": ("dead",),
}
"""What is counted together; all else is a record of the runtime's own, of which there are few."""

_ADDED = ("evt", "cmd", "end", "jrn", "blob", "dead")
"""Kinds of which each message is one more, and none takes another's place."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A stream's contents and how they become more."""

    messages: int
    bytes: int
    max_bytes: int
    counts: Mapping[str, int]
    """Messages by what they are."""

    added: int
    """Facts of the last day, or since the log began, that are there still."""

    over_s: float
    """How long that was, at most a day."""

    @property
    def per_day(self) -> float | None:
        """Facts a day, before any are forgotten; None: the log is too young to tell."""
        return self.added * DAY_S / self.over_s if self.over_s >= YOUNG_S else None

    @property
    def full_in_days(self) -> float | None:
        """When the room is used up if nothing is forgotten; None: nobody knows, or never."""
        if not self.per_day or not self.messages or self.max_bytes <= 0:
            return None
        return max(0.0, self.max_bytes - self.bytes) / (self.per_day * self.bytes / self.messages)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.counts.items() if count)
        others = self.messages - sum(self.counts.values())
        text = f"{self.messages:,} messages" + (f": {kinds}, {others:,} others" if kinds else "")
        if self.per_day is not None:
            text += f"; {self.per_day:,.0f} facts a day"
        if self.full_in_days is not None:
            text += f", full in {self.full_in_days:,.0f} days if none is forgotten"
        return text


async def growth_of(link: Link, domain: str, shard: int, info: Mapping[str, Any], now_s: float) -> Growth | None:
    """Ask the server; None when it does not answer, for instance since we may not ask."""
    state, stream = info["state"], stream_name(domain, shard)
    first = state.get("first_ts", "")
    age_s = now_s - datetime.fromisoformat(first[:19] + "+00:00").timestamp() if state["messages"] else 0.0
    over_s = min(DAY_S, max(0.0, age_s))
    counts: dict[str, int] = {}
    for name, kinds in KINDS.items():
        count = await _count(link, stream, [f"{domain}.{shard}.{kind}.>" for kind in kinds], None)
        if count is None:
            return None
        counts[name] = count
    added = await _count(link, stream, [f"{domain}.{shard}.{kind}.>" for kind in _ADDED], now_s - over_s)
    if added is None:
        return None
    most = int(info["config"].get("max_bytes", -1))
    return Growth(int(state["messages"]), int(state["bytes"]), most, counts, added, over_s)


async def _count(link: Link, stream: str, filters: Sequence[str], since_s: float | None) -> int | None:
    """How many messages are under some filters: what a new consumer would deliver, which nobody reads."""
    name = f"count-{fresh()}"
    config: dict[str, Any] = {
        "name": name,
        "filter_subjects": list(filters),
        "deliver_policy": "all",
        "ack_policy": "none",
        "inactive_threshold": 5_000_000_000,
        "mem_storage": True,
        "num_replicas": 1,
    }
    if since_s is not None:
        config |= {"deliver_policy": "by_start_time", "opt_start_time": rfc3339(since_s)}
    body = orjson.dumps({"stream_name": stream, "config": config, "action": "create"})
    until_s = asyncio.get_running_loop().time() + ANSWER_S
    try:
        answer = orjson.loads(await link.ask([Frame(f"$JS.API.CONSUMER.CREATE.{stream}.{name}", body)], until_s))
        await link.ask([Frame(f"$JS.API.CONSUMER.DELETE.{stream}.{name}")], until_s)
    except (LogError, ValueError):
        return None
    return int(answer["num_pending"]) if "num_pending" in answer else None


__all__ = ["Growth", "growth_of"]
