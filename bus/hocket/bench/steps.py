"""Steps: what remembering one costs, beside a plain publish, and how many a second many runs take together."""

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from hocket.bench import baseline
from hocket.bench.figures import quantile
from hocket.bench.load import ANSWER_S, WorkerProcess
from hocket.bench.steps_worker import STEPS, Arrived, Climbed
from hocket.client import Bus, open_bus
from hocket.log import jetstream
from hocket.log.server import EmbeddedServer

Say = Callable[[str], None]

ROUNDS = 5
"""How often many runs are started at once: one round takes half a second, too short to be believed alone."""

WARMING_RUNS = 20
"""Runs that are made first and not counted."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The whole measurement."""

    sync: str
    steps: int
    """How many each run takes, one after the other."""

    runs: int
    """How many runs were made one by one."""

    publish_ms: float
    """One plain JetStream publish with its ack; the median."""

    step_ms: float
    """One step of a run that is alone; the median over runs."""

    together: int
    """How many runs were started at once."""

    per_s: float
    """Steps per second of all of them, from the first publish to the last end; the median over rounds."""

    cpu_us_per_step: float
    """CPU time of the worker process per step, of the runs together."""

    @property
    def cost_ratio(self) -> float:
        """One step, as a multiple of one publish."""
        return self.step_ms / self.publish_ms

    @property
    def rate_ratio(self) -> float:
        """Steps per second of many runs, as a multiple of those of one."""
        return self.per_s * self.step_ms / 1000

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "cost_ratio": self.cost_ratio, "rate_ratio": self.rate_ratio}


async def measure(*, sync: str = "always", runs: int = 60, together: int = 200, say: Say) -> Steps:
    """Take turns between a publish of ten messages and a run of ten steps, then start many runs at once.

    `sync` is the server's `sync_interval`.
    """
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as folder:
        async with (
            EmbeddedServer(Path(folder), sync=sync) as server,
            WorkerProcess("hocket.bench.steps_worker", [server.url]) as worker,
            baseline.publishing(server.url) as publish,
            jetstream.connect(server.url) as logs,
            open_bus(logs, publisher="bench") as bus,
        ):
            await _run(bus, range(WARMING_RUNS))
            say(f"{runs} runs of {STEPS} steps, one after the other, and as many plain publishes")
            published: list[float] = []
            took: list[float] = []
            first = WARMING_RUNS
            for number in range(first, first + runs):
                published += [await _timed(publish) for _ in range(STEPS)]
                took += (await _run(bus, range(number, number + 1)))[0]
            first += runs
            say(f"{together} runs of {STEPS} steps at once, {ROUNDS} times")
            rates: list[float] = []
            before = await worker.ask()
            for number in range(first, first + ROUNDS * together, together):
                _, took_s = await _run(bus, range(number, number + together))
                rates.append(together * STEPS / took_s)
            after = await worker.ask()
    return Steps(
        sync=sync,
        steps=STEPS,
        runs=runs,
        publish_ms=quantile(published, 0.5) * 1000,
        step_ms=quantile(took, 0.5) / STEPS * 1000,
        together=together,
        per_s=quantile(rates, 0.5),
        cpu_us_per_step=(after["cpu_s"] - before["cpu_s"]) / (ROUNDS * together * STEPS) * 1e6,
    )


async def _run(bus: Bus, numbers: range) -> tuple[list[float], float]:
    """Start runs at once and wait for their ends; return how long each was in its handler, and all of them took."""
    took: list[float] = []
    async with asyncio.timeout(ANSWER_S), bus.subscribe(Arrived) as arrived:
        began_s = perf_counter()
        await asyncio.gather(*(bus.publish(Climbed(number=number)) for number in numbers))
        async for delivery in arrived:
            took.append(delivery.envelope.data["took_s"])
            if len(took) == len(numbers):
                break
    return took, perf_counter() - began_s


async def _timed(publish: Callable[[], Any]) -> float:
    began_s = perf_counter()
    await publish()
    return perf_counter() - began_s
