"""Thousands of trips on real processes that are killed, and what went over the desks held against how each trip ended.

`python -m examples.trip.campaign --sagas 2000 --seed 7` prints a table: where something went wrong, what it was, and
how the trips ended. It ends with 1 if a trip does not end, or if one that was undone has left something behind.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.trip import desks

from hocket import Bus, Event, connect
from hocket.beside import beside
from hocket.host.restarts import Restarts
from hocket.host.supervisor import Fleet
from hocket.ids import fresh
from hocket.log.server import EmbeddedServer
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested
from hocket_schemas.cancels import CancelRequested
from hocket_schemas.runtime import SagaCompensated, SagaCompleted, SagaStuck
from hocket_schemas.undoing import UndoDecided

FOLDER = Path(__file__).parent
SERVICES = ("flights", "hotels", "payments", "coordinator")
SCHEMAS = "examples.trip.schemas"

POSITIONS = ("flights", "hotels", "reservations", "approval", "payments")
DESKS = {"book_flight": "flights", "book_room": "hotels", "reserve": "reservations", "pay": "payments"}
FAULTS = ("nothing", "hiccup", "refused", "lost", "killed", "cancelled", "deadline", "undo fails", "undo broken")
"""What goes wrong at a position.

`hiccup`: the desk fails once, and the agent's own retry is all it takes. `refused`: it will not book, or nobody
approves. `lost`: it books, and the answer comes too late. `killed`: the agent's process dies while it books.
`cancelled`: a person has enough while it is on its way. `deadline`: the desk asks for more time than there is, or
nobody decides. `undo fails`: what comes later is refused, and then it cannot be cancelled one to three times. `undo
broken`: nor for so long that a person has to have it tried again.
"""

DEADLINE_S = 45.0
KILL_EACH_S = 4.0
PATIENCE_S = 6.0
"""How long a person waits before deciding about what is stuck: it may still go forward."""

LONGEST_S = 180.0
"""How long a trip may take to be undone, with everybody being killed."""

SETTLE_S = 60.0
TRIES_MAX = 4


@dataclass(slots=True)
class Trip:
    """One saga, and what goes wrong with it."""

    saga: str
    at: int
    fault: str
    end: str = ""
    stuck: int = 0
    reasons: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """How it ended, in words of the table."""
        return f"stuck, then {self.end}" if self.stuck else self.end


@dataclass(slots=True)
class Report:
    """What came of a campaign."""

    trips: list[Trip]
    kills: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Position x fault x end."""
        counts = Counter((trip.fault, trip.at, trip.outcome) for trip in self.trips)
        ends = sorted({end for _, _, end in counts})
        lines = [f"{'fault':12} {'at':13}" + "".join(f"{end:>25}" for end in ends)]
        for fault, at in sorted({(f, a) for f, a, _ in counts}, key=lambda row: (FAULTS.index(row[0]), row[1])):
            lines.append(f"{fault:12} {POSITIONS[at]:13}" + "".join(f"{counts[fault, at, end]:25}" for end in ends))
        died = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        return "\n".join([*lines, "", f"{len(self.trips)} trips; killed at random moments: {died or 'nobody'}"])


