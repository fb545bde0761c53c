"""What can go wrong: each kind strikes, lasts for as long as it does, and says whom it has hit and when it was over."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from tests.fault.campaign.crew import NAMES, Crew, Worker, chosen
from tests.fault.campaign.recorder import Recorder
from tests.fault.proxy import Proxy, Strike, Way

from hocket.errors import LogError, Unavailable
from hocket.log.jetstream import JetStreamLog
from hocket.log.server import EmbeddedServer
from hocket.saga.record import COORDINATOR

ALL = frozenset({*NAMES, "writers"})
EVERYBODY_S = 0.7
"""Between two kills of a rolling one."""

LANDED_S = 6.0
"""So long a strike waits for what it is to fall on."""

CLOCK_OFF_S = 7200.0

MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault that has struck."""

    what: str
    """On what, and for how long."""

    struck: frozenset[str]
    """Agents that were hit; `writers`: the clients."""

    since_s: float
    """The strike, or, of what lasted, its end: from here on recovery counts."""


@dataclass(slots=True)
class Field:
    """Who can be hit."""

    crew: Crew
    servers: Sequence[EmbeddedServer]
    log: JetStreamLog
    recorder: Recorder
    writers: Proxy
    outside: Callable[[signal.Signals], None]
    rng: random.Random

    def worker(self, agent: str | None = None) -> Worker:
        """Somebody; four times in five the owner of some agent."""
        agent = agent or self.rng.choice(NAMES)
        owner = self.crew.workers.get(self.recorder.worker_of.get(agent, ""))
        return owner if owner and self.rng.random() < 0.8 else chosen(self.crew.of(agent), self.rng)

    async def leader(self) -> EmbeddedServer:
        """The server that leads the stream."""
        try:
            name = await self.log.leader()
        except LogError:
            name = None  # nobody leads now: anybody will do
        return next((server for server in self.servers if server.name == name), self.servers[0])


Fault = Callable[[Field], Awaitable[Blow]]


async def kill_worker(field: Field) -> Blow:
    """Kill -9 a worker."""
    worker, at_s = field.worker(), time.time()
    worker.signal(signal.SIGKILL)
    return Blow(worker.name, frozenset({worker.agent}), at_s)


async def set_clock(field: Field) -> Blow:
    """Kill -9 a worker, and set its machine's clock by up to two hours; the other instance keeps its own."""
    worker, off_s, at_s = field.worker(), field.rng.uniform(-CLOCK_OFF_S, CLOCK_OFF_S), time.time()
    worker.set_clock(off_s)
    worker.signal(signal.SIGKILL)
    return Blow(f"{worker.name} by {off_s:+.0f} s", frozenset({worker.agent}), at_s)


async def stop_worker(field: Field) -> Blow:
    """SIGTERM."""
    worker, at_s = field.worker(), time.time()
    worker.signal(signal.SIGTERM)
    return Blow(worker.name, frozenset({worker.agent}), at_s)


async def pause_worker(field: Field) -> Blow:
    """SIGSTOP until another has taken over, then SIGCONT; recovery counts from the stop."""
    worker, lasts_s, at_s = field.worker(), field.rng.uniform(6.5, 9.0), time.time()
    worker.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(lasts_s)
    finally:
        worker.signal(signal.SIGCONT)
    return Blow(f"{worker.name} for {lasts_s:.1f} s", frozenset({worker.agent}), at_s)


async def blink_worker(field: Field) -> Blow:
    """SIGSTOP for shorter than the silence."""
    worker, lasts_s = field.worker(), field.rng.uniform(0.5, 3.5)
    worker.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(lasts_s)
    finally:
        worker.signal(signal.SIGCONT)
    return Blow(f"{worker.name} for {lasts_s:.1f} s", frozenset({worker.agent}), time.time())


async def kill_pair(field: Field) -> Blow:
    """Kill -9 both instances of an agent."""
    agent, at_s = field.rng.choice(NAMES[:-1]), time.time()
    for worker in field.crew.of(agent):
        worker.signal(signal.SIGKILL)
    return Blow(agent, frozenset({agent}), at_s)


async def kill_coordinators(field: Field) -> Blow:
    """Kill -9 every coordinator."""
    at_s = time.time()
    for worker in field.crew.of(COORDINATOR):
        worker.signal(signal.SIGKILL)
    return Blow(COORDINATOR, frozenset({COORDINATOR}), at_s)


