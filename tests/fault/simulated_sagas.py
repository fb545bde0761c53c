"""Sagas on the log's twin: three agents book with an outside that outlives every crash, and all of it is undone.

`python -m tests.fault.simulated_sagas --sagas 2000 --seed 7` prints a table of what went wrong where, and how the
sagas ended.
"""

import argparse
import asyncio
import random
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from hocket.agent import Agent, Context
from hocket.clock import LoopClock
from hocket.crashpoints import POINTS, Reach
from hocket.effect import NotDone
from hocket.errors import StepFailed
from hocket.host.loader import load, package_of
from hocket.log.memory import MemoryLog, MemoryServer
from hocket.policy import Limits, Retry
from hocket.saga.record import COORDINATOR, Record
from hocket.testing import Bed, run_virtual
from hocket_schemas.cancels import CancelRequested
from hocket_schemas.event import Catalog, Event
from hocket_schemas.gate import read
from hocket_schemas.runtime import SagaAborted, SagaStuck
from hocket_schemas.sagas import Link, Saga
from hocket_schemas.undoing import UndoDecided

EVENTS = Catalog()

DESKS = ("flights", "hotels", "payments")
MEMORY = "memory"
CUSTOMERS = 3
DEADLINE_S = 40.0
LIMITS = Limits(slow_s=1.0, heartbeat_s=2.0, silence_s=5.0, silence_at_start_s=1.0, append_s=2.0)
SAGAS_PER_WORLD = 10
LIFE_MAX_S = 1200.0
LOOK_S = 2.0

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


def coordinator() -> Agent[Record]:
    """The coordinator, as it is when it is started with the policy of this module declared."""
    folder = Path(__file__).parents[2] / "services" / COORDINATOR
    sys.modules.pop(f"{package_of(folder)}.agent", None)
    [agent] = load(folder).agents
    return agent


class Killed(BaseException):
    """A process dies here."""


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


@dataclass(frozen=True, slots=True)
class Crash:
    """The death of one process of the world."""

    process: str
    point: str | None
    """At which named point; None: at a moment."""

    count: int
    at_s: float


