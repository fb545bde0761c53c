"""Replicas: the chain on one server and on three that copy each other, and what the death of their leader costs."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import count, pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

from hocket.bench.chain_worker import FREE, FREE_CHAIN, LENGTH
from hocket.bench.figures import Level, level_of, quantile
from hocket.bench.load import ANSWER_S, TEXT, Say, WorkerProcess, keep_in_flight
from hocket.beside import beside
from hocket.client import Bus, Delivery, open_bus
from hocket.log import jetstream
from hocket.log.jetstream import JetStreamLog
from hocket.log.server import Cluster, EmbeddedServer

ONE = "1 replica"
THREE = "3 replicas"
SERVERS = 3

CONNECT_S = 60.0
"""How long servers that have just started may take to agree on who leads."""

WARM_UP = 100
"""Sagas before anything is measured."""


@dataclass(frozen=True, slots=True)
class Part:
    """What came through in one part of the time around a leader's death."""

    sagas: int
    per_s: float
    p50_ms: float


@dataclass(frozen=True, slots=True)
class Failover:
    """Sagas kept in flight while the leader is killed with kill -9."""

    in_flight: int
    before: Part
    stall_s: float
    """The longest time without the end of any saga, from the kill on."""

    after: Part
    """Of those that began after it, on the servers that are left."""

    started: int
    lost: int
    """How many have no last event in the log."""

    doubled: int
    """How many events of theirs are in the log more often than once."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """The whole measurement."""

    sync: str
    hops: int
    levels: list[Level]
    failover: Failover

    def level(self, system: str, in_flight: int) -> Level:
        """One row."""
        return next(row for row in self.levels if (row.system, row.in_flight) == (system, in_flight))

    @property
    def latency_ratio(self) -> float:
        """p50 on three replicas with the fewest sagas in flight, as a multiple of one replica's."""
        least = min(row.in_flight for row in self.levels)
        return self.level(THREE, least).p50_ms / self.level(ONE, least).p50_ms

    @property
    def rate_ratio(self) -> float:
        """Sagas per second on three replicas at the highest load, as a multiple of one replica's."""
        most = max(row.in_flight for row in self.levels)
        return self.level(THREE, most).per_s / self.level(ONE, most).per_s

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "latency_ratio": self.latency_ratio, "rate_ratio": self.rate_ratio}


@dataclass(slots=True)
class _Side:
    """One of the two that are compared: a client of it, and the process with the four agents."""

    name: str
    log: JetStreamLog
    bus: Bus
    worker: WorkerProcess
    arrived: dict[int, asyncio.Event] = field(default_factory=dict)

    async def start(self, number: int) -> None:
        """Publish the first event of a chain; said again after a doubt, it is the same event."""
        event = FREE[0](number=number, text=TEXT)
        await self.bus.publish(event, event_id=f"saga-{number}", timeout_s=ANSWER_S)

    async def listen(self, deliveries: AsyncIterator[Delivery]) -> None:
        """Take note of ends."""
        async for delivery in deliveries:
            number = delivery.envelope.data["number"]
            if number in self.arrived:
                self.arrived[number].set()

    async def level(self, first: int, sagas: int, in_flight: int) -> Level:
        """Run so many sagas."""
        before = await self.worker.ask()
        latencies, took_s = await keep_in_flight(self.start, self.arrived, first=first, sagas=sagas, at_once=in_flight)
        after = await self.worker.ask()
        cpu_s, commits = after["cpu_s"] - before["cpu_s"], after["commits"] - before["commits"]
        return level_of(self.name, in_flight, latencies, took_s, cpu_s, commits)


async def measure(
    *,
    sync: str = "always",
    levels: Sequence[tuple[int, int]] = ((1, 100), (50, 1000), (500, 3000)),
    in_flight: int = 50,
    around_s: float = 5.0,
    say: Say,
) -> Replicas:
    """Run the chain on both, level by level in turn, then kill the three's leader with `in_flight` sagas under way.

    `levels` are pairs of sagas in flight and sagas counted; `around_s` is how long is measured before the kill, and
    again after the stall; `sync` is the servers' `sync_interval`.
    """
    rows: list[Level] = []
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as folder:
        async with (
            EmbeddedServer(Path(folder) / "one", sync=sync) as server,
            Cluster(Path(folder), size=SERVERS, sync=sync) as cluster,
            _side(ONE, server.url, 1) as one,
            _side(THREE, cluster.url, SERVERS) as three,
        ):
            first = 0
            for in_flight_now, sagas in ((20, WARM_UP), *levels):
                for side in (one, three):
                    say(f"{side.name}: {sagas} sagas, {in_flight_now} in flight")
                    rows.append(await side.level(first, sagas, in_flight_now))
                first += sagas
            say(f"{in_flight} in flight, and kill -9 of the leader")
            failover = await _failover(three, cluster, first, in_flight, around_s)
    return Replicas(sync, LENGTH, rows[2:], failover)