async def roll(field: Field) -> Blow:
    """Kill -9 all workers, one after the other."""
    workers = list(field.crew.workers.values())
    field.rng.shuffle(workers)
    for worker in workers:
        worker.signal(signal.SIGKILL)
        await asyncio.sleep(EVERYBODY_S)
    return Blow("all workers", frozenset(NAMES), time.time())


async def _away(server: EmbeddedServer, lasts_s: float) -> None:
    await server.kill()
    await asyncio.sleep(lasts_s)
    for _ in range(3):
        try:
            await server.restart()
        except Unavailable:
            continue
        return
    await server.restart()


async def restart_server(field: Field) -> Blow:
    """Kill -9 the only server, and start it again."""
    await _away(field.servers[0], 0.0)
    return Blow(field.servers[0].name, ALL, time.time())


async def server_away(field: Field) -> Blow:
    """The same, some seconds later."""
    lasts_s = field.rng.uniform(1.0, 6.0)
    await _away(field.servers[0], lasts_s)
    return Blow(f"{field.servers[0].name} for {lasts_s:.1f} s", ALL, time.time())


async def _paused(server: EmbeddedServer, lasts_s: float) -> None:
    server.pause()
    try:
        await asyncio.sleep(lasts_s)
    finally:
        server.resume()


async def pause_server(field: Field) -> Blow:
    """SIGSTOP the only server."""
    lasts_s = field.rng.uniform(1.0, 8.0)
    await _paused(field.servers[0], lasts_s)
    return Blow(f"{field.servers[0].name} for {lasts_s:.1f} s", ALL, time.time())


async def kill_leader(field: Field) -> Blow:
    """Kill -9 the stream's leader; recovery counts from the kill."""
    server, at_s = await field.leader(), time.time()
    await _away(server, field.rng.uniform(0.0, 5.0))
    return Blow(server.name, ALL, at_s)


async def kill_follower(field: Field) -> Blow:
    """Kill -9 one that follows."""
    leader = await field.leader()
    server, at_s = field.rng.choice([each for each in field.servers if each is not leader]), time.time()
    await _away(server, field.rng.uniform(0.0, 5.0))
    return Blow(server.name, ALL, at_s)


async def pause_leader(field: Field) -> Blow:
    """SIGSTOP the stream's leader until another leads; recovery counts from the stop."""
    server, lasts_s, at_s = await field.leader(), field.rng.uniform(8.0, 15.0), time.time()
    await _paused(server, lasts_s)
    return Blow(f"{server.name} for {lasts_s:.1f} s", ALL, at_s)


async def pause_follower(field: Field) -> Blow:
    """SIGSTOP one that follows."""
    leader = await field.leader()
    server, at_s = field.rng.choice([each for each in field.servers if each is not leader]), time.time()
    lasts_s = field.rng.uniform(3.0, 10.0)
    await _paused(server, lasts_s)
    return Blow(f"{server.name} for {lasts_s:.1f} s", ALL, at_s)


async def roll_servers(field: Field) -> Blow:
    """Kill -9 one server after the other, each when the one before is back."""
    for server in field.servers:
        await _away(server, 0.5)
        await asyncio.sleep(3.0)
    return Blow("all servers", ALL, time.time())


async def lose_quorum(field: Field) -> Blow:
    """Kill -9 two of three servers, for some seconds."""
    lasts_s, two = field.rng.uniform(2.0, 6.0), field.rng.sample(list(field.servers), 2)
    async with asyncio.TaskGroup() as tasks:
        for server in two:
            tasks.create_task(_away(server, lasts_s))
    return Blow(f"{two[0].name} and {two[1].name} for {lasts_s:.1f} s", ALL, time.time())


async def pause_outside(field: Field) -> Blow:
    """SIGSTOP the world outside."""
    lasts_s = field.rng.uniform(1.0, 3.0)
    field.outside(signal.SIGSTOP)
    try:
        await asyncio.sleep(lasts_s)
    finally:
        field.outside(signal.SIGCONT)
    return Blow(f"for {lasts_s:.1f} s", frozenset({"north", "south"}), time.time())