class World:
    """Some sagas side by side, and the deaths of whoever works on them, by seed."""

    def __init__(self, seed: int, *, sagas: int = SAGAS_PER_WORLD, crashes: list[Crash] | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.outside = Outside()
        self.plans = {f"trip-{seed}-{n}": self._plan(f"trip-{seed}-{n}") for n in range(sagas)}
        self.crashes = self._crashes() if crashes is None else crashes
        self.blind = self.rng.random() < 0.2
        """Whether nobody can ask the hotels whether something was booked."""

        self.deaths: list[Crash] = []
        self.corrected = 0
        """How often the memory was told that something of it was undone."""

        self.coordinator = coordinator()
        self.coordinator.limits = LIMITS
        self.memory = self._memory()
        self.agents = [self._agent(i) for i in range(len(DESKS))] + [self.memory]
        self.bed = Bed(server=MemoryServer(clock=LoopClock()))
        self._people: set[asyncio.Task[None]] = set()

    def _plan(self, saga: str) -> Plan:
        positions = self.rng.randint(3, 5)
        fault = self.rng.choice(FAULTS)
        at = self.rng.randrange(positions - (fault == "undo fails"))
        plan = Plan(saga, positions, at, fault, self.rng.randint(1, 3) if fault == "undo fails" else 0)
        if self.rng.random() < 0.5:
            plan.stay = Stay(self.rng.randrange(positions), self.rng.choice(LINKS), self.rng.choice(STAY_FAULTS))
        return plan

    def _crashes(self) -> list[Crash]:
        return [
            Crash(
                self.rng.choice([*DESKS, COORDINATOR, MEMORY]),
                self.rng.choice(POINTS) if self.rng.random() < 0.7 else None,
                self.rng.randint(1, 5),
                self.rng.random() * 60,
            )
            for _ in range(self.rng.randint(0, 8))
        ]

    def _memory(self) -> Agent[Known]:
        """Remembers each customer's trips, on keys of its own, and forgets those that came to nothing."""
        agent = Agent(MEMORY, state=Known, limits=LIMITS)

        @agent.on(Noted)
        async def note(event: Noted, ctx: Context[Known]) -> None:
            await asyncio.sleep(self.rng.random())
            ctx.state.trips.append(ctx.saga)

        @agent.on_aborted
        async def correct(aborted: SagaAborted, ctx: Context[Known]) -> None:
            ctx.state.trips = [trip for trip in ctx.state.trips if trip != aborted.saga]
            ctx.state.corrected.append(aborted.saga)

        return agent

    def _agent(self, i: int) -> Agent:
        agent = Agent(DESKS[i], limits=LIMITS)

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
                self._cancel(saga)
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

    def _cancel(self, saga: str) -> None:
        """A person has enough. Once, whatever is called again."""
        request = CancelRequested(saga=saga, by="ada")
        task = asyncio.create_task(self._publish(request, saga, f"cancel-{saga}"))
        self._people.add(task)
        task.add_done_callback(self._people.discard)

    async def _publish(self, event: Event, saga: str, event_id: str) -> None:
        await self.bed.publish(event, key=saga, saga=saga, event_id=event_id, timeout_s=LIFE_MAX_S)

    async def live(self) -> list[str]:
        """Live through all of it; return every violation."""
        everybody = [*self.agents, self.coordinator]
        async with self.bed as bed:
            bed.agents = tuple(everybody)
            async with asyncio.TaskGroup() as tasks:
                lives = [tasks.create_task(self._life(agent)) for agent in everybody]
                lives.append(tasks.create_task(self._decide()))
                await bed.owned()
                for saga in self.plans:
                    await self._publish(Asked(), saga, f"asked-{saga}")
                    await asyncio.sleep(self.rng.random() * 2)
                try:
                    async with asyncio.timeout(LIFE_MAX_S):
                        await self._ended()
                except TimeoutError:
                    return [*self._violations(), f"seed {self.seed}: not over after {LIFE_MAX_S} s"]
                finally:
                    for task in lives:
                        task.cancel()
            return self._violations()

    async def _ended(self) -> None:
        """Wait until no saga goes on, nothing is under way to the outside, and nothing more will come."""
        calm = 0
        while calm < 2:
            await asyncio.sleep(LOOK_S if not calm else DEADLINE_S * 2)
            records = [self._record(saga) for saga in (*self.plans, *self._stays().values())]
            over = all(record and record.ended for record in records) and not self.outside.working
            calm = calm + 1 if over else 0
        await self.bed.settled()

    def _record(self, saga: str) -> Record | None:
        record = self.bed.state(self.coordinator, saga)
        assert record is None or isinstance(record, Record)
        return record

    def _stays(self) -> dict[str, str]:
        """Each saga's child, as far as it was started."""
        return {parent: child for child, parent in self._parents().items()}

    def _parents(self) -> dict[str, str]:
        pattern = self.bed.names.events_of_type(StayAsked.event_type)
        started = [read(message.data) for message in self.bed.server.since(1, [pattern], 1 << 30)]
        return {str(envelope.correlationid): str(envelope.hkparent) for envelope in started}

    async def _life(self, agent: Agent) -> None:
        """One process after another for an agent, each until something kills it."""
        crashes = [crash for crash in self.crashes if crash.process == agent.name]
        while True:
            crash = crashes.pop(0) if crashes else None
            log = self.bed.server.connect()
            crew = self.bed.crew_on(log, agent, reach=self._reach(log, crash))
            with suppress(TimeoutError, BaseExceptionGroup, Killed):
                async with asyncio.timeout(crash.at_s if crash and crash.point is None else None):
                    await self._work(crew.run(), log)
            if crash:
                self.deaths.append(crash)
            await asyncio.sleep(self.rng.random() * 2)

    async def _work(self, work, log: MemoryLog) -> None:
        """Work in a task of its own, so that a death at a point does not end the world."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task})
            task.result()
        finally:
            log.kill()
            task.cancel()
            with suppress(asyncio.CancelledError, BaseExceptionGroup, Killed):
                await task

    def _reach(self, log: MemoryLog, crash: Crash | None) -> Reach:
        left = crash.count if crash else 0

        def reach(name: str) -> None:
            nonlocal left
            if crash and name == crash.point:
                left -= 1
                if left == 0:
                    log.kill()
                    raise Killed(name)

        return reach

    async def _decide(self) -> None:
        """Be the person who looks after what is stuck: have it retried, and the second time do it by hand."""
        seen = 0
        while True:
            await asyncio.sleep(LOOK_S)
            stuck = self.bed.events(SagaStuck)
            parents = self._parents()
            for n, said in enumerate(stuck[seen:], start=seen):
                if said.effect_key in parents:
                    continue  # the child is stuck as well, and is looked after
                plan = self.plans[parents.get(said.saga, said.saga)]
                plan.stuck += 1
                if plan.stuck > 1:
                    self.outside.cancel(said.effect_key, None)
                decided = UndoDecided(decision="retry" if plan.stuck == 1 else "resolve", by="ada")
                await self.bed.bus.command(
                    decided, to=COORDINATOR, key=said.saga, event_id=f"decided-{n}", timeout_s=LIFE_MAX_S
                )
            seen = len(stuck)

    def _violations(self) -> list[str]:
        found = list(self.outside.wrong)
        for plan in self.plans.values():
            record = self._record(plan.saga)
            plan.end = record.phase if record else "unknown"
            if plan.stuck:
                plan.end = f"stuck, then {plan.end}"
            standing = sorted(n for saga, n in self.outside.standing.values() if saga == plan.saga)
            if record is None or not record.ended:
                found.append(f"{plan} does not end: {record}")
            elif record.phase == "completed" and standing != list(range(plan.positions)):
                found.append(f"{plan} is completed, and {standing} stand")
            elif record.phase == "compensated" and standing:
                found.append(f"{plan} is compensated, and {standing} stand")
            found += self._family(plan, record)
            doomed = plan.stay is not None and plan.stay.link == "wait" and plan.stay.fault != "nothing"
            if plan.fault in ("nothing", "hiccup") and not (self.crashes or doomed or plan.end == "completed"):
                found.append(f"{plan} is not completed, and nothing was in its way")
            if plan.fault == "refused" and "compensated" not in plan.end:
                found.append(f"{plan} is refused and ends {plan.end}")
        found += self._remembered()
        for agent in self.bed.agents:
            found += [f"dead letter of {agent.name}: {letter['error']}" for letter in self.bed.dead(agent)]
        return [f"seed {self.seed}: {text}" for text in found]

    def _family(self, plan: Plan, record: Record | None) -> list[str]:
        """What is wrong between a saga and its child."""
        saga = self._stays().get(plan.saga)
        if plan.stay is None or saga is None or record is None:
            return []
        child = self._record(saga)
        if child is None or not child.ended:
            return [f"the child of {plan} does not end: {child}"]
        plan.stay_end = child.phase
        standing = [key for key, (of, _) in self.outside.standing.items() if of == saga]
        found = []
        if child.parent != plan.saga:
            found.append(f"the child of {plan} has parent {child.parent!r}")
        if len(standing) != (child.phase == "completed"):
            found.append(f"the child of {plan} is {child.phase}, and {standing} stand")
        if plan.stay.link == "cascade" and (record.phase, child.phase) == ("compensated", "completed"):
            found.append(f"{plan} is compensated, and its child is not")
        if plan.stay.link == "wait" and (record.phase, child.phase) == ("completed", "compensated"):
            found.append(f"{plan} is completed, and its child is not")
        if plan.stay.link != "cascade" and plan.stay.fault == "nothing" and child.phase != "completed":
            found += [] if self.crashes else [f"{plan} has spoilt its child"]
        return found

    def _remembered(self) -> list[str]:
        """What the memory holds that is not true, or was told of twice."""
        found = []
        customers = [self.bed.state(self.memory, f"customer-{n}") or Known() for n in range(CUSTOMERS)]
        for plan in self.plans.values():
            trips = [known.trips.count(plan.saga) for known in customers]
            corrected = [known.corrected.count(plan.saga) for known in customers]
            if plan.end.endswith("compensated") and (sum(trips) or max(corrected) > 1):
                found.append(f"{plan} is compensated, and is remembered {trips}, corrected {corrected}")
            if plan.end == "completed" and (sum(trips) != plan.positions or sum(corrected)):
                found.append(f"{plan} is completed, and is remembered {trips}, corrected {corrected}")
            self.corrected += sum(corrected)
        return found


@dataclass(slots=True)
class Campaign:
    """What many worlds came to."""

    sagas: int = 0
    ends: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    """By position, fault and end."""

    deaths: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By process and point."""

    families: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By link, the parent's end and the child's."""

    corrected: int = 0
    violations: list[str] = field(default_factory=list)


def campaign(sagas: int, seed: int) -> Campaign:
    """Live as many worlds as that takes, from a seed on."""
    total = Campaign()
    while total.sagas < sagas:
        world = World(seed)
        seed += 1
        total.violations += run_virtual(world.live())
        total.sagas += len(world.plans)
        total.corrected += world.corrected
        for plan in world.plans.values():
            total.ends[plan.at, plan.fault, plan.end] += 1
            if plan.stay is not None and plan.stay_end:
                total.families[plan.stay.link, plan.end.rpartition(" ")[2], plan.stay_end] += 1
        for crash in world.deaths:
            total.deaths[crash.process, crash.point or "at a moment"] += 1
    return total


def table(total: Campaign) -> str:
    """Position x fault x end."""
    ends = sorted({end for _, _, end in total.ends})
    rows = sorted({(fault, at) for at, fault, _ in total.ends}, key=lambda row: (FAULTS.index(row[0]), row[1]))
    lines = [f"{'fault':12} {'position':>8} " + " ".join(f"{end:>24}" for end in ends)]
    for fault, at in rows:
        lines.append(f"{fault:12} {at + 1:8} " + " ".join(f"{total.ends[at, fault, end]:24}" for end in ends))
    lines.append("")
    for (link, end, stay_end), count in sorted(total.families.items()):
        lines.append(f"child ({link}) {stay_end:12} of a parent {end:12} {count:6}")
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sagas", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    total = campaign(given.sagas, given.seed)
    died = sum(total.deaths.values())
    told = f"{died} deaths, {total.corrected} corrections of what was remembered"
    sys.stdout.write(f"{table(total)}\n\n{total.sagas} sagas from seed {given.seed}, {told}\n")
    for text in total.violations:
        sys.stdout.write(f"{text}\n")
    sys.stdout.write(f"{len(total.violations)} violations\n")
    return 1 if total.violations else 0


if __name__ == "__main__":
    sys.exit(main())
