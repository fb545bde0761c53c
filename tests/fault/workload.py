"""What the agents of a simulated world do, so that each thing they do shows: they append to lists and say who did it.

No handler decides the same way twice. Each says which of its executions it comes from, so that two executions of one
event in the log give themselves away.
"""

import asyncio
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from tests.fault.history import Deed

from hocket.agent import Agent, Context
from hocket.effect import NotDone
from hocket.errors import StepFailed, WaitExpired
from hocket.policy import Limits, Retry
from hocket_schemas.event import Catalog, Event
from hocket_schemas.sagas import Saga

EVENTS = Catalog()

LIMITS = Limits(
    slow_s=0.4, heartbeat_s=1.0, silence_s=2.5, silence_at_start_s=1.0, append_s=1.0, cursor_lag_s=0.2, grace_s=1.0
)
POSITIONS = 3
UNSEEN = 1
"""The position whose effect nobody can ask about: with its outcome unknown, only a person can tell."""

RESOLVE = re.compile(r"resolve key (\w+)")


class Ordered(Event, type="prove.ordered.v1", catalog=EVENTS):
    n: int


class Counted(Event, type="prove.counted.v1", catalog=EVENTS):
    of: str
    execution: int
    siblings: int
    applied: bool


class Noticed(Event, type="prove.noticed.v1", catalog=EVENTS):
    of: str


class Begun(Event, type="prove.begun.v1", catalog=EVENTS):
    delay_s: float


class Nudged(Event, type="prove.nudged.v1", catalog=EVENTS):
    n: int


class Marked(Event, type="prove.marked.v1", catalog=EVENTS):
    of: str
    part: str
    execution: int
    siblings: int
    drawn: int = 0
    said: tuple[str, ...] = ()


class Asked(Event, type="prove.asked.v1", catalog=EVENTS):
    refused_at: int | None = None
    undo_fails_at: int | None = None


class Due(Event, type="prove.due.v1", catalog=EVENTS):
    n: int
    refused_at: int | None


class Booked(Event, type="prove.booked.v1", catalog=EVENTS):
    pass


class Refused(Event, type="prove.refused.v1", catalog=EVENTS):
    pass


TRIP = Saga("proved-trip", starts=Asked, done=Booked, fails=[Refused], deadline=timedelta(minutes=5))
PARTS = ("begun", "slept", "nudged", "decided")


class Entries(BaseModel):
    """Who was applied, in the order of application: what else it takes to tell who it was."""

    entries: list[tuple[str, str, int, int]] = []
    """(event id, part, execution, events emitted with it)"""


@dataclass
class Mood:
    """What the world lets handlers do."""

    rng: random.Random
    now: Callable[[], float]
    calm: bool = False
    executions: int = 0
    drawn: int = 0

    def execution(self) -> int:
        self.executions += 1
        return self.executions

    async def dally(self, chance: float, longest_s: float) -> None:
        if not self.calm and self.rng.random() < chance:
            await asyncio.sleep(self.rng.random() * longest_s)


def counting(mood: Mood) -> Agent[Entries]:
    """Counts what is ordered; every order leaves a trace, in events or in the state or in both."""
    agent = Agent("counter", state=Entries, limits=LIMITS)

    @agent.on(Ordered, emits=[Counted])
    async def count(event: Ordered, ctx: Context[Entries]) -> None:
        execution, siblings = mood.execution(), mood.rng.choice((0, 1, 1, 1, 2))
        applied = siblings == 0 or mood.rng.random() < 0.5
        await mood.dally(0.3, 0.8)
        if not mood.calm and mood.rng.random() < 0.1:
            ctx.state.entries.append(("half done", "", 0, 0))
            raise RuntimeError("a handler that fails half way")
        for _ in range(siblings):
            ctx.emit(Counted(of=ctx.envelope.id, execution=execution, siblings=siblings, applied=applied))
        if applied:
            ctx.state.entries.append((ctx.envelope.id, "counted", execution, siblings))

    @agent.on(Counted, emits=[Noticed])
    async def notice(event: Counted, ctx: Context[Entries]) -> Noticed:
        return Noticed(of=ctx.envelope.id)

    return agent


def waiting(mood: Mood) -> Agent[Entries]:
    """Goes through a step, a timer, two answers and a decision by people."""
    agent = Agent("waiter", state=Entries, limits=LIMITS)

    async def draw() -> int:
        mood.drawn += 1
        drawn = mood.drawn
        await mood.dally(0.3, 0.8)
        return drawn

    @agent.on(Begun, emits=[Marked], waits=[Nudged])
    async def begin(event: Begun, ctx: Context[Entries]) -> None:
        execution, of = mood.execution(), ctx.envelope.id

        def mark(part: str, drawn: int = 0, *said: str) -> None:
            siblings = mood.rng.choice((1, 1, 2))
            for _ in range(siblings):
                ctx.emit(Marked(of=of, part=part, execution=execution, siblings=siblings, drawn=drawn, said=said))
            ctx.state.entries.append((of, part, execution, siblings))

        drawn = await ctx.step(draw)
        mark("begun", drawn)
        await ctx.sleep(event.delay_s)
        mark("slept", await ctx.step(draw))
        mark("nudged", 0, *[await heard(ctx) for _ in range(2)])
        decision = await ctx.approve("Go on?", details={"run": of}, timeout=4)
        mark("decided", 0, decision.option, *decision.by)

    async def heard(ctx: Context[Entries]) -> str:
        try:
            return str((await ctx.wait(Nudged, timeout=3)).n)
        except WaitExpired:
            return "expired"

    return agent