def _network(field: Field) -> tuple[str, frozenset[str], Proxy]:
    """Somebody's network: a worker's, or that of the clients."""
    if field.rng.random() < 0.15:
        return "writers", frozenset({"writers"}), field.writers
    worker = field.worker()
    return worker.name, frozenset({worker.agent}), worker.proxy


Lasting = Callable[[Proxy, random.Random], AbstractAsyncContextManager[None]]


def lasting(make: Lasting, least_s: float, most_s: float) -> Fault:
    """A network is bad for a while."""

    async def strike(field: Field) -> Blow:
        name, struck, proxy = _network(field)
        lasts_s = field.rng.uniform(least_s, most_s)
        async with make(proxy, field.rng):
            await asyncio.sleep(lasts_s)
        return Blow(f"{name} for {lasts_s:.1f} s", struck, time.time())

    return strike


def falling(make: Callable[[Proxy], Strike]) -> Fault:
    """A network is bad once: on the next of what the strike is for."""

    async def strike(field: Field) -> Blow:
        name, struck, proxy = _network(field)
        wanted = make(proxy)
        try:
            await wanted.landed(LANDED_S)
        except TimeoutError:
            proxy.forget(wanted)
            return Blow(MISSED, struck, time.time())
        return Blow(name, struck, time.time())

    return strike


async def reset(field: Field) -> Blow:
    """Every connection of somebody is reset, in the middle of whatever is said."""
    name, struck, proxy = _network(field)
    at_s = time.time()
    proxy.reset()
    return Blow(name, struck, at_s)


@asynccontextmanager
async def one_way(proxy: Proxy, rng: random.Random) -> AsyncIterator[None]:
    """Nothing gets through one way."""
    async with proxy.silent(rng.choice(list(Way))):
        yield


EVERYWHERE: dict[str, Fault] = {
    "kill -9 a worker": kill_worker,
    "set a worker's clock": set_clock,
    "SIGTERM a worker": stop_worker,
    "SIGSTOP a worker past the silence": pause_worker,
    "SIGSTOP a worker for shorter": blink_worker,
    "kill -9 both of an agent": kill_pair,
    "kill -9 every coordinator": kill_coordinators,
    "rolling kill -9 of all workers": roll,
    "SIGSTOP the world outside": pause_outside,
    "cut a network": lasting(lambda proxy, rng: proxy.cut_off(), 1.0, 8.0),
    "cut one way": lasting(one_way, 2.0, 9.0),
    "delay 100 ± 50 ms": lasting(lambda proxy, rng: proxy.delayed(0.1, jitter_s=0.05), 3.0, 8.0),
    "throttle to 64 kB/s": lasting(lambda proxy, rng: proxy.throttled(64_000), 3.0, 8.0),
    "flapping": lasting(lambda proxy, rng: proxy.flapping(down_s=0.4, up_s=0.8), 3.0, 8.0),
    "reset": reset,
    "reset in mid-frame": falling(lambda proxy: proxy.tear(Way.UP)),
    "swallow an ack": falling(lambda proxy: proxy.swallow_ack()),
    "swallow a batch's ack": falling(lambda proxy: proxy.swallow_ack(batch=True)),
    "deliver twice": falling(lambda proxy: proxy.duplicate_delivery()),
}

ALONE: dict[str, Fault] = {
    "kill -9 the server, restart": restart_server,
    "kill -9 the server, restart later": server_away,
    "SIGSTOP the server": pause_server,
}

OF_THREE: dict[str, Fault] = {
    "kill -9 the stream leader": kill_leader,
    "kill -9 a follower": kill_follower,
    "SIGSTOP the stream leader": pause_leader,
    "SIGSTOP a follower": pause_follower,
    "rolling kill -9 of the servers": roll_servers,
    "kill -9 two of three servers": lose_quorum,
}

SERVER = frozenset({*ALONE, *OF_THREE})
"""After these it is looked at again whether what was acked is there."""

LONG = frozenset({"rolling kill -9 of all workers", "rolling kill -9 of the servers"})


def kinds(replicas: int, only: Sequence[str] = ()) -> dict[str, Fault]:
    """What can strike there."""
    found = EVERYWHERE | (ALONE if replicas == 1 else OF_THREE)

    def wanted(name: str) -> bool:
        return not only or any(part[1:] == name if part.startswith("=") else part in name for part in only)

    return {name: fault for name, fault in found.items() if wanted(name)}
