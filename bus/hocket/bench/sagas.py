"""Sagas with effects: four agents with one each, followed by the coordinator to their end or to their undoing."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from hocket.bench import baseline, said
from hocket.bench.figures import quantile
from hocket.bench.load import WorkerProcess, keep_in_flight
from hocket.bench.sagas_worker import LENGTH, STEPS, WORK, refused
from hocket.beside import beside
from hocket.client import Bus, Delivery
from hocket.log.server import EmbeddedServer
from hocket_schemas.event import Event
from hocket_schemas.runtime import SagaCompensated, SagaCompleted

Say = Callable[[str], None]

ENDS: tuple[type[Event], ...] = (SagaCompleted, SagaCompensated)

WARM_UP = 100
"""Sagas before anything is measured."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The sagas that came to one kind of end."""

    sagas: int
    p50_ms: float
    """From the first event's publish to the coordinator's word that it is over."""

    p99_ms: float


@dataclass(frozen=True, slots=True)
class Sagas:
    """The whole measurement."""

    sync: str
    steps: int
    sagas: int
    in_flight: int
    per_s: float
    plain_per_s: float
    """Plain JetStream publishes per second with as many in flight, from the same run."""

    completed: Ended
    compensated: Ended
    agents_cpu_ms: float
    """CPU time of the four agents' process per saga."""

    coordinator_cpu_ms: float
    """CPU time of the coordinator's process per saga."""

    effects: int
    """Calls that the receiver counted, the first sagas left out."""

    undone: int

    @property
    def publishes_ratio(self) -> float:
        """The time that one saga takes of the whole, in plain publishes that could have been made in it."""
        return self.plain_per_s / self.per_s

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "publishes_ratio": self.publishes_ratio}


async def measure(
    *, sync: str = "always", sagas: int = 2000, in_flight: int = 200, coordinator: Path, say: Say
) -> Sagas:
    """Run so many sagas, so many of them at a time; every tenth is refused at its last step and undone.

    `sync` is the server's `sync_interval`, `coordinator` the folder of that service.
    """
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as folder:
        async with (
            EmbeddedServer(Path(folder), sync=sync) as server,
            WorkerProcess("hocket.bench.sagas_worker", [server.url, WORK]) as agents,
            WorkerProcess("hocket.bench.sagas_worker", [server.url, str(coordinator)]) as follower,
            said.clients(server.url, 1) as [bus],
            bus.subscribe(*ENDS) as deliveries,
            baseline.publishing(server.url) as plain,
        ):
            client = _Client(bus)
            async with beside(client.listen(deliveries)):
                await client.run(first=0, sagas=min(WARM_UP, sagas), in_flight=in_flight)
                client.took_s.clear()
                before, before_follower = await agents.ask(), await follower.ask()
                say(f"{sagas} sagas of {LENGTH} steps, {in_flight} in flight")
                took_s = await client.run(first=WARM_UP, sagas=sagas, in_flight=in_flight)
                after, after_follower = await agents.ask(), await follower.ask()
            publishes = max(1, sagas // 2)
            say(f"{publishes} plain publishes")
            plain_s, _ = await said.timed(said.at_once(lambda _: plain(), range(publishes), in_flight))
    numbers = range(WARM_UP, WARM_UP + sagas)
    return Sagas(
        sync=sync,
        steps=LENGTH,
        sagas=sagas,
        in_flight=min(in_flight, sagas),
        per_s=sagas / took_s,
        plain_per_s=publishes / plain_s,
        completed=client.ended([number for number in numbers if not refused(number)]),
        compensated=client.ended([number for number in numbers if refused(number)]),
        agents_cpu_ms=(after["cpu_s"] - before["cpu_s"]) / sagas * 1000,
        coordinator_cpu_ms=(after_follower["cpu_s"] - before_follower["cpu_s"]) / sagas * 1000,
        effects=int(after["done"] - before["done"]),
        undone=int(after["undone"] - before["undone"]),
    )


@dataclass(slots=True)
class _Client:
    """Starts sagas, and hears of their ends."""

    bus: Bus
    arrived: dict[int, asyncio.Event] = field(default_factory=dict)
    took_s: dict[int, float] = field(default_factory=dict)
    began_s: dict[int, float] = field(default_factory=dict)

    async def run(self, *, first: int, sagas: int, in_flight: int) -> float:
        """Run so many; return how long all of them took, in seconds."""
        _, took_s = await keep_in_flight(self._start, self.arrived, first=first, sagas=sagas, at_once=in_flight)
        return took_s

    async def listen(self, deliveries: AsyncIterator[Delivery]) -> None:
        """Take note of ends. Raises RuntimeError at one that a saga should not have come to."""
        async for delivery in deliveries:
            number = int(delivery.envelope.data["saga"].removeprefix("saga-"))
            if (delivery.address.type == SagaCompensated.event_type) != refused(number):
                raise RuntimeError(f"saga {number} came to {delivery.address.type}")
            self.took_s[number] = perf_counter() - self.began_s.pop(number)
            self.arrived[number].set()

    def ended(self, numbers: list[int]) -> Ended:
        """How long these took."""
        times = [self.took_s[number] for number in numbers] or [0.0]
        return Ended(len(numbers), quantile(times, 0.5) * 1000, quantile(times, 0.99) * 1000)

    async def _start(self, number: int) -> None:
        self.began_s[number] = perf_counter()
        await self.bus.publish(STEPS[0](number=number), saga=f"saga-{number}")
