"""The chain: four stateless agents that pass an event on, also under a saga's policy, and without any guarantee."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from hocket.bench import baseline
from hocket.bench.chain_worker import FOLLOWED, FOLLOWED_CHAIN, FREE, FREE_CHAIN, LENGTH, Passed
from hocket.bench.figures import Level, level_of
from hocket.bench.load import ANSWER_S, TEXT, WorkerProcess, keep_in_flight
from hocket.beside import beside
from hocket.client import Bus, Delivery, open_bus
from hocket.log import jetstream
from hocket.log.server import EmbeddedServer
from hocket_schemas.event import Event
from hocket_schemas.runtime import SagaCompleted

HOCKET = "hocket"
UNDER_POLICY = "hocket, under a saga policy"
"""The same agents, where the first event starts a declared saga, and the last completes it.

The coordinator is a process of its own, as under `hocket up`; what it costs counts, and the clock stops when it has
said of every saga that it is completed.
"""

BASELINE = "plain JetStream"
UNORDERED = "plain, unordered"
"""The same hops where each consumer handles all that it has fetched at once."""

WARM_UP = 200
"""Sagas before anything is measured."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Chain:
    """The whole measurement."""

    sync: str
    hops: int
    levels: list[Level]
    worker_rss_mib: float
    """Largest resident memory of the worker process."""

    def level(self, system: str, in_flight: int) -> Level:
        """One row."""
        return next(row for row in self.levels if (row.system, row.in_flight) == (system, in_flight))

    @property
    def latency_ratio(self) -> float:
        """p50 with one saga in flight, as a multiple of the baseline's."""
        return self.level(HOCKET, 1).p50_ms / self.level(BASELINE, 1).p50_ms

    @property
    def rate_ratio(self) -> float:
        """Sagas per second at the highest load, as a multiple of the baseline's."""
        return self._rate_ratio(HOCKET, BASELINE)

    @property
    def unordered_rate_ratio(self) -> float:
        """The same, as a multiple of the baseline that gives up the order too."""
        return self._rate_ratio(HOCKET, UNORDERED)

    @property
    def policy_rate_ratio(self) -> float | None:
        """Sagas per second at the highest load, as a multiple of those without a policy; None: not measured."""
        followed = any(row.system == UNDER_POLICY for row in self.levels)
        return self._rate_ratio(UNDER_POLICY, HOCKET) if followed else None

    def _rate_ratio(self, system: str, baseline: str) -> float:
        most = max(row.in_flight for row in self.levels)
        return self.level(system, most).per_s / self.level(baseline, most).per_s

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "sync": self.sync,
            "hops": self.hops,
            "levels": [asdict(row) for row in self.levels],
            "worker_rss_mib": self.worker_rss_mib,
            "latency_ratio": self.latency_ratio,
            "rate_ratio": self.rate_ratio,
            "unordered_rate_ratio": self.unordered_rate_ratio,
            "policy_rate_ratio": self.policy_rate_ratio,
        }


@dataclass(frozen=True, slots=True)
class _System:
    """One of those that are compared."""

    name: str
    processes: Sequence[WorkerProcess]
    start: Callable[[int], Awaitable[None]]
    arrived: dict[int, asyncio.Event]
    over: Callable[[], Awaitable[None]] | None = None
    """Waits for what it still does when the last saga has come through."""

    async def costs(self) -> tuple[float, float]:
        """CPU seconds and appends of its processes so far."""
        told = [await process.ask() for process in self.processes]
        return sum(costs["cpu_s"] for costs in told), sum(costs["commits"] for costs in told)

    async def run(self, *, first: int, sagas: int, at_once: int) -> tuple[list[float], float]:
        """Run so many sagas; return their latencies and the whole, in seconds."""
        began_s = perf_counter()
        latencies, _ = await keep_in_flight(self.start, self.arrived, first=first, sagas=sagas, at_once=at_once)
        if self.over is not None:
            await self.over()
        return latencies, perf_counter() - began_s


def coordinator() -> Path | None:
    """Where the coordinator's service is: in `services` here, or in the checkout that we run from; None: nowhere."""
    places = [Path("services"), Path(__file__).resolve().parents[3] / "services"]
    return next((place / "coordinator" for place in places if (place / "coordinator").is_dir()), None)


