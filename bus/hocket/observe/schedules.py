"""What comes due when: read from the records of schedules, whether or not anybody owns their agents."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from hocket.client import Bus
from hocket.clock import rfc3339
from hocket.engine.schedules import Due
from hocket.subjects import Names, address, tokens_of


@dataclass(frozen=True, slots=True)
class ScheduleLine:
    """One schedule of one agent."""

    agent: str
    schedule: str
    cron: str
    tz: str
    next_due: str
    """RFC 3339, in UTC. In the past when nobody owns the agent: what is missed since then is caught up with."""

    key: str
    shard: int
    last_tick: str | None
    """The id of its newest event; None: there was none yet."""

    skipped: int
    """So many times were passed over since then."""


async def schedules(bus: Bus) -> AsyncIterator[ScheduleLine]:
    """Every schedule that the log knows, in the order of its last change."""
    for shard, log in enumerate(bus.logs):
        async with aclosing(log.scan([Names(bus.domain, shard).all_dues])) as messages:
            async for message in messages:
                if message.data:
                    due = Due.from_json(message.data)
                    last = address(due.last).id if due.last else None
                    agent = tokens_of(message.subject)[1]
                    next_due = rfc3339(due.due_s)
                    yield ScheduleLine(
                        agent, due.schedule, due.cron, due.tz, next_due, due.key, shard, last, due.skipped
                    )


__all__ = ["ScheduleLine", "schedules"]
