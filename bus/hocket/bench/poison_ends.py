"""Poison that ends its process: how much later a stream on other keys is handled while a standby takes over."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from hocket.bench.figures import quantile
from hocket.bench.load import ANSWER_S
from hocket.bench.poison_stream import KEYS, Say, dead_letters, paced, stream
from hocket.bench.poison_worker import MORTAL, Dosed, Survived
from hocket.beside import beside
from hocket.client import Bus, open_bus
from hocket.engine.owner import STANDBY
from hocket.host.memory import MEASURED
from hocket.host.nursery import AVAILABLE, Nursery
from hocket.host.supervisor import Ended, Fleet
from hocket.log import jetstream
from hocket.log.server import EmbeddedServer

LOADS_PER_S = (100, 400)
"""Events of the stream in a second: few, and about half of what two cores handle."""

ENDINGS = ("exits", *(("exhausts memory",) if MEASURED else ()))
TAKEOVERS = 5
PROBES_PER_S = 100
MOST = 10_000
"""More than are published until the first answer."""

CODE = """
from hocket.bench.poison_worker import mortal

agent = mortal()
"""
MANIFEST = f"""
name = "{MORTAL}"
instances = 2
memory_mib = 200
consumes = ["bench.dosed.v1"]
emits = ["bench.survived.v1"]
"""
"""All else is as for any service; so is how it is started again."""


@dataclass(frozen=True, slots=True)
class Ending:
    """One kind of poison under one load."""

    kind: str
    per_s: int
    events: int
    """Of the stream, before and again meanwhile."""

    ends: int
    """How often a process ended for the one poisoned event."""

    dead: int
    """Dead letters in the end."""

    before_p50_ms: float
    """Half of it before, and half of it after."""

    before_p99_ms: float
    during_p50_ms: float
    during_p99_ms: float
    during_most_ms: float

    @property
    def ratio(self) -> float:
        """The p99 while processes end, as a multiple of the one before."""
        return self.during_p99_ms / self.before_p99_ms


async def measure(loads_per_s: Sequence[int], *, sync: str, seconds: float, say: Say) -> list[Ending]:
    """Publish a steady stream for so many seconds, and again while one event on another key ends its process."""
    return [
        await _ending(kind, per_s, sync=sync, seconds=seconds, say=say) for per_s in loads_per_s for kind in ENDINGS
    ]


async def takeovers(*, sync: str, say: Say) -> list[float]:
    """Kill the owner of a stream again and again; return how long it took, in seconds, until the standby had committed
    the first answer to one of the events that were published after the kill.
    """

    async def publish(number: int) -> None:
        await bus.publish(Dosed(number=number), key=f"key-{number}")

    say(f"kill -9 of an owner that has a standby, {TAKEOVERS} times")
    took: list[float] = []
    async with _two(sync) as (fleet, bus, _), bus.subscribe(Survived) as survived:
        for n in range(TAKEOVERS):
            await _followed(fleet)
            owner = fleet.health.owner(MORTAL, 0, asyncio.get_running_loop().time())
            assert owner is not None, "it was heard a moment ago"
            [name] = [name for name, pid in fleet.pids.items() if pid == owner.pid]
            killed_s = perf_counter()
            fleet.kill(name)
            async with asyncio.timeout(ANSWER_S), beside(paced(publish, range(n * MOST, (n + 1) * MOST), PROBES_PER_S)):
                async for delivery in survived:
                    if delivery.envelope.data["number"] >= n * MOST:
                        break
            took.append(perf_counter() - killed_s)
    return took


async def _ending(kind: str, per_s: int, *, sync: str, seconds: float, say: Say) -> Ending:
    count = max(1, int(seconds * per_s))
    async with _two(sync) as (fleet, bus, ends):
        await stream(bus, range(per_s), per_s)  # warms up, and is not counted
        say(f"{count} events on {KEYS} keys, {per_s} a second")
        before = await stream(bus, range(count // 2), per_s)
        say(f"as many again, with one other that {kind}")
        await _followed(fleet)
        await bus.publish(Dosed(number=-1, kind=kind), key="poison")
        during = await stream(bus, range(count, 2 * count), per_s)
        dead = await dead_letters(bus, 1)
        await _followed(fleet)
        before += await stream(bus, range(count // 2, count), per_s)
    return Ending(
        kind=kind,
        per_s=per_s,
        events=count,
        ends=len(ends),
        dead=dead,
        before_p50_ms=quantile(before, 0.5) * 1000,
        before_p99_ms=quantile(before, 0.99) * 1000,
        during_p50_ms=quantile(during, 0.5) * 1000,
        during_p99_ms=quantile(during, 0.99) * 1000,
        during_most_ms=max(during) * 1000,
    )


@asynccontextmanager
async def _two(sync: str) -> AsyncIterator[tuple[Fleet, Bus, list[Ended]]]:
    """A service with two instances as `hocket up` keeps them, a bus, and the ends of its processes."""
    ends: list[Ended] = []
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hocket-bench-")))
        folder = root / MORTAL
        folder.mkdir()
        (folder / "agent.py").write_text(CODE)
        (folder / "agent.toml").write_text(MANIFEST)
        server = await stack.enter_async_context(EmbeddedServer(root / "log", sync=sync))
        nursery = await stack.enter_async_context(Nursery()) if AVAILABLE else None
        fleet = await stack.enter_async_context(
            Fleet(
                [folder],
                url=server.url,
                nursery=nursery,
                output=root / "output",
                tell=lambda change: ends.append(change) if isinstance(change, Ended) else None,
            )
        )
        logs = await stack.enter_async_context(jetstream.connect(server.url))
        bus = await stack.enter_async_context(open_bus(logs, publisher="bench"))
        await fleet.ready()
        await _followed(fleet)
        yield fleet, bus, ends


async def _followed(fleet: Fleet) -> None:
    """Wait until both instances are heard, one as owner and one standing by."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(ANSWER_S):
        while True:
            living = {
                card.pid: card.role for card in fleet.health.fresh(loop.time()) if card.pid in fleet.pids.values()
            }
            if len(living) == 2 and STANDBY in living.values() and not fleet.missing():
                return
            fleet.changed.clear()
            await fleet.changed.wait()


__all__ = ["ENDINGS", "LOADS_PER_S", "TAKEOVERS", "Ending", "measure", "takeovers"]