@dataclass
class Outside:
    """The world beyond the log. What reaches it is done, whatever becomes of the caller."""

    now: Callable[[], float]
    deeds: list[Deed] = field(default_factory=list)
    standing: dict[str, tuple[str, int]] = field(default_factory=dict)
    """What is done and not undone, by reference."""

    working: set[asyncio.Task[None]] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    """Keys that were taken back: what still comes under them is refused."""

    seen: set[str] = field(default_factory=set)
    undo_fails: dict[tuple[str, int], int] = field(default_factory=dict)
    """How often an undo fails yet."""

    async def do(self, key: str, saga: str, n: int, *, again: bool, before_s: float, after_s: float) -> str:
        """Do it after a time, answer after another. Unless `again`, a key that was seen changes nothing."""

        async def work() -> None:
            await asyncio.sleep(before_s)
            effective = key not in self.refused and (again or key not in self.seen)
            self.deeds.append(Deed(self.now(), "do", saga, n, key, effective))
            if effective:
                self.standing[f"{key}#{len(self.deeds)}" if again else key] = (saga, n)
            self.seen.add(key)
            await asyncio.sleep(after_s)

        task = asyncio.ensure_future(work())
        self.working.add(task)
        task.add_done_callback(self.working.discard)
        await asyncio.shield(task)
        if key in self.refused:
            raise NotDone("it was taken back before")
        return key

    def take_back(self, key: str, saga: str, n: int) -> None:
        """Undo all that stands under a key, and refuse what may still come."""
        if self.undo_fails.get((saga, n), 0) > 0:
            self.undo_fails[saga, n] -= 1
            raise OSError("closed")
        there = [ref for ref in self.standing if ref.partition("#")[0] == key]
        self.deeds.append(Deed(self.now(), "undo", saga, n, key, bool(there)))
        for ref in there:
            del self.standing[ref]
        self.refused.add(key)

    def find(self, key: str) -> str | None:
        """What stands under a key."""
        return next((key for ref in self.standing if ref.partition("#")[0] == key), None)


def booking(mood: Mood, outside: Outside) -> Agent[Any]:
    """Does one thing after another outside, each of which can be undone."""
    agent: Agent[Any] = Agent("desk", limits=LIMITS)
    retry = Retry(attempts_max=2, first_s=0.2)

    async def reach(saga: str, n: int, refused_at: int | None, key: str, *, again: bool) -> str:
        if refused_at == n:
            raise NotDone("none left")
        before_s, after_s = (0.0, 0.0) if mood.calm else (mood.rng.random() * 0.4, mood.rng.random() * 0.4)
        return await outside.do(key, saga, n, again=again, before_s=before_s, after_s=after_s)

    @agent.effect(retry=retry, timeout_s=30)
    async def book(saga: str, n: int, refused_at: int | None, *, key: str) -> str:
        return await reach(saga, n, refused_at, key, again=False)

    @book.undo
    async def cancel(saga: str, n: int, refused_at: int | None, ref: str | None, *, key: str) -> None:
        outside.take_back(key, saga, n)

    @book.verify
    async def find(saga: str, n: int, refused_at: int | None, *, key: str) -> str | None:
        return outside.find(key)

    @agent.effect(retry=retry, timeout_s=30)
    async def pay(saga: str, n: int, refused_at: int | None, *, key: str) -> str:
        return await reach(saga, n, refused_at, key, again=True)

    @pay.undo
    async def pay_back(saga: str, n: int, refused_at: int | None, ref: str, *, key: str) -> None:
        outside.take_back(key, saga, n)

    book.undo_retry = pay.undo_retry = Retry(attempts_max=2, first_s=0.2)

    @agent.on(Asked, emits=[Due])
    async def begin(event: Asked, ctx: Context[Any]) -> Due:
        if event.undo_fails_at is not None:
            outside.undo_fails.setdefault((ctx.saga, event.undo_fails_at), 1)
        return Due(n=0, refused_at=event.refused_at)

    @agent.on(Due, emits=[Due, Booked, Refused])
    async def go(event: Due, ctx: Context[Any]) -> None:
        try:
            await ctx.step(pay if event.n == UNSEEN else book, ctx.saga, event.n, event.refused_at)
        except StepFailed:
            ctx.emit(Refused())
            return
        last = event.n == POSITIONS - 1
        ctx.emit(Booked() if last else Due(n=event.n + 1, refused_at=event.refused_at))

    return agent
