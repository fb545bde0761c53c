"""Services as processes behind networks that fail: lost acks, ways cut, slow lines, owners that speak too late."""

import asyncio
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.fault.frames import Frame, is_append
from tests.fault.proxy import Proxy, Way, proxied
from tests.fault.services import written
from tests.fault.test_kills import (
    COUNTER,
    MANIFEST,
    answers,
    fold,
    instance,
    order,
    states,
    until_all_finished,
    until_owner,
    until_standby,
)

from hocket.client import Bus, connect
from hocket.host import health
from hocket.log import jetstream
from hocket.log.base import Write
from hocket.observe.audit import audit

LONG = os.environ.get("HOCKET_NETWORK", "") == "long"
"""With the engine's own bounds rather than short ones, and for as long as the catalogue of faults says."""

LIMITS = "" if LONG else ", limits=Limits(append_s=1.0, silence_s=2.0, silence_at_start_s=0.5, heartbeat_s=0.3)"
IMPORT = "from hocket import Agent, Context, Event, Limits\n"
TAKEN_OVER_S = 12.0

STATELESS = f"""
{IMPORT}

class Ordered(Event, type="kill.ordered.v1"):
    n: int


class Counted(Event, type="kill.counted.v1"):
    n: int


counter = Agent("counter"{LIMITS})


@counter.on(Ordered)
async def count(event: Ordered, ctx: Context) -> Counted | None:
    return Counted(n=event.n) if event.n % 3 else None
"""


@pytest.fixture
def service(tmp_path: Path) -> Path:
    code = COUNTER.replace("from hocket import Agent, Context, Event\n", IMPORT)
    code = code.replace('Agent("counter"', f'Agent("counter"{LIMITS}')
    return written(tmp_path / "counter", code, MANIFEST)


class Crew:
    """Two instances of the counter, each behind a network of its own, and a client whose network is whole."""

    def __init__(self, bus: Bus, seen: health.Health) -> None:
        self.bus = bus
        self.seen = seen
        self.networks: dict[str, Proxy] = {}
        self.processes: dict[str, Process] = {}
        self.ordered = 0

    async def orders(self, count: int) -> None:
        """Order, and have it in the log."""
        first, self.ordered = self.ordered, self.ordered + count
        await asyncio.gather(*(order(self.bus, n) for n in range(first, self.ordered)))

    async def done(self) -> None:
        """Wait until all that was ordered is handled, and hold the log against the promises."""
        last = max([delivery.seq async for delivery in self.bus.read("kill.ordered.v1")])
        await until_all_finished(self.bus, last)
        assert await answers(self.bus) == [n for n in range(self.ordered) if n % 3]
        assert await states(self.bus) in ({}, await fold(self.bus))
        assert (await audit(self.bus, {"counter": ["kill.ordered.v1"]})).findings == ()


@asynccontextmanager
async def crew(service: Path, url: str, domain: str, *names: str, strike: str = "") -> AsyncIterator[Crew]:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect(url, domain=domain))
        seen = await stack.enter_async_context(health.listening(bus.logs))
        crew = Crew(bus, seen)
        for name in names:
            proxy = crew.networks[name] = await stack.enter_async_context(proxied(url))
            if strike:
                proxy.swallow_ack(subject=strike)
            crew.processes[name] = await stack.enter_async_context(instance(service, proxy.url, domain, name))
            if name == names[0]:
                await until_owner(seen, name, 30)
            else:
                await until_standby(seen, name)
        yield crew


@pytest.mark.parametrize("stateful", [True, False], ids=["a batch's", "a message's"])
async def test_an_event_whose_ack_was_lost_is_applied_once(
    stateful: bool, service: Path, nats_url: str, domain: str
) -> None:
    if not stateful:
        (service / "agent.py").write_text(STATELESS)
    async with crew(service, nats_url, domain, "one") as world:
        await world.orders(2)
        await world.done()

        strike = world.networks["one"].swallow_ack(batch=stateful, subject="" if stateful else ".evt.")
        await world.orders(1 if not stateful else 200)
        swallowed = await strike.landed()
        await world.orders(100)

        assert swallowed.answers is not None
        await world.done()


async def test_a_claim_whose_ack_was_lost_is_still_an_owners(service: Path, nats_url: str, domain: str) -> None:
    async with crew(service, nats_url, domain, "one", strike=".own.") as world:
        await world.orders(100)

        await world.done()


async def test_an_event_that_is_published_again_because_its_ack_was_lost_is_in_the_log_once(
    nats_url: str, domain: str
) -> None:
    async with (
        connect(nats_url, domain=domain) as direct,
        proxied(nats_url) as proxy,
        connect(proxy.url, domain=domain) as bus,
    ):
        strike = proxy.swallow_ack(subject=".evt.")

        receipt = await order(bus, 7)

        await strike.landed()
        assert [d.seq async for d in direct.read("kill.ordered.v1")] == [receipt.seq]


