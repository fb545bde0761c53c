"""Thousands of trips on real processes that are killed, and what went over the desks held against how each trip ended.

`python -m examples.trip.campaign --sagas 2000 --seed 7` prints a table: what went wrong and where, how the trips ended,
and how often each process was killed while one of them was at that point. It ends with 1 if a trip does not end, if one
that was undone has left something behind, or if something was never tried.
"""

import argparse
import asyncio
import math
import os
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from examples.trip import desks
from examples.trip.account import POSITIONS, ROWS, SERVICES, Account, Trip, plan, undo_fails

from hocket import Bus, connect
from hocket.beside import beside
from hocket.clock import SystemClock
from hocket.errors import NotReady
from hocket.host.restarts import Restarts
from hocket.host.supervisor import Fleet
from hocket.ids import fresh
from hocket.log.server import EmbeddedServer
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested
from hocket_schemas.cancels import CancelRequested
from hocket_schemas.runtime import SagaCompensated, SagaCompleted, SagaStuck
from hocket_schemas.undoing import UndoDecided

FOLDER = Path(__file__).parent
SCHEMAS = "examples.trip.schemas"

DESKS = {"book_flight": "flights", "book_room": "hotels", "reserve": "reservations", "pay": "payments"}

AT_ONCE = 60
DEADLINE_S = 60.0
KILL_EACH_S = 6.0
HASTE_S = 2.0
"""The same while only that is made again which nobody was killed on: long enough to be back."""

AGAIN_AT_ONCE = 8
"""So many trips are under way then: a kill comes too late for most of those that go wrong in one moment."""

AGAIN_MAX = 15
"""So often that is made again at most, by the command."""

LOOK_S = 0.02
"""How often it is looked whether something new can be tried: a trip that is refused at once is over soon after."""

PATIENCE_S = 6.0
"""How long a person waits before deciding about what is stuck: it may still go forward."""

LONGEST_S = 180.0
"""How long a trip may take to be undone, with everybody being killed."""

LATEST_S = 15.0
"""No answer is later than this."""

SETTLE_S = 60.0
TRIES_MAX = 4
PROGRESS_EACH = 100


