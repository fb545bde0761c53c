"""Runs in the simulated system: they step, sleep, wait, ask and are cancelled, and are checked.

They decide differently each time. Every part of a run between two waits says which execution it comes from and how
much that execution emitted in it, so that what the log holds can only be whole parts, each once, of one execution each.
"""

import asyncio
import random
from collections import Counter, defaultdict
from typing import Any

import orjson
from pydantic import BaseModel

from hocket.agent import Agent, Context
from hocket.errors import WaitExpired
from hocket.ids import cause_of
from hocket.log.memory import MemoryServer
from hocket.policy import Limits
from hocket.run import DONE, Entry
from hocket.subjects import tokens_of, type_of
from hocket.testing import Bed
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested
from hocket_schemas.cancels import CancelRequested, RunCancelled
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
PARTS = ("slept", "waited", "ended")


class Begun(Event, type="sim.begun.v1", catalog=EVENTS):
    asks: bool


class Nudged(Event, type="sim.nudged.v1", catalog=EVENTS):
    n: int


class Marked(Event, type="sim.marked.v1", catalog=EVENTS):
    of: str
    part: str
    execution: int
    siblings: int
    drawn: list[int]
    answer: str = ""


class Marks(BaseModel):
    entries: list[tuple[str, str, int]] = []
    """(event id, part, execution), in the order of application."""