async def test_a_client_whose_connection_is_lost_goes_on_with_the_next_server(nats_url: str, domain: str) -> None:
    async with (
        proxied(nats_url) as one,
        proxied(nats_url) as other,
        jetstream.connect(f"{one.url},{other.url}", domain=domain) as [log],
    ):
        for _ in range(3):
            one.reset()
            other.reset()
            await log.end()

    assert (one.connections, other.connections) == (2, 2)


async def test_slow_lines_and_torn_messages_delay_and_lose_nothing(service: Path, nats_url: str, domain: str) -> None:
    async with crew(service, nats_url, domain, "one") as world:
        network = world.networks["one"]
        async with network.delayed(0.1, jitter_s=0.05), network.throttled(64_000):
            await world.orders(600 if LONG else 60)
            await world.done()
        for way in Way:
            strike = network.tear(way, lambda frame: frame.is_message and len(frame.raw) > 200)
            await world.orders(60)
            await strike.landed()
            await world.done()


async def test_reads_are_answered_while_a_backlog_comes_in_over_a_slow_line(nats_url: str, domain: str) -> None:
    async with (
        jetstream.connect(nats_url, domain=domain) as [direct],
        proxied(nats_url) as proxy,
        jetstream.connect(proxy.url, domain=domain) as [log],
    ):
        last = await direct.append([Write(f"{domain}.0.a.{i}", bytes(1000)) for i in range(600)])
        async with proxy.throttled(64_000), log.consume("reader", [f"{domain}.0.a.*"], start=1) as consumption:
            await consumption.take(1)

            found = await log.last(f"{domain}.0.a.599")

        assert found is not None
        assert found.seq == last


@pytest.mark.parametrize("way", Way if LONG else [Way.UP], ids=lambda way: way.value)
async def test_an_owner_whose_line_is_cut_one_way_is_replaced_and_harms_nothing_when_it_is_back(
    way: Way, service: Path, nats_url: str, domain: str
) -> None:
    async with crew(service, nats_url, domain, "first", "second") as world:
        await world.orders(50)

        began_s = time.monotonic()
        async with world.networks["first"].silent(way):
            await world.orders(100)
            await until_owner(world.seen, "second", 30)
            took_s = time.monotonic() - began_s
            await world.done()
        await world.orders(50)

        await world.done()
        assert took_s <= TAKEN_OVER_S


async def test_an_owner_on_a_flapping_line_gets_its_work_done(service: Path, nats_url: str, domain: str) -> None:
    async with crew(service, nats_url, domain, "one") as world:
        network = world.networks["one"]
        async with network.flapping(down_s=0.2, up_s=1.0):
            for _ in range(20 if LONG else 2):
                await world.orders(50)
                reached = network.connections + 1
                async with asyncio.timeout(20):
                    while network.connections < reached:  # noqa: ASYNC110 - it is the line that is waited for
                        await asyncio.sleep(0.02)

        await world.done()


@pytest.mark.skipif(not LONG, reason="with short bounds a stopped owner on a busy machine may give up before it writes")
async def test_what_a_stopped_owner_commits_when_it_goes_on_is_refused(
    service: Path, nats_url: str, domain: str
) -> None:
    async with crew(service, nats_url, domain, "first", "second") as world:
        network, zombie = world.networks["first"], world.processes["first"]
        assert zombie.stderr is not None
        await world.orders(50)
        await world.done()
        refused = network.notice(Way.DOWN, is_refused)

        zombie.send_signal(signal.SIGSTOP)
        async with network.held(Way.DOWN, tells_of_another):
            await world.orders(100)
            await until_owner(world.seen, "second", TAKEN_OVER_S)
            zombie.send_signal(signal.SIGCONT)
            await refused.landed()
            async with asyncio.timeout(60):
                while b"fenced" not in await zombie.stderr.readline():
                    pass
        await world.orders(50)

        await world.done()
        assert zombie.returncode is None


async def test_what_an_owner_committed_long_ago_and_the_network_delivers_late_is_refused(
    service: Path, nats_url: str, domain: str
) -> None:
    async with crew(service, nats_url, domain, "first", "second") as world:
        network = world.networks["first"]
        await world.orders(50)
        await world.done()

        async with network.held(Way.UP, is_append) as kept:
            await world.orders(100)
            await kept.grown(1)
            await until_owner(world.seen, "second", 30)
            await world.done()
            before = len(kept.frames)
            refused = network.notice(Way.DOWN, is_refused)
        await refused.landed()

        assert before >= 1
        await world.orders(50)
        await world.done()


def tells_of_another(frame: Frame) -> bool:
    """What an owner must not hear, so that nothing but the fence is left to stop it.

    Heartbeats, its consumer's end, and what it is told when it looks whether its consumer was changed.
    """
    return ".hb." in frame.subject or frame.head.startswith(b"NATS/1.0 409") or b"consumer_info_response" in frame.raw


def is_refused(frame: Frame) -> bool:
    """Whether the log refuses an append over what was expected, or a batch that has lost its time."""
    return frame.answers is not None and (b'"err_code":10071' in frame.data or b'"err_code":10176' in frame.data)