class Campaign:
    """Trips under way, the people who decide about them, and whoever kills the processes."""

    def __init__(
        self,
        trips: list[Trip],
        seed: int,
        *,
        at_once: int = AT_ONCE,
        deadline_s: float = DEADLINE_S,
        kill_each_s: float = KILL_EACH_S,
        again_max: int = 0,
    ) -> None:
        self._again_max = again_max
        self._deadline_s = deadline_s
        self._kill_each_s = kill_each_s
        self._looked_s = self._late_s = 0.0
        self._rng = random.Random(seed)
        self._at_once = at_once
        self._again = False  # whether only what was missed is made
        self._seed = seed
        self._changed = asyncio.Event()
        self._clock = SystemClock()
        self._ended = 0
        self.account = Account(trips)
        self._trips = {trip.saga: trip for trip in trips}

    async def run(self, bus: Bus, fleet: Fleet) -> Account:
        """Have every trip made, and look at the ledger when all has come to rest."""
        async with beside(self._hear(bus), self._reap(fleet)):
            await self._make_all(self.account.trips, bus, self._at_once)
            await self._look()
            for _ in range(self._again_max):
                if self.account.wrong or not (again := self.account.again(self._seed)):
                    break
                sys.stderr.write(f"{len(again)} trips more, for who was never killed on their like\n")
                self._kill_each_s, self._again = HASTE_S, True
                self._trips |= {trip.saga: trip for trip in again}
                self.account.trips += again
                await self._make_all(again, bus, AGAIN_AT_ONCE)
                await self._look()
        self.account.wrong += await self._differences()
        return self.account

    async def _make_all(self, trips: Sequence[Trip], bus: Bus, at_once: int) -> None:
        """Some trips, so many of them at once."""
        room = asyncio.Semaphore(at_once)
        async with asyncio.TaskGroup() as tasks:
            for trip in trips:
                await room.acquire()
                tasks.create_task(self._make(trip, bus)).add_done_callback(lambda _: room.release())

    async def _make(self, trip: Trip, bus: Bus) -> None:
        """One trip, from its request to its end."""
        from examples.trip.schemas import TripRequested

        for fault in self._faults(trip):
            await desks.ask("POST", "/admin/faults", {"saga": trip.saga, "times": 1, **fault})
        trip.began_s = self._clock.now_s()
        if trip.fault == "nothing":
            trip.struck_s = trip.began_s
        await bus.publish(TripRequested(route="MUC-OSL", nights=2), key=trip.saga, saga=trip.saga, timeout_s=60)
        if trip.fault == "cancelled" and trip.at == 0:
            await self._cancel(trip, bus)
        try:
            async with asyncio.timeout(self._deadline_s * 3 + LONGEST_S):
                while trip.end not in ("completed", "compensated"):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self.account.wrong.append(f"{trip} does not end")
        finally:
            self._ended += 1
            if self._ended % PROGRESS_EACH == 0:
                sys.stderr.write(f"{self._ended} trips have ended\n")

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
                late_s = self._rng.choice([1.0, desks.TIMEOUT_S + 3, LATEST_S - 1])
                return [{**here, "how": "late", "delay_s": late_s, "after": self._rng.random() < 0.5}]
            case "deadline":
                return [{**here, "how": "fail", "delay_s": self._deadline_s * 3, "times": None}]
            case _ if times := undo_fails(trip.fault):
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
                        trip.end, trip.ended_s = "completed", self._clock.now_s()
                        if isinstance(event, SagaCompensated):
                            trip.end, trip.reason = "compensated", event.reason
                        self._changed.set()
                    case SagaStuck():
                        trip.end = "stuck"
                        trip.stuck.append(event.reason)
                        tasks.create_task(self._repair(trip, event, bus))
                    case ApprovalRequested() if cancelled and trip.at == 3:
                        tasks.create_task(self._cancel(trip, bus))
                    case ApprovalRequested() if trip.at == 3 and trip.fault == "deadline":
                        trip.struck_s = self._clock.now_s()
                    case ApprovalRequested():
                        tasks.create_task(self._decide(trip, event, bus))
                    case FlightBooked() if cancelled and trip.at == 1:
                        tasks.create_task(self._cancel(trip, bus))
                    case HotelBooked() if cancelled and trip.at == 2:
                        tasks.create_task(self._cancel(trip, bus))

    async def _decide(self, trip: Trip, asked: ApprovalRequested, bus: Bus) -> None:
        option = "approve"
        if trip.fault == "refused" and POSITIONS[trip.at] == "approval":
            option, trip.struck_s = "deny", self._clock.now_s()
        decided = ApprovalDecided(approval=asked.approval, digest=asked.digest, option=option, by="ada")
        await bus.command(decided, to=asked.agent, key=trip.saga, saga=trip.saga, timeout_s=60)
        if trip.fault == "cancelled" and trip.at == 4:
            await self._cancel(trip, bus)

    async def _cancel(self, trip: Trip, bus: Bus) -> None:
        await asyncio.sleep(self._rng.random())
        trip.struck_s = self._clock.now_s()
        asked = CancelRequested(saga=trip.saga, by="ada", reason="it rains")
        await bus.publish(asked, key=trip.saga, saga=trip.saga, timeout_s=60)

    async def _repair(self, trip: Trip, stuck: SagaStuck, bus: Bus) -> None:
        """Have it tried again; what has been paid, or will not be undone, is taken back by hand."""
        await asyncio.sleep(PATIENCE_S)
        if trip.end != "stuck":
            return  # it went forward after all
        by_hand = stuck.effect == "pay" or len(trip.stuck) >= TRIES_MAX
        decision = UndoDecided(decision="resolve" if by_hand else "retry", by="bob")
        await bus.command(decision, to="coordinator", key=trip.saga, saga=trip.saga, timeout_s=60)
        if by_hand and await self._undone(trip):
            await desks.cancel(DESKS[stuck.effect], stuck.effect_key, saga=trip.saga)

    async def _undone(self, trip: Trip) -> bool:
        """Whether a trip ended so: it may have gone forward before anybody heard of the decision about it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_S):
                while trip.end not in ("completed", "compensated"):
                    self._changed.clear()
                    await self._changed.wait()
        return trip.end == "compensated"

    async def _reap(self, fleet: Fleet) -> None:
        """Kill one process after the other, at random moments, or a little later if something new can be tried then."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._kill_each_s * (0.5 + self._rng.random()))
            await self._look()
            patience_s = math.inf if self._again else self._kill_each_s / 2
            until_s, hits = loop.time() + patience_s, self.account.hits()
            while not self.account.needed(self._clock.now_s(), hits) and loop.time() < until_s:
                await asyncio.sleep(LOOK_S)
                await self._look()
            name = self.account.victim(self._clock.now_s(), self._rng)
            if name in fleet.pids:
                with suppress(ProcessLookupError, NotReady):
                    fleet.kill(name)
                    self.account.kills.append((self._clock.now_s(), name))

    async def _look(self) -> None:
        """Learn what has gone wrong at the desks since the last look."""
        found = await desks.ask("GET", f"/calls?since_s={self._looked_s!r}", timeout_s=30)
        new = [call for call in found if call["at"] > self._looked_s]
        self.account.strike(new)
        self._looked_s = max((call["at"] for call in new), default=self._looked_s)
        self._late_s = max((call["at"] for call in new if call["outcome"] == "late"), default=self._late_s)

    async def _differences(self) -> list[str]:
        """What the ledger holds against the ends, once the last late answer has come."""
        found = ["the ledger was not looked at"]
        loop = asyncio.get_running_loop()
        until_s = loop.time() + SETTLE_S
        await asyncio.sleep(max(0.0, self._late_s + LATEST_S - self._clock.now_s()))
        while found and loop.time() < until_s:
            await asyncio.sleep(1)
            sagas = (await desks.ask("GET", "/ledger", timeout_s=30))["sagas"]
            found = self.account.judge(sagas)
        return found


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
    trips: list[Trip],
    seed: int,
    *,
    url: str | None = None,
    at_once: int = AT_ONCE,
    deadline_s: float = DEADLINE_S,
    kill_each_s: float = KILL_EACH_S,
    again_max: int = 0,
) -> Account:
    """Make these trips, and so often some more for what was missed, on a server of its own unless there is one."""
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
        made = Campaign(
            trips, seed, at_once=at_once, deadline_s=deadline_s, kill_each_s=kill_each_s, again_max=again_max
        )
        return await made.run(bus, fleet)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sagas", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="how many are under way at once")
    parser.add_argument("--kill-each", type=float, default=KILL_EACH_S, help="seconds between two kills")
    parser.add_argument("--nats", metavar="URL", help="your server instead of one's own")
    given = parser.parse_args()
    trips = plan(given.sagas, given.seed, ROWS)
    made = campaign(
        trips,
        given.seed,
        url=given.nats,
        at_once=given.at_once,
        kill_each_s=given.kill_each,
        again_max=AGAIN_MAX,
    )
    account = asyncio.run(made)
    gaps = account.gaps()
    sys.stdout.write(f"{account.table()}; seed {given.seed}\n")
    for text in [*account.wrong, *gaps]:
        sys.stdout.write(f"{text}\n")
    sys.stdout.write(f"{len(account.wrong)} wrong, {len(gaps)} never tried\n")
    return 1 if account.wrong or gaps else 0


if __name__ == "__main__":
    sys.exit(main())