async def measure(
    *,
    sync: str = "always",
    levels: tuple[tuple[int, int], ...] = ((1, 300), (50, 2000), (500, 6000)),
    coordinator: Path | None,
    say: Say,
) -> Chain:
    """Run the systems on one server, level by level in turn, so that the machine's mood falls on all of them.

    `levels` are pairs of sagas in flight and sagas counted; `sync` is the server's `sync_interval`. Without a
    `coordinator` nothing is measured under a policy.
    """
    rows: list[Level] = []
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as folder:
        async with EmbeddedServer(Path(folder), sync=sync) as server, AsyncExitStack() as stack:
            systems = [
                await four_agents(stack, server.url),
                await _plain(stack, server.url, BASELINE, baseline.IN_ORDER),
                await _plain(stack, server.url, UNORDERED, baseline.AT_ONCE),
            ]
            if coordinator is not None:
                systems.insert(1, await _under_policy(stack, server.url, coordinator))
            number = 0
            for system in systems:
                await system.run(first=number, sagas=WARM_UP, at_once=20)
                number += WARM_UP
            for at_once, sagas in levels:
                for system in systems:
                    say(f"{system.name}: {sagas} sagas, {at_once} in flight")
                    cpu_s, commits = await system.costs()
                    latencies, took_s = await system.run(first=number, sagas=sagas, at_once=at_once)
                    number += sagas
                    cpu_after_s, commits_after = await system.costs()
                    rows.append(
                        level_of(system.name, at_once, latencies, took_s, cpu_after_s - cpu_s, commits_after - commits)
                    )
            [ours] = systems[0].processes
            return Chain(sync, LENGTH, rows, (await ours.ask())["rss_mib"])


async def four_agents(stack: AsyncExitStack, url: str) -> _System:
    """The four agents in one process."""
    worker = await stack.enter_async_context(_worker(url, "free", FREE_CHAIN))
    client = await stack.enter_async_context(_client(url, "free", FREE, followed=False))
    return _System(HOCKET, [worker], client.start, client.arrived)


async def _under_policy(stack: AsyncExitStack, url: str, coordinator: Path) -> _System:
    """The four agents in one process, the coordinator in another; a log of their own, so that nobody else reads it."""
    workers = [_worker(url, "followed", role) for role in (FOLLOWED_CHAIN, str(coordinator))]
    processes = [await stack.enter_async_context(worker) for worker in workers]
    client = await stack.enter_async_context(_client(url, "followed", FOLLOWED, followed=True))
    return _System(UNDER_POLICY, processes, client.start, client.arrived, client.all_completed)


async def _plain(stack: AsyncExitStack, url: str, name: str, kind: str) -> _System:
    worker = await stack.enter_async_context(WorkerProcess("hocket.bench.baseline", [url, kind]))
    start, arrived = await stack.enter_async_context(baseline.client(url, kind))
    return _System(name, [worker], start, arrived)


def _worker(url: str, domain: str, role: str) -> WorkerProcess:
    return WorkerProcess("hocket.bench.chain_worker", [url, domain, role])


@dataclass(slots=True)
class _Client:
    """Starts chains, and learns from the last event of each that it is through."""

    bus: Bus
    first: type[Passed]
    arrived: dict[int, asyncio.Event] = field(default_factory=dict)
    started: int = 0
    completed: int = 0
    """How many sagas the coordinator has called so."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, number: int) -> None:
        """Publish the first event of a chain."""
        self.started += 1
        await self.bus.publish(self.first(number=number, text=TEXT))

    async def listen(self, deliveries: AsyncIterator[Delivery]) -> None:
        """Take note of ends."""
        async for delivery in deliveries:
            if delivery.address.type == SagaCompleted.event_type:
                self.completed += 1
                self.changed.set()
            else:
                self.arrived[delivery.envelope.data["number"]].set()

    async def all_completed(self) -> None:
        """Wait until the coordinator has seen every saga to its end."""
        async with asyncio.timeout(ANSWER_S):
            while self.completed < self.started:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def _client(url: str, domain: str, types: Sequence[type[Passed]], *, followed: bool) -> AsyncIterator[_Client]:
    heard: list[type[Event]] = [types[-1], SagaCompleted] if followed else [types[-1]]
    async with (
        jetstream.connect(url, domain=domain) as logs,
        open_bus(logs, publisher="bench") as bus,
        bus.subscribe(*heard) as deliveries,
    ):
        client = _Client(bus, types[0])
        async with beside(client.listen(deliveries)):
            yield client
