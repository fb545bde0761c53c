"""A small world in one thread: processes on the log's twin, a workload, and blows that fall by a plan.

Everything follows from the seed. The blows are drawn before the world begins, so that one of them can be left out
and the rest stay the same: that is how a failing plan is made smaller.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.fault.history import History, Operation, Stored, Trouble
from tests.fault.lines import LATE_S, TAGS, Line, Watched
from tests.fault.services import coordinator
from tests.fault.workload import (
    LIMITS,
    POSITIONS,
    RESOLVE,
    Asked,
    Begun,
    Mood,
    Nudged,
    Ordered,
    Outside,
    booking,
    counting,
    waiting,
)

from hocket.agent import Agent
from hocket.crashpoints import POINTS
from hocket.errors import HocketError
from hocket.saga.record import COORDINATOR
from hocket.subjects import address
from hocket.testing import Bed, run_virtual
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested, EffectResolved
from hocket_schemas.cancels import CancelRequested
from hocket_schemas.event import Event
from hocket_schemas.runtime import SagaStuck
from hocket_schemas.undoing import UndoDecided

SCENES = ("counting", "waiting", "counting", "booking", "counting")
"""In turn. The first is the cheapest, and shows most of what can go wrong between two owners."""

PROCESSES = 2
STORM_S = 7.0

HEAL_S = LIMITS.append_s + LATE_S + 0.5
"""From the last blow until nothing of it is under way."""

QUIET_WITHIN_S = 60.0
"""What is not over by then, counted from the last fault, never is."""

WITHIN_S = 3.0
"""The bound of a client's operation."""

KINDS = (
    *("kill", "crash", "crash", "crash", "crash", "pause", "two owners", "slow"),
    *("request lost", "answer lost", "answer lost", "late append", "consumer lost", "down", "full"),
)


class Killed(BaseException):
    """A process dies here."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault, and when it falls."""

    at_s: float
    kind: str
    process: int
    """1: the one that owns; 2: the other; 0: the client."""

    lasts_s: float
    point: str = ""
    count: int = 1

    def __str__(self) -> str:
        where = ("the client", "the owner", "the other process")[self.process]
        more = f" {self.point!r}:{self.count}" if self.point else f" for {self.lasts_s:.2f} s"
        return f"{self.kind} at {where}{more}"


def plan(seed: int) -> tuple[Blow, ...]:
    """The blows of a seed, in their order."""
    rng = random.Random(f"{seed} blows")
    blows = []
    for _ in range(rng.randint(3, 9)):
        kind = rng.choice(KINDS)
        process = rng.choice((0, 1, 1, 2) if kind in ("request lost", "answer lost", "late append") else (1, 1, 1, 2))
        point = rng.choice(POINTS) if kind == "crash" else ""
        lasts_s = rng.choice((0.3, 1.0, 4.0)) * (0.5 + rng.random())
        blows.append(
            Blow(0.8 + rng.random() * (STORM_S - 0.8), kind, process, lasts_s, point, rng.choice((1, 1, 2, 3)))
        )
    return tuple(sorted(blows, key=lambda blow: blow.at_s))


@dataclass
class _Slot:
    """A place where one process after another runs."""

    number: int
    line: Line | None = None
    work: asyncio.Task[None] | None = None