class Campaign:
    """Trips under way, the people who decide about them, and whoever kills the processes."""

    def __init__(self, sagas: int, seed: int, *, at_once: int = 40, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._rng = random.Random(seed)
        self._room = asyncio.Semaphore(at_once)
        self._changed = asyncio.Event()
        self.report = Report([self._trip(f"trip-{seed}-{n}") for n in range(sagas)])
        self._trips = {trip.saga: trip for trip in self.report.trips}

    def _trip(self, saga: str) -> Trip:
        fault = self._rng.choice(FAULTS)
        undo = fault.startswith("undo")
        places = [0, 1, 2] if undo else [0, 1, 2, 4] if fault in ("hiccup", "lost", "killed") else range(len(POSITIONS))
        return Trip(saga, self._rng.choice(list(places)), fault)

    async def run(self, bus: Bus, fleet: Fleet) -> Report:
        """Have every trip made, and look at the ledger when all has come to rest."""
        async with beside(self._hear(bus), self._reap(fleet)), asyncio.TaskGroup() as tasks:
            for trip in self.report.trips:
                await self._room.acquire()
                tasks.create_task(self._make(trip, bus))
        self.report.wrong += await self._differences()
        return self.report

    async def _make(self, trip: Trip, bus: Bus) -> None:
        """One trip, from its request to its end."""
        from examples.trip.schemas import TripRequested

        for fault in self._faults(trip):
            await desks.ask("POST", "/admin/faults", {"saga": trip.saga, "times": 1, **fault})
        await bus.publish(TripRequested(route="MUC-OSL", nights=2), key=trip.saga, saga=trip.saga, timeout_s=60)
        if trip.fault == "cancelled" and trip.at == 0:
            await self._cancel(trip, bus)
        try:
            async with asyncio.timeout(self._deadline_s * 3 + LONGEST_S):
                while trip.end not in ("completed", "compensated"):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self.report.wrong.append(f"{trip} does not end")
        finally:
            self._room.release()

    def _faults(self, trip: Trip) -> list[dict[str, Any]]:
        """What the desks are told."""
        here = {"desk": POSITIONS[trip.at], "does": "book"}
        if here["desk"] == "approval":
            return []
        match trip.fault:
            case "hiccup":
                return [{**here, "how": "fail", "delay_s": 0.1, "after": self._rng.random() < 0.5}]
            case "refused":
                return [{**here, "how": "refuse"}]
            case "lost":
                return [{**here, "how": "late", "delay_s": desks.TIMEOUT_S + 3, "after": self._rng.random() < 0.5}]
            case "killed":
                return [{**here, "how": "kill", "after": self._rng.random() < 0.5}]
            case "cancelled":
                late_s = self._rng.choice([1.0, desks.TIMEOUT_S + 3, 14.0])
                return [{**here, "how": "late", "delay_s": late_s, "after": self._rng.random() < 0.5}]
            case "deadline":
                return [{**here, "how": "fail", "delay_s": self._deadline_s * 3, "times": None}]
            case "undo fails" | "undo broken":
                times = self._rng.randint(1, 3) if trip.fault == "undo fails" else 6
                refused = {"desk": POSITIONS[self._rng.choice([n for n in (1, 2, 4) if n > trip.at])], "does": "book"}
                broken = {"desk": here["desk"], "does": "cancel", "how": "fail", "delay_s": 0.1, "times": times}
                return [{**refused, "how": "refuse"}, broken]
        return []

    async def _hear(self, bus: Bus) -> None:
        """Be the people: approve, have enough, and look after what is stuck."""
        from examples.trip.schemas import FlightBooked, HotelBooked

        types = (FlightBooked, HotelBooked, ApprovalRequested, SagaCompleted, SagaCompensated, SagaStuck)
        async with asyncio.TaskGroup() as tasks, bus.subscribe(*types, start="start") as deliveries:
            async for delivery in deliveries:
                event = delivery.event
                trip = self._trips[delivery.envelope.correlationid or delivery.address.key]
                cancelled = trip.fault == "cancelled"
                match event:
                    case SagaCompleted() | SagaCompensated():
                        trip.end = "completed" if isinstance(event, SagaCompleted) else "compensated"
                        self._changed.set()
                    case SagaStuck():
                        trip.end = "stuck"
                        trip.reasons.append(event.reason)
                        tasks.create_task(self._repair(trip, event, bus))
                    case ApprovalRequested() if cancelled and trip.at == 3:
                        tasks.create_task(self._cancel(trip, bus))
                    case ApprovalRequested() if trip.at != 3 or trip.fault != "deadline":
                        tasks.create_task(self._decide(trip, event, bus))
                    case FlightBooked() if cancelled and trip.at == 1:
                        tasks.create_task(self._cancel(trip, bus))
                    case HotelBooked() if cancelled and trip.at == 2:
                        tasks.create_task(self._cancel(trip, bus))

    async def _decide(self, trip: Trip, asked: ApprovalRequested, bus: Bus) -> None:
        option = "deny" if trip.fault == "refused" and POSITIONS[trip.at] == "approval" else "approve"
        decided = ApprovalDecided(approval=asked.approval, digest=asked.digest, option=option, by="ada")
        await bus.command(decided, to=asked.agent, key=trip.saga, saga=trip.saga, timeout_s=60)
        if trip.fault == "cancelled" and trip.at == 4:
            await self._cancel(trip, bus)

    async def _cancel(self, trip: Trip, bus: Bus) -> None:
        await asyncio.sleep(self._rng.random())
        await self._say(bus, CancelRequested(saga=trip.saga, by="ada", reason="it rains"), trip)

    async def _repair(self, trip: Trip, stuck: SagaStuck, bus: Bus) -> None:
        """Have it tried again; what has been paid, or will not be undone, is taken back by hand."""
        trip.stuck += 1
        await asyncio.sleep(PATIENCE_S)
        if trip.end != "stuck":
            return  # it went forward after all
        decision = UndoDecided(decision="retry", by="bob")
        if stuck.effect == "pay" or trip.stuck >= TRIES_MAX:
            desk = {"pay": "payments", "book_flight": "flights", "book_room": "hotels"}.get(
                stuck.effect, "reservations"
            )
            await desks.cancel(desk, stuck.effect_key, saga=trip.saga)
            decision = UndoDecided(decision="resolve", by="bob", reason="done by hand")
        await bus.command(decision, to="coordinator", key=trip.saga, saga=trip.saga, timeout_s=60)

    async def _say(self, bus: Bus, event: Event, trip: Trip) -> None:
        await bus.publish(event, key=trip.saga, saga=trip.saga, timeout_s=60)

    async def _reap(self, fleet: Fleet) -> None:
        """Kill one process after the other, at random moments."""
        while True:
            await asyncio.sleep(KILL_EACH_S * (0.5 + self._rng.random()))
            name = self._rng.choice(SERVICES)
            if name in fleet.pids:
                with suppress(ProcessLookupError):
                    fleet.kill(name)
                    self.report.kills[name] += 1

    async def _differences(self) -> list[str]:
        """What the ledger holds against the ends, once the last late answer has come."""
        found = ["the ledger was not looked at"]
        loop = asyncio.get_running_loop()
        until_s = loop.time() + SETTLE_S
        while found and loop.time() < until_s:
            await asyncio.sleep(desks.TIMEOUT_S)
            sagas = (await desks.ask("GET", "/ledger", timeout_s=30))["sagas"]
            found = [text for trip in self.report.trips for text in _wrong(trip, sagas.get(trip.saga))]
        return found


def _wrong(trip: Trip, books: dict[str, Any] | None) -> list[str]:
    standing = sorted(books["open"]) if books else []
    if trip.end == "completed" and standing != ["flights", "hotels", "payments", "reservations"]:
        return [f"{trip} is completed, and only {standing} stand"]
    if trip.end == "compensated" and books and (standing or books["net_cents"]):
        return [f"{trip} is compensated, and {standing} stand, for {books['net_cents']} cents"]
    return []


@asynccontextmanager
async def outside(folder: Path) -> AsyncIterator[str]:
    """The desks, in a process of their own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(FOLDER / "outside.py"), str(folder / "outside.sqlite")),
        *("--port", "0", "--until-eof", "--may-kill"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    try:
        async with asyncio.timeout(20):
            url = (await process.stdout.readline()).decode().strip()
        yield url
    finally:
        process.stdin.close()
        await process.wait()


async def campaign(
    sagas: int, seed: int, *, url: str | None = None, at_once: int = 40, deadline_s: float = DEADLINE_S
) -> Report:
    """Make so many trips, on a server of its own unless there is one."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["TRIP_OUTSIDE"] = desk = await stack.enter_async_context(outside(folder))
        if url is None:
            url = (await stack.enter_async_context(EmbeddedServer(None))).url
        domain = fresh()
        fleet = Fleet(
            [FOLDER / "services" / name for name in SERVICES],
            url=url,
            domain=domain,
            restarts=Restarts(restarts_max=1_000_000, second_s=0.0),
            environment={"TRIP_OUTSIDE": desk, "TRIP_DEADLINE_S": str(deadline_s), "HOCKET_SCHEMAS": SCHEMAS},
            output=folder / "services.log",
        )
        await stack.enter_async_context(fleet)
        await fleet.ready(60)
        bus = await stack.enter_async_context(connect(url, domain=domain))
        return await Campaign(sagas, seed, at_once=at_once, deadline_s=deadline_s).run(bus, fleet)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sagas", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--at-once", type=int, default=40, help="how many are under way at once")
    parser.add_argument("--nats", metavar="URL", help="your server instead of one's own")
    given = parser.parse_args()
    report = asyncio.run(campaign(given.sagas, given.seed, url=given.nats, at_once=given.at_once))
    sys.stdout.write(f"{report.table()}; seed {given.seed}\n")
    for text in report.wrong:
        sys.stdout.write(f"{text}\n")
    sys.stdout.write(f"{len(report.wrong)} wrong\n")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
