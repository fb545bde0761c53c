"""Breakers and rates as the log has them: read before each call, and changed by one caller at a time.

A record is replaced only under the condition that it is still the one that was read. So of all who want to make the
one call that an open circuit lets through, one gets it, whichever process, shard or agent it belongs to.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from hocket.breaker import CLOSED, OPEN, Breaker, Circuit, after_failure, after_success, probing, refuses_s
from hocket.clock import rfc3339, utc
from hocket.doors import Caller, Permit, name_of
from hocket.engine.handling import EVENT_HEADERS
from hocket.errors import CircuitOpen, Conflict, MalformedEvent, OutcomeUnknown, RateExceeded, Unavailable
from hocket.guarding import AT_ONCE_S
from hocket.ids import fresh
from hocket.log.base import Expect, Log, Write
from hocket.process import Process
from hocket.rate import Calls, Rate, free_s, taken
from hocket.subjects import Names, shard_of
from hocket_schemas import gate
from hocket_schemas.breakers import BreakerClosed, BreakerHalfOpened, BreakerOpened
from hocket_schemas.event import Event

REFUSED_WAIT_S = 0.005
"""Longest wait, stretched by chance, before a record is read again that somebody else has just changed."""

AWAY_WAIT_S = 0.25
"""How long to wait before a log is asked again that is away."""

ERROR_LENGTH_MAX = 300

T = TypeVar("T")


class Record(Protocol):
    """What is kept under a name, for everybody."""

    @property
    def mark(self) -> str:
        """Of one write alone."""
        ...

    def to_json(self) -> bytes:
        """The record's body."""
        ...

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Read a body back."""
        ...


R = TypeVar("R", bound=Record)


class Place(NamedTuple):
    """Where a record is kept."""

    log: Log
    names: Names
    subject: str


class SharedDoors:
    """All breakers and rates, for one process. Its callers queue up here before they compete with other processes."""

    def __init__(self, logs: Sequence[Log], process: Process) -> None:
        self._logs = logs
        self._process = process
        self._locks: dict[str, asyncio.Lock] = {}

    async def take(self, rate: Rate, caller: Caller) -> None:
        """See `hocket.doors.Doors.take`."""
        name = name_of(rate, caller)
        place = self._place(name, lambda names: names.rate(name))
        async with self._lock(place):
            while True:
                seq, calls = await self._read(place, Calls)
                now_s = self._process.clock.now_s()
                at_s = free_s(calls, rate, now_s)
                if at_s - now_s > AT_ONCE_S:
                    raise RateExceeded(name, at_s - now_s)
                if await self._write(place, seq, taken(calls, rate, at_s, fresh())):
                    break
        while (wait_s := at_s - self._process.clock.now_s()) > 0:  # noqa: ASYNC110 - it is time itself that is waited for
            await asyncio.sleep(wait_s)

    async def look(self, breaker: Breaker, caller: Caller) -> None:
        """See `hocket.doors.Doors.look`."""
        name = name_of(breaker, caller)
        _, circuit = await self._read(self._place(name, lambda names: names.breaker(name)), Circuit)
        wait_s = refuses_s(circuit, self._process.clock.now_s())
        if wait_s > 0:
            raise CircuitOpen(name, wait_s)

    async def admit(self, breaker: Breaker, caller: Caller) -> Permit:
        """See `hocket.doors.Doors.admit`."""
        name = name_of(breaker, caller)
        place = self._place(name, lambda names: names.breaker(name))
        seq, circuit = await self._read(place, Circuit)
        if circuit.state == CLOSED:
            return Permit(breaker, caller, self._process.clock.now_s() + AT_ONCE_S)
        async with self._lock(place):
            while True:
                seq, circuit = await self._read(place, Circuit)
                now_s = self._process.clock.now_s()
                wait_s = refuses_s(circuit, now_s)
                if wait_s > 0:
                    raise CircuitOpen(name, wait_s)
                following = probing(circuit, breaker, now_s, str(caller))
                if following is None:
                    return Permit(breaker, caller, now_s + AT_ONCE_S)
                told = self._told(BreakerHalfOpened, breaker, caller, until=utc(following.until_s))
                stored = await self._write(place, seq, following, told)
                if stored:
                    return Permit(breaker, caller, now_s + min(AT_ONCE_S, breaker.open_s) / 2, stored)

    async def settle(self, permit: Permit, failure: Exception | None) -> None:
        """See `hocket.doors.Doors.settle`."""
        if failure is None and permit.probe is None:
            return  # all is as it was
        breaker, caller = permit.breaker, permit.caller
        name = name_of(breaker, caller)
        place = self._place(name, lambda names: names.breaker(name))
        reason = "" if failure is None else f"{type(failure).__name__}: {failure}"[:ERROR_LENGTH_MAX]
        async with self._lock(place):
            while True:
                seq, circuit = await self._read(place, Circuit)
                now_s = self._process.clock.now_s()
                told: Event | None = None
                if failure is None:
                    following = after_success(circuit, now_s, str(caller))
                    told = self._told(BreakerClosed, breaker, caller)
                else:
                    probe = permit.probe == seq
                    following = after_failure(circuit, breaker, now_s, str(caller), reason, probe=probe)
                    if following is not None and following.state == OPEN:
                        until = utc(following.until_s)
                        told = self._told(BreakerOpened, breaker, caller, until=until, error=reason, again=probe)
                if following is None or await self._write(place, seq, following, told):
                    return

    def _told(self, kind: Callable[..., Event], breaker: Breaker, caller: Caller, **more: Any) -> Event:
        return kind(
            breaker=name_of(breaker, caller),
            agent=caller.agent,
            effect=caller.effect,
            instance=self._process.instance,
            key=caller.key,
            failures=breaker.failures,
            window_s=breaker.window_s,
            open_s=breaker.open_s,
            **more,
        )

    def _place(self, name: str, subject: Callable[[Names], str]) -> Place:
        log = self._logs[shard_of(name, len(self._logs))]
        names = Names(log.domain, log.shard)
        return Place(log, names, subject(names))

    def _lock(self, place: Place) -> asyncio.Lock:
        return self._locks.setdefault(place.subject, asyncio.Lock())

    async def _read(self, place: Place, kind: type[R]) -> tuple[int, R]:
        """The record and its sequence; what it is before anybody has written it, with sequence 0."""
        message = await place.log.last(place.subject)
        if message is None:
            return 0, kind()
        try:
            return message.seq, kind.from_json(message.data)
        except MalformedEvent:
            return message.seq, kind()  # anybody may have written it: it is begun anew, and no call fails for it

    async def _write(self, place: Place, seq: int, record: Circuit | Calls, told: Event | None = None) -> int:
        """Replace a record together with the event that tells of it; its sequence, or 0: it is another one by now."""
        mark, event_id = fresh(), fresh()
        record = replace(record, mark=mark)
        writes: list[Write] = []
        if told is not None:
            if isinstance(record, Circuit) and isinstance(told, BreakerOpened) and not told.again:
                record = replace(record, episode=event_id)
            writes.append(self._event(place.names, told, event_id, getattr(record, "episode", "")))
        writes.append(Write(place.subject, record.to_json(), Expect(place.subject, seq)))
        try:
            return await place.log.append(writes)
        except Conflict:
            await asyncio.sleep(self._process.rng.random() * REFUSED_WAIT_S)
            return 0
        except OutcomeUnknown:
            message = await place.log.last(place.subject)
            there = message is not None and type(record).from_json(message.data).mark == mark
            return message.seq if there and message is not None else 0

    def _event(self, names: Names, told: Any, event_id: str, episode: str) -> Write:
        """An event of the agent that calls, on the key that is the breaker's name."""
        members = {
            "specversion": "1.0",
            "id": f"{event_id}.0",
            "source": f"/{names.domain}/{told.agent}",
            "type": told.event_type,
            "time": rfc3339(self._process.clock.now_s()),
            "partitionkey": told.breaker,
            "correlationid": episode or event_id,
            "data": told.model_dump(mode="json"),
        }
        subject = names.event(told.breaker, told.agent, event_id, 0, told.event_type)
        return Write(subject, gate.encode(members), Expect(subject, 0), told.retention, EVENT_HEADERS)