@dataclass
class World:
    """One seed's world, which can be lived through once."""

    seed: int
    blows: tuple[Blow, ...] | None = None
    """None: those of the seed."""

    told: list[tuple[float, str]] = field(default_factory=list)
    """Each blow, when it fell."""

    def __post_init__(self) -> None:
        self.blows = plan(self.seed) if self.blows is None else self.blows
        self.scene = SCENES[self.seed % len(SCENES)]
        self.rng = random.Random(f"{self.seed} work")
        self.server = Watched(self.seed)
        self.mood = Mood(random.Random(f"{self.seed} mood"), self._now)
        self.outside = Outside(self._now)
        self.trouble = Trouble()
        self.operations: list[Operation] = []
        self.bed = Bed(server=self.server)
        self.agents: tuple[Agent[Any], ...] = {
            "counting": lambda: (counting(self.mood),),
            "waiting": lambda: (waiting(self.mood),),
            "booking": lambda: (booking(self.mood, self.outside), _coordinator()),
        }[self.scene]()
        self._slots = [_Slot(n) for n in range(1, PROCESSES + 1)]
        self._points: dict[str, int] = {}
        """At which points whoever comes there next dies, and after how many times."""

        self._calm = asyncio.Event()
        self._healed_s = 0.0

    def _now(self) -> float:
        return self.server.clock.now_s()

    async def live(self) -> History:
        """Live through the storm and heal; return what was seen."""
        quiet_s = None
        async with self.bed as bed, asyncio.TaskGroup() as tasks:
            bed.agents = self.agents
            work = {"counting": self._count, "waiting": self._wait, "booking": self._book}[self.scene]
            background = [tasks.create_task(self._life(slot)) for slot in self._slots]
            background.append(tasks.create_task(self._people()))
            await bed.owned()
            storm = [tasks.create_task(self._strike(blow)) for blow in self.blows or ()]
            working = tasks.create_task(work())
            await asyncio.sleep(STORM_S)
            for task in storm:
                task.cancel()
            self._heal()
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIET_WITHIN_S):
                    await working
                    await asyncio.sleep(HEAL_S)
                    await self._over()
                    quiet_s = self._now()
            for task in (*background, working):
                task.cancel()
        return self._seen(quiet_s)

    async def _over(self) -> None:
        """Nothing is left to do, and nothing comes of itself any more."""
        for _ in range(2):
            while True:
                with suppress(TimeoutError):
                    await self.bed.quiet()
                    break
            await asyncio.sleep(2.0 if self.scene == "booking" else 0.5)

    def _seen(self, quiet_s: float | None) -> History:
        stored = [Stored(message, line) for message, line in zip(self.server.history, self.server.lines, strict=True)]
        return History(
            stored=stored,
            operations=self.operations,
            deeds=self.outside.deeds,
            agents=[agent.name for agent in self.agents],
            consumes={agent.name: tuple(agent.hears) for agent in self.agents},
            healed_s=self._healed_s,
            quiet_s=quiet_s,
            trouble=self.trouble,
        )

    def _heal(self) -> None:
        """No more blows; what is held up goes on."""
        self._calm.set()
        self.mood.calm = True
        self._healed_s = self._now()
        self.server.bytes_max = 1 << 30
        self.server.start()
        client = self.bed.bus.logs[0]
        for line in (client, *(slot.line for slot in self._slots)):
            if isinstance(line, Line):
                line.faults.disarm()
                line.free.set()
        self._points.clear()

    def _struck(self, kind: str, told: str = "") -> None:
        self.trouble.struck[kind] += 1
        self.told.append((self._now(), told or kind))
        finished = all(self.bed._finished(agent) and not self.bed.runs(agent) for agent in self.agents)
        self.trouble.at_work += not finished

    async def _strike(self, blow: Blow) -> None:
        """Let one blow fall, and take it back when its time is over."""
        await asyncio.sleep(blow.at_s)
        slot = self._slot(blow.process) if blow.process else None
        line = slot.line if slot else self.bed.bus.logs[0]
        if blow.kind == "down":
            self._struck(blow.kind, str(blow))
            self.server.stop()
            await asyncio.sleep(blow.lasts_s)
            self.server.start()
        elif blow.kind == "full":
            self._struck(blow.kind, str(blow))
            self.server.bytes_max = self.server._bytes + 40
            await asyncio.sleep(blow.lasts_s)
            self.server.bytes_max = 1 << 30
        elif not isinstance(line, Line) or line.killed:
            return  # nobody is there
        elif blow.kind in TAGS.values():
            line.faults.arm(blow.kind, lambda kind: self._struck(kind, f"{kind} at line {line.number}"))
        elif slot is not None and slot.work is not None:
            await self._strike_process(blow, slot, line, slot.work)

    def _slot(self, process: int) -> _Slot:
        """The slot of the owner, or the other one."""
        claim = self.server.newest(self.bed.names.owner(self.agents[0].name))
        line = self.server.lines[claim.seq - 1] if claim else None
        return sorted(self._slots, key=lambda slot: slot.line is None or slot.line.number != line)[process - 1]

    async def _strike_process(self, blow: Blow, slot: _Slot, line: Line, work: asyncio.Task[None]) -> None:
        if blow.kind == "crash":
            self._points[blow.point] = blow.count
            return
        self._struck(blow.kind, str(blow))
        match blow.kind:
            case "kill":
                line.kill()
                work.cancel()
            case "pause":
                line.free.clear()
                line.faults.deaf = True
                await asyncio.sleep(blow.lasts_s)
                line.faults.deaf = False
                line.free.set()
            case "two owners":
                line.faults.deaf = True
                await asyncio.sleep(blow.lasts_s)
                line.faults.deaf = False
            case "slow":
                line.faults.delay_s = 0.4
                await asyncio.sleep(blow.lasts_s)
                line.faults.delay_s = 0.0

    async def _life(self, slot: _Slot) -> None:
        """One process after another, each until something ends it."""
        while True:
            line = slot.line = self.server.connect()
            if not self._calm.is_set():
                line.faults.delay_s = self.rng.random() * 0.05
            work = slot.work = asyncio.ensure_future(self.bed.crew_on(line, reach=self._reach(slot, line)).run())
            try:
                await asyncio.wait({work})
            finally:
                line.kill()
                work.cancel()
                with suppress(asyncio.CancelledError, BaseExceptionGroup, Killed):
                    await work
            await asyncio.sleep(0.05 + (0 if self._calm.is_set() else self.rng.random() * 2))

    def _reach(self, slot: _Slot, line: Line) -> Callable[[str], None]:
        def reach(name: str) -> None:
            if name in self._points and not line.killed:
                self._points[name] -= 1
                if not self._points[name]:
                    del self._points[name]
                    self._struck("crash", f"crash of process {slot.number} at {name!r}")
                    line.kill()
                    raise Killed(name)

        return reach

    async def _ask(self, event: Event, event_id: str, key: str, publish: Callable[..., Awaitable[Any]]) -> None:
        """Be a client: try until it is acked, and keep book of each answer."""
        while True:
            began_s, error = self._now(), None
            try:
                await publish(event, key=key, event_id=event_id, timeout_s=WITHIN_S)
            except (HocketError, TimeoutError) as refused:
                error = refused
            self.operations.append(Operation(event_id, key, began_s, self._now(), WITHIN_S, error))
            if error is None:
                return
            await asyncio.sleep(0.2)

    async def _publish(self, event: Event, event_id: str, key: str) -> None:
        async def publish(event: Event, **options: Any) -> None:
            await self.bed.publish(event, saga=event_id if self.scene != "booking" else key, **options)

        await self._ask(event, event_id, key, publish)

    async def _count(self) -> None:
        for n in range(10):
            await self._publish(Ordered(n=n), f"order-{n}", f"key-{self.rng.randrange(3)}")
            if self.rng.random() < 0.2:
                self.trouble.struck["duplicate"] += 1
                await self._publish(Ordered(n=n), f"order-{n}", self.operations[-1].key)
            if self.rng.random() < 0.6:
                await asyncio.sleep(self.rng.random() * 1.4)

    async def _wait(self) -> None:
        for n in range(3):
            key = f"key-{self.rng.randrange(2)}"
            await self._publish(Begun(delay_s=0.2 + self.rng.random() * 3), f"begun-{n}", key)
            await asyncio.sleep(self.rng.random() * 2)
            for i in range(self.rng.randint(0, 3)):
                await self._publish(Nudged(n=10 * n + i), f"nudged-{n}-{i}", key)
        if self.rng.random() < 0.5:  # what comes due when all is well again
            await self._calm.wait()
            await asyncio.sleep(HEAL_S)
            await self._publish(Begun(delay_s=2.0), "begun-late", "key-0")

    async def _book(self) -> None:
        for n in range(2):
            saga = f"trip-{n}"
            at = self.rng.randrange(1, POSITIONS)
            fate = self.rng.choice(("booked", "refused", "cancelled", "undo fails"))
            refused_at = at if fate in ("refused", "undo fails") else None
            undo_fails_at = at - 1 if fate == "undo fails" else None
            await self._publish(Asked(refused_at=refused_at, undo_fails_at=undo_fails_at), f"asked-{saga}", saga)
            await asyncio.sleep(self.rng.random() * 2)
            if fate == "cancelled":
                await self._publish(CancelRequested(saga=saga, by="ada"), f"cancel-{saga}", saga)

    async def _people(self) -> None:
        """Decide on what is asked, and look after what is stuck."""
        seen: set[str] = set()
        looked: object = None
        while True:
            await asyncio.sleep(0.5)
            now = (self.server.end, len(self.outside.working))
            if now == looked:
                continue  # nothing is there that was not looked at
            looked = now
            if self.scene == "waiting":
                await self._decide(seen)
            elif self.scene == "booking":
                await self._resolve(seen)

    async def _decide(self, seen: set[str]) -> None:
        """Two people decide, in any order, and a third about something that nobody was shown."""
        requests = self.server.since(1, [self.bed.names.events_of_type(ApprovalRequested.event_type)], 1 << 30)
        for asked in self.bed.events(ApprovalRequested) if len(requests) > len(seen) else ():
            if asked.approval in seen:
                continue
            seen.add(asked.approval)
            key = next(address(m.subject).key for m in requests if asked.approval.encode() in m.data)
            said = [("ada", "approve", asked.digest), ("bob", "deny", asked.digest), ("eve", "approve", "0" * 32)]
            for by, option, digest in self.rng.sample(said, self.rng.randint(1, 3)):
                decided = ApprovalDecided(approval=asked.approval, digest=digest, option=option, by=by)
                await self._command(decided, f"{by}-{asked.approval}", key, "waiter")

    async def _resolve(self, seen: set[str]) -> None:
        """Look what is there, and say so; see to it by hand that what cannot be undone is."""
        for head in self.bed.runs(self.agents[0]):
            found = RESOLVE.search(head.parked or "")
            if found and not self.outside.working:
                ref = self.outside.find(found[1])
                event = EffectResolved(effect=found[1], happened=ref is not None, result=ref, by="ada")
                told = f"resolved-{found[1]}-{head.seq}-{self.server.end}"
                await self._command(event, told, address(head.subject).key, "desk")
        for n, stuck in enumerate(self.bed.events(SagaStuck)):
            if f"stuck-{n}" not in seen and not self.outside.working:
                seen.add(f"stuck-{n}")
                where = [n for saga, n in self.outside.standing.values() if saga == stuck.saga]
                self.outside.undo_fails.clear()
                self.outside.take_back(stuck.effect_key, stuck.saga, where[0] if where else 0)
                decided = UndoDecided(effect_key=stuck.effect_key, decision="resolve", by="ada")
                await self._command(decided, f"decided-{n}", stuck.saga, COORDINATOR)

    async def _command(self, event: Event, event_id: str, key: str, to: str) -> None:
        async def command(event: Event, **options: Any) -> None:
            await self.bed.bus.command(event, to=to, **options)

        await self._ask(event, event_id, key, command)


@cache
def _coordinator() -> Agent[Any]:
    """All worlds may have the same: it keeps nothing but what is in the log."""
    return coordinator(LIMITS)


def lived(seed: int, blows: tuple[Blow, ...] | None = None) -> tuple[World, History]:
    """Live one world, on a loop of its own."""
    seen: list[tuple[World, History]] = []

    async def live() -> None:
        world = World(seed, blows)
        seen.append((world, await world.live()))  # a task's result is put into words when its runner ends

    run_virtual(live())
    return seen[0]


__all__ = ["KINDS", "SCENES", "Blow", "Killed", "World", "lived", "plan"]