class Runs:
    """The third agent of a simulation, what is published for it, and what it must not get wrong."""

    def __init__(self, rng: random.Random, limits: Limits, runs: int) -> None:
        self.agent = Agent("runner", state=Marks, limits=limits)
        self.executions = 0
        self.cleanups = 0
        self.cancelled: set[str] = set()
        """What somebody wants no more."""

        self._rng = rng
        self._runs = runs
        self._draws = 0
        self._calm = False
        self._register()

    def calm(self) -> None:
        """From now on handlers do not fail."""
        self._calm = True

    def _register(self) -> None:
        async def draw(of: str) -> int:
            """A number that no other call has drawn."""
            self._draws += 1
            drawn = self._draws
            if not self._calm and self._rng.random() < 0.2:
                await asyncio.sleep(self._rng.random())
            return drawn

        @self.agent.on(Begun, emits=[Marked], waits=[Nudged])
        async def begin(event: Begun, ctx: Context[Marks]) -> None:
            try:
                await go_through(event, ctx)
            except asyncio.CancelledError:
                await ctx.step_with(draw, ctx.envelope.id, step_name="cleanup")
                self.cleanups += 1
                raise

        async def go_through(event: Begun, ctx: Context[Marks]) -> None:
            self.executions += 1
            execution, of, drawn, answer = self.executions, ctx.envelope.id, [], ""
            for part in PARTS:
                siblings = self._rng.choice((0, 1, 2))
                for _ in range(siblings + (part == "ended")):
                    ctx.emit(
                        Marked(of=of, part=part, execution=execution, siblings=siblings, drawn=drawn, answer=answer)
                    )
                ctx.state.entries.append((of, part, execution))
                if not self._calm and self._rng.random() < 0.05:
                    raise RuntimeError("a run that fails half way")
                if part == "slept":
                    drawn.append(await ctx.step(draw, of))
                    await ctx.sleep(self._rng.random() * 3)
                elif part == "waited":
                    drawn.append(await ctx.step(draw, of))
                    answer = await self._answer(event, ctx)

    async def _answer(self, event: Begun, ctx: Context[Marks]) -> str:
        timeout_s = self._rng.random() * 8
        if event.asks:
            return (await ctx.approve("Go on?", timeout=timeout_s)).option
        try:
            return str((await ctx.wait(Nudged, timeout=timeout_s)).n)
        except WaitExpired:
            return "expired"

    async def publish(self, bed: Bed, keys: int) -> None:
        """Begin runs, and send answers that come too early, in time and too late."""
        for n in range(self._runs):
            key = f"key-{self._rng.randrange(keys)}"
            saga = f"begun-{n}"
            await bed.publish(Begun(asks=n % 2 == 0), key=key, saga=saga, event_id=saga, timeout_s=600.0)
            await asyncio.sleep(self._rng.random() * 2)
            if self._rng.random() < 0.3:
                self.cancelled.add(saga)
                scope = self._rng.choice(({"saga": saga}, {"run": cause_of("runner", "/hocket/test", saga)}))
                await bed.publish(CancelRequested(by="ada", **scope), key=key, event_id=f"no-{n}", timeout_s=600.0)
            await bed.publish(Nudged(n=n), key=key, event_id=f"nudged-{n}", timeout_s=600.0)

    async def decide(self, bed: Bed) -> None:
        """Be two people who decide on all that is asked, in any order; ends when the simulation does."""
        async with bed.bus.subscribe(ApprovalRequested, start="start") as asked:
            async for delivery in asked:
                request = delivery.event
                assert isinstance(request, ApprovalRequested)
                for by, option in self._rng.sample([("ada", "approve"), ("bob", "deny")], 2):
                    await asyncio.sleep(self._rng.random() * 3)
                    decided = ApprovalDecided(approval=request.approval, digest=request.digest, option=option, by=by)
                    await bed.bus.command(
                        decided,
                        to="runner",
                        key=delivery.address.key,
                        event_id=f"{by}-{request.approval}",
                        timeout_s=600.0,
                    )

    def violations(self, bed: Bed, server: MemoryServer) -> list[str]:
        """Hold what is in the log against the promises."""
        parts: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for message in server.history:
            if type_of(message.subject) == Marked.event_type:
                data = orjson.loads(message.data)["data"]
                parts[data["of"], data["part"]].append(data)
        applied = self._applied(bed)
        dead = {orjson.loads(letter["event"])["id"] for letter in bed.dead(self.agent)}
        ended = Counter(event.event for event in bed.events(RunCancelled))
        found = self._of_journals(server)
        for n in range(self._runs):
            of = f"begun-{n}"
            if len(parts[of, "ended"]) == 0 and of not in dead | self.cancelled:
                found.append(f"{of} never ended")
            ends = bool(parts[of, "ended"]) + (of in dead) + ended[of]
            if ends > 1:
                found.append(f"{of} ended {ends} times")
            drawn: list[int] = []
            for part in PARTS:
                marks = parts[of, part]
                executions = {mark["execution"] for mark in marks} | set(applied[of, part])
                if len(executions) > 1 or len(applied[of, part]) > 1:
                    found.append(f"{of} {part} took effect from executions {executions}, {applied[of, part]}")
                if marks and len(marks) != marks[0]["siblings"] + (part == "ended"):
                    found.append(f"{of} {part} has {len(marks)} marks of {marks[0]['siblings']}")
                if marks and not applied[of, part]:
                    found.append(f"{of} {part} has its marks without its state")
                for mark in marks:
                    if mark["drawn"][: len(drawn)] != drawn:
                        found.append(f"{of} {part} drew {mark['drawn']}, and {drawn} before")
                    drawn = mark["drawn"]
        return found

    def _applied(self, bed: Bed) -> dict[tuple[str, str], list[int]]:
        """Which executions changed the state in which part of which run."""
        applied: dict[tuple[str, str], list[int]] = defaultdict(list)
        for message in bed.server.since(1, [bed.names.actors("runner")], 1 << 30):
            for of, part, execution in orjson.loads(message.data)["entries"]:
                applied[of, part].append(execution)
        return applied

    def _of_journals(self, server: MemoryServer) -> list[str]:
        """No journal was ever overwritten, and none holds two outcomes of one call."""
        outcomes: Counter[tuple[str, str, int]] = Counter()
        subjects: Counter[str] = Counter()
        for message in server.history:
            if ".jrn." in message.subject:
                subjects[message.subject] += 1
                entry = Entry.from_json(message.data)
                outcomes[tokens_of(message.subject)[3], entry.name, entry.occurrence] += entry.phase == DONE
        found = [f"{subject} was written {count} times" for subject, count in subjects.items() if count > 1]
        return found + [f"{call} has {count} outcomes" for call, count in outcomes.items() if count > 1]
