"""A world of sagas on the log's twin: trips are booked side by side, whoever works on them dies, and all is undone."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass

from tests.fault.services import coordinator
from tests.fault.trips import (
    CUSTOMERS,
    DEADLINE_S,
    DESKS,
    FAULTS,
    LIMITS,
    LINKS,
    MEMORY,
    STAY_FAULTS,
    Asked,
    Desks,
    Known,
    Outside,
    Plan,
    Stay,
    StayAsked,
    memory,
)

from hocket.agent import Agent
from hocket.clock import LoopClock
from hocket.crashpoints import POINTS, Reach
from hocket.log.memory import MemoryLog, MemoryServer
from hocket.saga.record import COORDINATOR, Record
from hocket.testing import Bed
from hocket_schemas.cancels import CancelRequested
from hocket_schemas.event import Event
from hocket_schemas.gate import read
from hocket_schemas.runtime import SagaStuck
from hocket_schemas.undoing import UndoDecided

SAGAS_PER_WORLD = 10
LIFE_MAX_S = 1200.0
LOOK_S = 2.0


class Killed(BaseException):
    """A process dies here."""


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
        blind = self.rng.random() < 0.2
        self.deaths: list[Crash] = []
        self.corrected = 0
        """How often the memory was told that something of it was undone."""

        self.coordinator = coordinator(LIMITS)
        self.memory = memory(self.rng)
        desks = Desks(self.plans, self.outside, self.rng, blind, self._cancel)
        self.agents = [desks.agent(i) for i in range(len(DESKS))] + [self.memory]
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
