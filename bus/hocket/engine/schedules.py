"""The clock of an agent: each time that one of its schedules comes due is one event, whoever owns the agent then."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from hocket.agent import Agent
from hocket.clock import rfc3339, utc
from hocket.engine.commit import Committer
from hocket.engine.handling import EVENT_HEADERS
from hocket.engine.runs import END_KEPT, LONGEST_LOOK_S
from hocket.engine.transition import Tenure, Transition
from hocket.errors import MalformedEvent
from hocket.ids import cause_of
from hocket.log.base import Expect, Log, Write
from hocket.process import Process
from hocket.schedule import Schedule, fire
from hocket.subjects import Names, address, shard_of
from hocket.telemetry import note
from hocket_schemas import gate
from hocket_schemas.runtime import ScheduleDue


@dataclass(frozen=True, slots=True)
class Due:
    """The record of a schedule: what is next due of it."""

    schedule: str
    cron: str
    tz: str
    key: str
    due_s: int
    """The first time that nothing was done about, in seconds since the Unix epoch."""

    last: str | None = None
    """The subject of its newest tick; None: there was none yet."""

    skipped: int = 0
    """So many times were passed over since then."""

    def to_json(self) -> bytes:
        """The record's body."""
        return orjson.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, body: bytes) -> "Due":
        """Read a record's body. Raises MalformedEvent when it is none of a schedule."""
        try:
            return cls(**orjson.loads(body))
        except (ValueError, TypeError) as error:
            raise MalformedEvent(f"not the record of a schedule: {body[:80]!r}") from error


def taken_up(schedule: Schedule, found: Due | None, now_s: float) -> Due:
    """What is next due of a schedule, given the record that an owner before has left.

    A rule that is new, or another one than before, begins now: its times before that were never promised.
    """
    rule = schedule.rule
    if found is not None and (found.cron, found.tz) == (rule.cron, rule.tz):
        return replace(found, key=schedule.key)
    last, skipped = (found.last, found.skipped) if found else (None, 0)
    return Due(schedule.name, rule.cron, rule.tz, schedule.key, next(rule.after(now_s)), last, skipped)


class Ticker:
    """Lets the schedules of one agent tick on one shard, for one tenure.

    A tick and the record that says what is due next are one append under the fence, so that whoever owns the
    agent afterwards knows of both or of neither: no time gets two events, and none is forgotten.
    """

    def __init__(
        self, agent: Agent[Any], log: Log, committer: Committer, tenure: Tenure, *, process: Process, shards: int
    ) -> None:
        self._agent = agent
        self._log = log
        self._committer = committer
        self._tenure = tenure
        self._process = process
        self._names = Names(log.domain, log.shard)
        self._source = f"/{log.domain}/{agent.name}"
        self._schedules = {s.name: s for s in agent.schedules.values() if shard_of(s.key, shards) == log.shard}
        self._dues: dict[str, Due] = {}

    async def serve(self, found: Sequence[Due], going: Callable[[], Awaitable[None]]) -> None:
        """Tick for as long as the tenure lasts, from what the owners before have left.

        Waits for `going` each time: what comes due while the agent is paused was missed.
        """
        await self._take_up({due.schedule: due for due in found})
        while self._dues:
            await self._until(min(due.due_s for due in self._dues.values()))
            await going()
            now_s = self._process.clock.now_s()
            # Side by side: their appends are one group, and none is late because of another.
            async with asyncio.TaskGroup() as ticks:
                for due in self._dues.values():
                    if due.due_s <= now_s:
                        ticks.create_task(self._tick(self._schedules[due.schedule], due, now_s))

    async def _take_up(self, found: Mapping[str, Due]) -> None:
        """Begin the schedules that are new or have changed, and forget those that the code has no more."""
        now_s = self._process.clock.now_s()
        self._dues = {name: taken_up(schedule, found.get(name), now_s) for name, schedule in self._schedules.items()}
        records = [self._record(due) for name, due in self._dues.items() if due != found.get(name)]
        for name in found.keys() - self._dues.keys():
            records.append(Write(self._names.due(self._agent.name, name), b"", ttl=END_KEPT))
        if records:
            await self._stored([], records)

    async def _until(self, due_s: int) -> None:
        """Wait for a time, never too short; the clock may be corrected meanwhile."""
        while (wait_s := due_s - self._process.clock.now_s()) > 0:  # noqa: ASYNC110 - it is time itself that is waited for
            await asyncio.sleep(min(wait_s, LONGEST_LOOK_S))

    async def _tick(self, schedule: Schedule, due: Due, now_s: float) -> None:
        """Put what has come due into the log, together with what comes next."""
        firing = fire(schedule, due.due_s, now_s)
        if firing.ticks and schedule.overlap == "skip" and due.last and await self._is_open(due.last):
            firing = firing.dropped()
        skipped = due.skipped + firing.skipped
        events: list[Write] = []
        for due_s in firing.ticks:
            counts = {"missed": firing.missed, "skipped": skipped} if not events else {}
            events.append(self._event(schedule, ScheduleDue(schedule=schedule.name, due=utc(due_s), **counts), now_s))
        last = events[-1].subject if events else due.last
        following = replace(due, due_s=firing.next_s, last=last, skipped=0 if events else skipped)
        if firing.missed or firing.skipped:
            note(logging.INFO, "ticks missed", agent=self._agent.name, schedule=schedule.name, **firing._asdict())
        if not await self._stored(events, [self._record(following)]):
            # Some are there from before: the schedule was gone for a while, and the clock has been set back.
            for event in events:
                await self._stored([event], [])
            await self._stored([], [self._record(following)])
        self._dues[schedule.name] = following

    async def _is_open(self, subject: str) -> bool:
        """Whether a tick is not handled yet, or its run has not ended."""
        message = await self._log.last(subject)
        if message is not None and not self._tenure.cursor.finished(message.seq):
            return True
        where = address(subject)
        run = cause_of(self._agent.name, self._source, where.id)
        head = await self._log.last(self._names.run(self._agent.name, where.key, run))
        return head is not None and head.data != b""

    async def _stored(self, events: list[Write], records: list[Write]) -> bool:
        """Whether all of it was stored; False when one of the events is in the log already, and nothing was."""
        contested = frozenset(event.subject for event in events)
        return await self._committer.fate_of(
            Transition(self._tenure, None, events=events, records=records, contested=contested)
        )

    def _record(self, due: Due) -> Write:
        return Write(self._names.due(self._agent.name, due.schedule), due.to_json())

    def _event(self, schedule: Schedule, tick: ScheduleDue, now_s: float) -> Write:
        """A tick as it will be stored, under the id that follows from whose it is and when it was due."""
        cause = cause_of(self._agent.name, f"schedule/{schedule.name}", rfc3339(tick.due.timestamp()))
        tick_id = f"{cause}.0"
        body = gate.encode(
            {
                "specversion": "1.0",
                "id": tick_id,
                "source": self._source,
                "type": tick.event_type,
                "time": rfc3339(now_s),
                "partitionkey": schedule.key,
                "correlationid": tick_id,
                "hkversion": self._agent.version,
                "data": tick.model_dump(mode="json"),
            }
        )
        subject = self._names.command(self._agent.name, schedule.key, cause, 0, tick.event_type)
        return Write(subject, body, Expect(subject, 0), ScheduleDue.retention, EVENT_HEADERS)


__all__ = ["Due", "Ticker", "taken_up"]
