"""Ingest: how many events a second clients publish, each acknowledged, beside plain JetStream publishes."""

import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hocket.bench import baseline, said
from hocket.bench.figures import quantile
from hocket.log.server import EmbeddedServer

HOCKET = "hocket"
BASELINE = "plain JetStream"

Say = Callable[[str], None]

ROUNDS = 3
"""How often each is measured, in turns; the median counts."""

WARM_UP = 2000
"""Events of each before anything is measured."""

PLAIN_SHARE = 5
"""The baseline is so much slower that it gets a fifth of the events."""


@dataclass(frozen=True, slots=True)
class Published:
    """One way to publish."""

    system: str
    clients: int
    """Connections, all from one process."""

    in_flight: int
    events: int
    """In each round."""

    per_s: float
    """Acknowledged events per second; the median over rounds."""

    cpu_us: float
    """CPU time of the publishing process per event, over all rounds."""


@dataclass(frozen=True, slots=True)
class Ingest:
    """The whole measurement."""

    sync: str
    rows: list[Published]

    @property
    def rate_ratio(self) -> float:
        """Events per second of one client, as a multiple of plain publishes with as many in flight."""
        ours, plain = (next(row for row in self.rows if row.system == name) for name in (HOCKET, BASELINE))
        return ours.per_s / plain.per_s

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"sync": self.sync, "rows": [asdict(row) for row in self.rows], "rate_ratio": self.rate_ratio}


@dataclass(frozen=True, slots=True)
class _System:
    """One of those that are compared."""

    name: str
    clients: int
    events: int
    publish: Callable[[range], Awaitable[None]]
    took: list[tuple[float, float]] = field(default_factory=list)
    """Of each round: seconds, and seconds of CPU."""

    def published(self, in_flight: int) -> Published:
        """Its row."""
        return Published(
            system=self.name,
            clients=self.clients,
            in_flight=min(in_flight, self.events),
            events=self.events,
            per_s=self.events / quantile([took_s for took_s, _ in self.took], 0.5),
            cpu_us=sum(cpu_s for _, cpu_s in self.took) / (self.events * len(self.took)) * 1e6,
        )


async def measure(
    *,
    sync: str = "always",
    events: int = 20_000,
    clients: int = 4,
    in_flight: int = said.IN_FLIGHT,
    say: Say,
) -> Ingest:
    """Publish `events` with one client, with several and plainly, round by round in turn, on one server.

    `sync` is the server's `sync_interval`.
    """
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as folder:
        async with EmbeddedServer(Path(folder), sync=sync) as server, AsyncExitStack() as stack:
            one = await stack.enter_async_context(said.clients(server.url, 1))
            several = await stack.enter_async_context(said.clients(server.url, clients))
            plain = await stack.enter_async_context(baseline.publishing(server.url))

            async def publish_plainly(numbers: range) -> None:
                await said.at_once(lambda _: plain(), numbers, in_flight)

            systems = [
                _System(HOCKET, 1, events, partial(said.publish, one, in_flight=in_flight)),
                _System(HOCKET, clients, events, partial(said.publish, several, in_flight=in_flight)),
                _System(BASELINE, 1, max(1, events // PLAIN_SHARE), publish_plainly),
            ]
            for system in systems:
                await system.publish(range(min(WARM_UP, system.events)))
            for nth in range(1, ROUNDS + 1):
                for system in systems:
                    say(f"{nth} of {ROUNDS}: {system.events} events, {system.name}, {system.clients} client(s)")
                    system.took.append(await said.timed(system.publish(range(system.events))))
    return Ingest(sync, [system.published(in_flight) for system in systems])