@asynccontextmanager
async def _side(name: str, url: str, replicas: int) -> AsyncIterator[_Side]:
    async with (
        jetstream.connect(url, domain="free", replicas=replicas, timeout_s=CONNECT_S) as [log],
        open_bus([log], publisher="bench") as bus,
        WorkerProcess("hocket.bench.chain_worker", [url, "free", FREE_CHAIN]) as worker,
        bus.subscribe(FREE[-1]) as deliveries,
    ):
        side = _Side(name, log, bus, worker)
        async with beside(side.listen(deliveries)):
            yield side


async def _failover(side: _Side, cluster: Cluster, first: int, in_flight: int, around_s: float) -> Failover:
    """Keep sagas in flight, kill the leader, and go on until it has worked again for as long as before."""
    spans: list[tuple[float, float]] = []
    numbers = count(first)
    killed_s = stop_s = float("inf")
    working = asyncio.Event()
    """Set when as many sagas as are in flight began after the kill and have ended: what was on its way before may
    still end while nobody leads."""

    async def lane() -> None:
        while perf_counter() < stop_s:
            number = next(numbers)
            side.arrived[number] = asyncio.Event()
            began_s = perf_counter()
            await side.start(number)
            await side.arrived[number].wait()
            del side.arrived[number]
            spans.append((began_s, perf_counter()))
            if sum(began > killed_s for began, _ in spans[-2 * in_flight :]) >= in_flight:
                working.set()

    async with asyncio.TaskGroup() as tasks:
        began_s = perf_counter()
        lanes = [tasks.create_task(lane()) for _ in range(in_flight)]
        await asyncio.sleep(around_s)
        leader = await side.log.leader()
        assert leader is not None, "sagas came through, so somebody led"
        await cluster.node(leader).kill()
        killed_s = perf_counter()
        async with asyncio.timeout(ANSWER_S):
            await working.wait()
        stop_s = perf_counter() + around_s
        _, unended = await asyncio.wait(lanes, timeout=around_s + ANSWER_S)
        for each in unended:
            each.cancel()  # the audit says what was lost
    stall_s, again_s = _longest_pause([killed_s, *sorted(ended for _, ended in spans if ended > killed_s)])
    before = [(began, ended) for began, ended in spans if ended <= killed_s]
    after = [(began, ended) for began, ended in spans if began >= again_s]
    started = next(numbers) - first
    lost, doubled = await _audit(side.bus, range(first, first + started))
    return Failover(
        in_flight=in_flight,
        before=_part(before, began_s, killed_s),
        stall_s=stall_s,
        after=_part(after, again_s, max(ended for _, ended in after)),
        started=started,
        lost=lost,
        doubled=doubled,
    )


def _longest_pause(moments: Sequence[float]) -> tuple[float, float]:
    """How long it was, and when it was over."""
    return max((later - earlier, later) for earlier, later in pairwise(moments))


def _part(spans: Sequence[tuple[float, float]], began_s: float, ended_s: float) -> Part:
    p50_s = quantile([ended - began for began, ended in spans], 0.5)
    return Part(sagas=len(spans), per_s=len(spans) / (ended_s - began_s), p50_ms=p50_s * 1000)


async def _audit(bus: Bus, numbers: range) -> tuple[int, int]:
    """Of these sagas, how many have no end in the log, and how many events are there more often than once."""
    found: Counter[tuple[str, int]] = Counter()
    async for delivery in bus.read(*FREE):
        found[delivery.address.type, delivery.envelope.data["number"]] += 1
    lost = sum(found[FREE[-1].event_type, number] == 0 for number in numbers)
    doubled = sum(times > 1 for (_, number), times in found.items() if number in numbers)
    return lost, doubled
