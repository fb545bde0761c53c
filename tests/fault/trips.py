"""Trips that three desks book with an outside that outlives every crash, and what goes wrong with each of them."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel

from hocket.agent import Agent, Context
from hocket.effect import Effect, NotDone
from hocket.errors import StepFailed
from hocket.policy import Limits, Retry
from hocket_schemas.event import Catalog, Event
from hocket_schemas.runtime import SagaAborted
from hocket_schemas.sagas import Link, Saga

EVENTS = Catalog()

DESKS = ("flights", "hotels", "payments")
MEMORY = "memory"
CUSTOMERS = 3
DEADLINE_S = 40.0
LIMITS = Limits(slow_s=1.0, heartbeat_s=2.0, silence_s=5.0, silence_at_start_s=1.0, append_s=2.0)

Fault = Literal["nothing", "hiccup", "refused", "undo fails", "cancelled", "deadline", "slow", "lost"]
FAULTS: tuple[Fault, ...] = ("nothing", "hiccup", "refused", "undo fails", "cancelled", "deadline", "slow", "lost")
"""What goes wrong at one position of a saga.

`hiccup`: the desk is out of order once; the effect's own retry is all it takes. `refused`: it will not book. `undo
fails`: what comes after it is refused, and then it cannot be cancelled for some times. `cancelled`: a person has
enough while it is booked. `deadline`: it is booked, and then nobody goes on. `slow`: it is booked when the deadline
has passed. `lost`: it is booked, and the answer comes when the deadline has passed.
"""


class Asked(Event, type="trips.asked.v1", catalog=EVENTS):
    pass


class FlightsDue(Event, type="trips.flights.due.v1", catalog=EVENTS):
    n: int


class HotelsDue(Event, type="trips.hotels.due.v1", catalog=EVENTS):
    n: int


class PaymentsDue(Event, type="trips.payments.due.v1", catalog=EVENTS):
    n: int


class Booked(Event, type="trips.booked.v1", catalog=EVENTS):
    pass


class Refused(Event, type="trips.refused.v1", catalog=EVENTS):
    pass


class Noted(Event, type="trips.noted.v1", catalog=EVENTS):
    pass


class StayAsked(Event, type="trips.stay.asked.v1", catalog=EVENTS):
    pass


class StayBooked(Event, type="trips.stay.booked.v1", catalog=EVENTS):
    pass


class StayRefused(Event, type="trips.stay.refused.v1", catalog=EVENTS):
    pass


class Known(BaseModel):
    """What is remembered of a customer."""

    trips: list[str] = []
    corrected: list[str] = []


DUE: tuple[type[FlightsDue | HotelsDue | PaymentsDue], ...] = (FlightsDue, HotelsDue, PaymentsDue)

DEADLINE = timedelta(seconds=DEADLINE_S)
TRIP = Saga("simulated-trip", starts=Asked, done=Booked, fails=[Refused], deadline=DEADLINE)
STAY = Saga("simulated-stay", starts=StayAsked, done=StayBooked, fails=[StayRefused], deadline=DEADLINE)


StayFault = Literal["nothing", "refused", "deadline", "slow"]
STAY_FAULTS: tuple[StayFault, ...] = ("nothing", "nothing", "refused", "deadline", "slow")
LINKS: tuple[Link, ...] = ("cascade", "wait", "detach")


@dataclass(frozen=True, slots=True)
class Stay:
    """A child that a saga starts at one of its positions, and what goes wrong with that."""

    at: int
    link: Link
    fault: StayFault


@dataclass(slots=True)
class Plan:
    """What happens to one saga."""

    saga: str
    positions: int
    at: int
    fault: Fault
    undo_failures: int = 0
    end: str = ""
    hiccups: int = 0
    stuck: int = 0
    """How often a person had to decide."""

    stay: Stay | None = None
    stay_end: str = ""


@dataclass(slots=True)
class Outside:
    """The desks. What reaches them is done, whatever becomes of the caller; each key is booked and cancelled once."""

    standing: dict[str, tuple[str, int]] = field(default_factory=dict)
    """What is booked, by key: for which saga, at which position."""

    cancelled: set[str] = field(default_factory=set)
    ever: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    working: set[asyncio.Task[None]] = field(default_factory=set)

    async def book(self, key: str, saga: str, n: int, *, before_s: float, after_s: float) -> str:
        """Book after a time, and answer after another; a caller that dies meanwhile changes nothing."""

        async def work() -> None:
            await asyncio.sleep(before_s)
            if key not in self.cancelled:
                self.standing[key] = (saga, n)
                self.ever.add(key)
            await asyncio.sleep(after_s)

        task = asyncio.create_task(work())
        self.working.add(task)
        task.add_done_callback(self.working.discard)
        await asyncio.shield(task)
        if key in self.cancelled:
            raise NotDone("it was cancelled before")
        return f"{saga}/{n}"

    def cancel(self, key: str, ref: str | None) -> None:
        """Cancel what is booked under a key, and refuse what may still come."""
        if ref is not None and key not in self.ever:
            self.wrong.append(f"{ref} is undone and was never done")
        self.standing.pop(key, None)
        self.cancelled.add(key)

    def find(self, key: str) -> str | None:
        """What is booked under a key."""
        found = self.standing.get(key)
        return f"{found[0]}/{found[1]}" if found else None


def memory(rng: random.Random) -> Agent[Known]:
    """Remembers each customer's trips, on keys of its own, and forgets those that came to nothing."""
    agent = Agent(MEMORY, state=Known, limits=LIMITS)

    @agent.on(Noted)
    async def note(event: Noted, ctx: Context[Known]) -> None:
        await asyncio.sleep(rng.random())
        ctx.state.trips.append(ctx.saga)

    @agent.on_aborted
    async def correct(aborted: SagaAborted, ctx: Context[Known]) -> None:
        ctx.state.trips = [trip for trip in ctx.state.trips if trip != aborted.saga]
        ctx.state.corrected.append(aborted.saga)

    return agent


@dataclass(slots=True)
class Desks:
    """The agents that book, each on its own."""

    plans: dict[str, Plan]
    outside: Outside
    rng: random.Random
    blind: bool
    """Whether nobody can ask the hotels whether something was booked."""

    cancel: Callable[[str], None]
    """What a person does who has enough of a saga."""

    def agent(self, i: int) -> Agent:
        agent = Agent(DESKS[i], limits=LIMITS)
        book = self._booking(agent)

        async def go(event: FlightsDue | HotelsDue | PaymentsDue, ctx: Context) -> None:
            plan = self.plans[ctx.saga]
            ctx.emit(Noted(), key=f"customer-{event.n % CUSTOMERS}")
            if plan.stay is not None and plan.stay.at == event.n:
                ctx.start(StayAsked(), link=plan.stay.link)
            try:
                await ctx.step(book, ctx.saga, event.n)
            except StepFailed:
                ctx.emit(Refused())
                return
            if plan.at == event.n and plan.fault == "deadline":
                await ctx.sleep(DEADLINE_S * 2)
            after = event.n + 1
            ctx.emit(DUE[after % len(DUE)](n=after) if after < plan.positions else Booked())

        async def host(event: StayAsked, ctx: Context) -> StayBooked | StayRefused:
            """Be the child."""
            stay = self.plans[str(ctx.envelope.hkparent)].stay
            assert stay is not None, "somebody has started it"
            await ctx.step(book, ctx.saga, 0)
            if stay.fault in ("deadline", "slow"):
                await ctx.sleep(DEADLINE_S * (2 if stay.fault == "deadline" else 0.5))
            return StayRefused() if stay.fault == "refused" else StayBooked()

        if i == 1:
            agent.on(StayAsked)(host)
        emits = [*DUE, Booked, Refused, Noted, StayAsked]
        agent.on(DUE[i], emits=emits)(go)
        if i == 0:

            @agent.on(Asked, emits=emits)
            async def begin(event: Asked, ctx: Context) -> FlightsDue:
                return FlightsDue(n=0)

        return agent

    def _booking(self, agent: Agent) -> Effect[..., Any]:
        """The effect: as a saga's plan has it, and undone as often as that takes."""

        @agent.effect(retry=Retry(attempts_max=3, first_s=0.2), timeout_s=DEADLINE_S * 3)
        async def book(saga: str, n: int, *, key: str) -> str:
            plan = self.plans.get(saga)
            if plan is None:
                return await self.outside.book(key, saga, n, before_s=self.rng.random(), after_s=self.rng.random())
            here = plan.at == n
            if here and plan.fault == "hiccup" and not plan.hiccups:
                plan.hiccups += 1
                raise NotDone("out of order")
            if (here and plan.fault == "refused") or (plan.at == n - 1 and plan.fault == "undo fails"):
                raise NotDone("none left")
            if here and plan.fault == "cancelled":
                self.cancel(saga)
            long_s = DEADLINE_S + self.rng.random() * LIMITS.grace_s * 2
            before_s, after_s = self.rng.random(), self.rng.random()
            if here and plan.fault == "slow":
                before_s = long_s
            if here and plan.fault == "lost":
                after_s = long_s
            return await self.outside.book(key, saga, n, before_s=before_s, after_s=after_s)

        book.undo_retry = Retry(attempts_max=2, first_s=0.2)

        async def take_back(saga: str, n: int, ref: str | None, key: str) -> None:
            plan = self.plans.get(saga)
            await asyncio.sleep(self.rng.random() * 0.2)
            if plan is not None and plan.at == n and plan.undo_failures:
                plan.undo_failures -= 1
                raise OSError("the desk is closed")
            self.outside.cancel(key, ref)

        if self.blind and agent.name == "hotels":

            @book.undo
            async def cancel_seen(saga: str, n: int, ref: str, *, key: str) -> None:
                await take_back(saga, n, ref, key)

        else:

            @book.undo
            async def cancel(saga: str, n: int, ref: str | None, *, key: str) -> None:
                await take_back(saga, n, ref, key)

            @book.verify
            async def find(saga: str, n: int, *, key: str) -> str | None:
                return self.outside.find(key)

        return book
