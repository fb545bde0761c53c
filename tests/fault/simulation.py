"""A whole system in one thread: several processes on one twin of the log, with every fault it knows, by seed."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field

import orjson
from pydantic import BaseModel
from tests.fault.simulated_runs import Runs

from hocket.agent import Agent, Context
from hocket.clock import LoopClock
from hocket.crashpoints import POINTS
from hocket.log.memory import Faults, MemoryLog, MemoryServer
from hocket.policy import Limits
from hocket.subjects import address, type_of
from hocket.testing import Bed
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()


class Ordered(Event, type="sim.ordered.v1", catalog=EVENTS):
    n: int


class Counted(Event, type="sim.counted.v1", catalog=EVENTS):
    of: str
    execution: int
    siblings: int
    applied: bool


class Noticed(Event, type="sim.noticed.v1", catalog=EVENTS):
    of: str


class Applied(BaseModel):
    entries: list[tuple[str, int, int]] = []
    """(event id, execution, events emitted with it), in the order of application."""


class Killed(BaseException):
    """A process dies here."""


@dataclass
class Provoked:
    """What a run brought about; a run that provoked nothing proves nothing."""

    kills: int = 0
    tenures: int = 0
    executions: int = 0
    resumptions: int = 0
    cleanups: int = 0


@dataclass
class Simulation:
    """One seed's run: processes come and go while events are published, then everything heals."""

    seed: int
    events: int = 22
    keys: int = 4
    runs: int = 4
    processes: int = 3
    storm_s: float = 20.0
    provoked: Provoked = field(default_factory=Provoked)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.server = MemoryServer(clock=LoopClock())
        limits = Limits(slow_s=0.4, heartbeat_s=0.8, silence_s=2.5, silence_at_start_s=1.0, append_s=1.0)
        self.counter = Agent("counter", state=Applied, limits=limits)
        self.noticer = Agent("noticer", limits=limits)
        self.runner = Runs(self.rng, limits, self.runs)
        self.accepted: list[str] = []
        self._calm = False
        self._register()

    def _register(self) -> None:
        """Handlers that never decide the same way twice: only the log may remember what they decided."""

        @self.counter.on(Ordered, emits=[Counted])
        async def count(event: Ordered, ctx: Context[Applied]) -> None:
            self.provoked.executions += 1
            execution, siblings = self.provoked.executions, self.rng.choice((0, 1, 1, 1, 2))
            applied = self.rng.random() < 0.5
            if not self._calm and self.rng.random() < 0.3:
                await asyncio.sleep(self.rng.random())
            if not self._calm and self.rng.random() < 0.1:
                ctx.state.entries.append(("half done", 0, 0))
                raise RuntimeError("a handler that fails half way")
            for _ in range(siblings):
                ctx.emit(Counted(of=ctx.envelope.id, execution=execution, siblings=siblings, applied=applied))
            if applied:
                ctx.state.entries.append((ctx.envelope.id, execution, siblings))

        @self.noticer.on(Counted)
        async def notice(event: Counted, ctx: Context) -> Noticed:
            return Noticed(of=ctx.envelope.id)

    async def run(self) -> list[str]:
        """Live through the storm, heal, and return every violation found."""
        async with Bed(server=self.server) as bed:
            bed.agents = (self.counter, self.noticer, self.runner.agent)
            async with asyncio.TaskGroup() as tasks:
                lives = [tasks.create_task(self._life(bed)) for _ in range(self.processes)]
                weather = tasks.create_task(self._weather())
                people = tasks.create_task(self.runner.decide(bed))
                await bed.owned()
                async with asyncio.TaskGroup() as publishing:
                    publishing.create_task(self._publish(bed))
                    publishing.create_task(self.runner.publish(bed, self.keys))
                await asyncio.sleep(self.rng.random() * self.storm_s)
                self._calm = True
                self.runner.calm()
                weather.cancel()
                self.server.start()
                # Late appends of the storm may still arrive; quiet means that they found nothing to break.
                await asyncio.sleep(12.0)
                try:
                    async with asyncio.timeout(300):
                        await bed.quiet()
                except TimeoutError:
                    return [f"seed {self.seed}: not quiet 300 s after the last fault"]
                finally:
                    for task in (*lives, people):
                        task.cancel()
            self.provoked.resumptions = self.runner.executions - self.runs
            self.provoked.cleanups = self.runner.cleanups
            return self.violations(bed)

    async def _publish(self, bed: Bed) -> None:
        for n in range(self.events):
            key = f"key-{self.rng.randrange(self.keys)}"
            receipt = await bed.publish(Ordered(n=n), key=key, event_id=f"order-{n}", timeout_s=600.0)
            self.accepted.append(receipt.id)
            if self.rng.random() < 0.3:
                await asyncio.sleep(self.rng.random() * 2)

    async def _life(self, bed: Bed) -> None:
        """One process after another in the same place, each until something kills it."""
        while True:
            log = self.server.connect(self._faults())
            crew = bed.crew_on(log, reach=self._reach(log))
            lifetime_s = None if self._calm else self.rng.choice((0.5, 3.0, 10.0, 30.0)) * self.rng.random()
            with suppress(TimeoutError, BaseExceptionGroup, Killed):
                async with asyncio.timeout(lifetime_s):
                    await self._until_calm(crew.run(), log)
            log.kill()
            self.provoked.kills += 1
            self.provoked.tenures += sum(instance.tenures for instance in crew.instances)
            await asyncio.sleep(self.rng.random() * (0.1 if self._calm else 4.0))

    async def _until_calm(self, work, log: MemoryLog) -> None:
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=1.0)
                if self._calm:
                    log.faults = Faults()
            task.result()
        finally:
            log.killed = True
            task.cancel()
            with suppress(asyncio.CancelledError, BaseExceptionGroup, Killed):
                await task

    def _faults(self) -> Faults:
        if self._calm:
            return Faults()
        pick = self.rng.random
        return Faults(
            rng=self.rng,
            delay_s=pick() * 0.1,
            lose_request=pick() * 0.05,
            lose_answer=pick() * 0.08,
            late=pick() * 0.05,
            lose_consumer=pick() * 0.02,
            deaf=pick() < 0.2,
        )

    def _reach(self, log: MemoryLog):
        """Die at a random point, or at none."""
        point = self.rng.choice(POINTS) if self.rng.random() < 0.5 and not self._calm else None
        left = self.rng.randint(1, 4)

        def reach(name: str) -> None:
            nonlocal left
            if name == point and not self._calm:
                left -= 1
                if left == 0:
                    log.kill()
                    raise Killed(point)

        return reach

    async def _weather(self) -> None:
        """The server goes away and comes back."""
        while True:
            await asyncio.sleep(5 + self.rng.random() * 30)
            self.server.stop()
            await asyncio.sleep(self.rng.random() * 6)
            self.server.start()

    def violations(self, bed: Bed) -> list[str]:
        """Hold what is in the log, and all that ever was, against the promises."""
        return [f"seed {self.seed}: {text}" for text in self._violations(bed)]

    def _violations(self, bed: Bed) -> list[str]:
        return [*self._of_events(bed), *self._of_states(), *self.runner.violations(bed, self.server)]

    def _of_events(self, bed: Bed) -> list[str]:
        found, published, entries, dead = [], {}, {}, set()
        for message in self.server.history:
            if ".evt." in message.subject:
                if message.subject in published:
                    found.append(f"{message.subject} was published twice")
                published[message.subject] = message
        for agent in bed.agents:
            dead |= {letter["subject"] for letter in bed.dead(agent)}
        for key in {address(s).key for s in published}:
            state = bed.state(self.counter, key)
            for event_id, execution, siblings in state.entries if state else ():
                if event_id in entries:
                    found.append(f"{event_id} was applied twice")
                entries[event_id] = (execution, siblings)
        outcomes: dict[str, list[dict]] = {}
        for message in published.values():
            body = orjson.loads(message.data)
            if body["type"] == Counted.event_type:
                outcomes.setdefault(body["data"]["of"], []).append(body["data"])
        by_id = {orjson.loads(m.data)["id"]: s for s, m in published.items()}
        for event_id in self.accepted:
            if event_id not in by_id:
                found.append(f"{event_id} was accepted and is lost")
                continue
            emitted = outcomes.get(event_id, [])
            executions = (
                {e["execution"] for e in emitted} | {entries[event_id][0]}
                if event_id in entries
                else {e["execution"] for e in emitted}
            )
            if len(executions) > 1:
                found.append(f"{event_id} took effect from executions {executions}")
            if emitted and len(emitted) != emitted[0]["siblings"]:
                found.append(f"{event_id} has {len(emitted)} of {emitted[0]['siblings']} events")
            if emitted and emitted[0]["applied"] != (event_id in entries):
                found.append(f"{event_id} has its events without its state, or the other way round")
            if event_id in entries and len(emitted) != entries[event_id][1]:
                found.append(f"{event_id} has its state without its events")
            if by_id[event_id] in dead and (emitted or event_id in entries):
                found.append(f"{event_id} is dead and alive")
        counted = [s for s in published if type_of(s) == Counted.event_type]
        noticed = [s for s in published if type_of(s) == Noticed.event_type]
        if len(counted) != len(noticed):
            found.append(f"{len(counted)} counted, {len(noticed)} noticed")
        return found

    def _of_states(self) -> list[str]:
        """Per key, applied order is log order, and each version extends the one before."""
        found, before = [], {}
        order = {
            orjson.loads(m.data)["id"]: m.seq for m in self.server.history if type_of(m.subject) == Ordered.event_type
        }
        for message in self.server.history:
            if ".act.counter." in message.subject:
                entries = orjson.loads(message.data)["entries"]
                if entries[: len(before.get(message.subject, []))] != before.get(message.subject, []):
                    found.append(f"{message.subject} at {message.seq} forgot what it held before")
                before[message.subject] = entries
                seqs = [order.get(event_id, -1) for event_id, *_ in entries]
                if seqs != sorted(set(seqs)):
                    found.append(f"{message.subject} at {message.seq} is out of order: {seqs}")
        return found