@dataclass(frozen=True, slots=True)
class OwnDoors:
    """The same on behalf of one tenure's handlers: a log that does not answer is no failure of theirs."""

    shared: SharedDoors
    unless_interrupted: Callable[[Awaitable[Any]], Awaitable[Any]]

    async def take(self, rate: Rate, caller: Caller) -> None:
        """See `hocket.doors.Doors.take`."""
        await self.unless_interrupted(_through(lambda: self.shared.take(rate, caller)))

    async def look(self, breaker: Breaker, caller: Caller) -> None:
        """See `hocket.doors.Doors.look`."""
        await self.unless_interrupted(_through(lambda: self.shared.look(breaker, caller)))

    async def admit(self, breaker: Breaker, caller: Caller) -> Permit:
        """See `hocket.doors.Doors.admit`."""
        permit: Permit = await self.unless_interrupted(_through(lambda: self.shared.admit(breaker, caller)))
        return permit

    async def settle(self, permit: Permit, failure: Exception | None) -> None:
        """See `hocket.doors.Doors.settle`."""
        await self.unless_interrupted(_through(lambda: self.shared.settle(permit, failure)))


async def _through(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until the log is there; whoever is cancelled meanwhile gives up."""
    while True:
        try:
            return await ask()
        except Unavailable:
            await asyncio.sleep(AWAY_WAIT_S)


__all__ = ["OwnDoors", "SharedDoors"]
