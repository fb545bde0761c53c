"""The chain: four stateless agents that pass an event on, and the same without any guarantee."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hocket.bench import baseline
from hocket.bench.chain_worker import LAST, LENGTH, Passed
from hocket.bench.figures import Level, level_of
from hocket.bench.load import TEXT, WorkerProcess, keep_in_flight
from hocket.client import open_bus
from hocket.log import jetstream
from hocket.log.server import EmbeddedServer

HOCKET = "hocket"
BASELINE = "plain JetStream"
UNORDERED = "plain, unordered"
"""The same hops where each consumer handles all that it has fetched at once."""

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
        return self._rate_ratio(BASELINE)

    @property
    def unordered_rate_ratio(self) -> float:
        """The same, as a multiple of the baseline that gives up the order too."""
        return self._rate_ratio(UNORDERED)

    def _rate_ratio(self, baseline: str) -> float:
        most = max(row.in_flight for row in self.levels)
        return self.level(HOCKET, most).per_s / self.level(baseline, most).per_s

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
        }


async def measure(
    *, sync: str = "always", levels: tuple[tuple[int, int], ...] = ((1, 300), (50, 2000), (500, 6000)), say: Say
) -> Chain:
    """Run the systems on one server, level by level in turn, so that the machine's mood falls on all of them.

    `levels` are pairs of sagas in flight and sagas counted; `sync` is the server's `sync_interval`.
    """
    rows: list[Level] = []
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as folder:
        async with (
            EmbeddedServer(Path(folder), sync=sync) as server,
            WorkerProcess("hocket.bench.chain_worker", [server.url]) as ours,
            WorkerProcess("hocket.bench.baseline", [server.url, baseline.IN_ORDER]) as plain,
            WorkerProcess("hocket.bench.baseline", [server.url, baseline.AT_ONCE]) as unordered,
            _ours(server.url) as start_ours,
            baseline.client(server.url, baseline.IN_ORDER) as start_plain,
            baseline.client(server.url, baseline.AT_ONCE) as start_unordered,
        ):
            systems = (
                (HOCKET, ours, start_ours),
                (BASELINE, plain, start_plain),
                (UNORDERED, unordered, start_unordered),
            )
            number = 0
            for _, _, (start, arrived) in systems:
                await keep_in_flight(start, arrived, first=number, sagas=200, at_once=20)
                number += 200
            for at_once, sagas in levels:
                for system, worker, (start, arrived) in systems:
                    say(f"{system}: {sagas} sagas, {at_once} in flight")
                    before = await worker.ask()
                    latencies, took_s = await keep_in_flight(start, arrived, first=number, sagas=sagas, at_once=at_once)
                    number += sagas
                    after = await worker.ask()
                    cpu_s = after["cpu_s"] - before["cpu_s"]
                    commits = after["commits"] - before["commits"]
                    rows.append(level_of(system, at_once, latencies, took_s, cpu_s, commits))
            return Chain(sync, LENGTH, rows, (await ours.ask())["rss_mib"])


@asynccontextmanager
async def _ours(
    url: str,
) -> AsyncIterator[tuple[Callable[[int], Awaitable[None]], dict[int, asyncio.Event]]]:
    """A client that starts sagas, and learns from the last event of each that it is through."""
    arrived: dict[int, asyncio.Event] = {}
    async with (
        jetstream.connect(url) as logs,
        open_bus(logs, publisher="bench") as bus,
        bus.subscribe(LAST) as deliveries,
        asyncio.TaskGroup() as tasks,
    ):

        async def listen() -> None:
            async for delivery in deliveries:
                arrived[delivery.envelope.data["number"]].set()

        async def start(number: int) -> None:
            await bus.publish(Passed(number=number, text=TEXT))

        listening = tasks.create_task(listen())
        yield start, arrived
        listening.cancel()
