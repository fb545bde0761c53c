"""Growth: whether publishing, reading and handling stay as fast while the log gets ten and a hundred times as long."""

import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hocket.bench import baseline, chain, said
from hocket.bench.figures import quantile
from hocket.bench.replay import fold, read_plainly
from hocket.log.server import EmbeddedServer

Say = Callable[[str], None]

TIMES = (1, 10, 100)

CHAIN_IN_FLIGHT = 50
PLAIN_SHARE = 5
"""A fifth as many plain publishes are made as events are published, beside them: they show the machine's mood."""


@dataclass(frozen=True, slots=True)
class Size:
    """What is so fast while the log holds so much."""

    events: int
    publish_per_s: float
    """Of the last events that it took to get there."""

    plain_publish_per_s: float
    """Plain JetStream publishes, to a stream of their own on the same server."""

    read_per_s: float
    """Events read from the first to the last, checked, typed and folded."""

    plain_read_per_s: float
    """Events read and parsed by a plain consumer."""

    chain_per_s: float
    """Sagas of four handlings."""

    chain_p50_ms: float


@dataclass(frozen=True, slots=True)
class Growth:
    """The whole measurement."""

    sync: str
    sizes: list[Size]

    @property
    def publish_bend(self) -> float:
        """What is left at the longest log of the rate of the shortest; 1: all of it."""
        return self.sizes[-1].publish_per_s / self.sizes[0].publish_per_s

    @property
    def read_bend(self) -> float:
        """The same of reading."""
        return self.sizes[-1].read_per_s / self.sizes[0].read_per_s

    @property
    def chain_bend(self) -> float:
        """The same of handling."""
        return self.sizes[-1].chain_per_s / self.sizes[0].chain_per_s

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        bends = {"publish_bend": self.publish_bend, "read_bend": self.read_bend, "chain_bend": self.chain_bend}
        return {"sync": self.sync, "sizes": [asdict(size) for size in self.sizes], **bends}


async def measure(*, sync: str = "always", events: int = 2000, sagas: int = 500, say: Say) -> Growth:
    """Measure with a log of `events`, of ten and of a hundred times as many; `sagas` run through the chain each time.

    `sync` is the server's `sync_interval`.
    """
    with tempfile.TemporaryDirectory(prefix="hocket-bench-") as folder:
        async with EmbeddedServer(Path(folder), sync=sync) as server, AsyncExitStack() as stack:
            buses = await stack.enter_async_context(said.clients(server.url, 1))
            plain = await stack.enter_async_context(baseline.publishing(server.url))
            crew = await chain.four_agents(stack, server.url)
            await crew.run(first=0, sagas=min(sagas, chain.WARM_UP), at_once=20)
            started, published, timed = chain.WARM_UP, 0, max(1, events // 2)
            sizes = []
            for times in TIMES:
                say(f"a log of {times * events} events")
                await said.publish(buses, range(published, times * events - timed))
                published = times * events
                publish_s, _ = await said.timed(said.publish(buses, range(published - timed, published)))
                plain_count = max(1, events // PLAIN_SHARE)
                plain_s, _ = await said.timed(said.at_once(lambda _: plain(), range(plain_count), said.IN_FLIGHT))
                read_s, _ = await said.timed(fold(buses[0], published))
                plain_read_s, _ = await said.timed(read_plainly(server.url, published))
                latencies, chain_s = await crew.run(first=started, sagas=sagas, at_once=CHAIN_IN_FLIGHT)
                started += sagas
                sizes.append(
                    Size(
                        events=published,
                        publish_per_s=timed / publish_s,
                        plain_publish_per_s=plain_count / plain_s,
                        read_per_s=published / read_s,
                        plain_read_per_s=published / plain_read_s,
                        chain_per_s=sagas / chain_s,
                        chain_p50_ms=quantile(latencies, 0.5) * 1000,
                    )
                )
    return Growth(sync, sizes)
