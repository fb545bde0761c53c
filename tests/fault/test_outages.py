"""Servers that die, stand still or lose their quorum, with services as processes at work on them."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.contract.worlds import ROOM
from tests.fault.services import written
from tests.fault.test_kills import COUNTER, MANIFEST, order, until_all_finished
from tests.fault.test_network import IMPORT, LIMITS, LONG, Crew, crew

from hocket.errors import HocketError, OutcomeUnknown, Unavailable
from hocket.log import jetstream
from hocket.log.server import Cluster, EmbeddedServer
from hocket_schemas.envelope import Envelope

AFTER_RESTART_S = 5.0
"""From the restart of the only server until an event is stored and handled again."""

ELECTION_S = 12.0
"""The same, from the death of one server of three."""

ANSWER_S = 5.0
GRACE_S = 1.5
DRAINED_S = 60.0
QUORUM_LOST_S = 20.0 if LONG else 3.0

_META_LEADER = re.compile(r"new metadata leader: (\w+)")


@pytest.fixture
def service(tmp_path: Path) -> Path:
    code = COUNTER.replace("from hocket import Agent, Context, Event\n", IMPORT)
    return written(tmp_path / "counter", code.replace('Agent("counter"', f'Agent("counter"{LIMITS}'), MANIFEST)


async def works_again(world: Crew) -> float:
    """Have one more event stored and handled; return how long that took, in seconds."""
    began_s = time.monotonic()
    number, world.ordered = world.ordered, world.ordered + 1
    receipt = await order(world.bus, number)
    await until_all_finished(world.bus, receipt.seq)
    return time.monotonic() - began_s


async def test_the_only_server_is_killed_and_work_goes_on_when_it_is_back(
    service: Path, domain: str, tmp_path: Path
) -> None:
    async with EmbeddedServer(tmp_path / "store") as server, crew(service, server.url, domain, "one") as world:
        for _ in range(10 if LONG else 2):
            await world.orders(20)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(world.orders(200))
                await server.kill()
                await asyncio.sleep(QUORUM_LOST_S if LONG else 0)
                await server.restart()
                back_s = time.monotonic()
                await works_again(world)
                stall_s = time.monotonic() - back_s
            assert stall_s <= AFTER_RESTART_S

        await world.done()


@asynccontextmanager
async def three(
    service: Path, domain: str, tmp_path: Path
) -> AsyncIterator[tuple[Cluster, Crew, jetstream.JetStreamLog]]:
    """Three servers with three replicas, and a service that has begun to work."""
    async with (
        Cluster(tmp_path / "cluster") as cluster,
        jetstream.connect(cluster.url, domain=domain, replicas=3, max_bytes=ROOM, timeout_s=30) as [log],
        crew(service, cluster.url, domain, "one") as world,
    ):
        await world.orders(50)
        yield cluster, world, log


async def stream_leader(cluster: Cluster, log: jetstream.JetStreamLog) -> EmbeddedServer:
    found = await log.leader()
    assert found
    return cluster.node(found)


def meta_leader(cluster: Cluster) -> EmbeddedServer:
    """The server that leads the cluster, as the others have noted last."""
    told = [line for node in cluster.nodes for line in node.log_file.read_text().splitlines()]
    [*_, newest] = sorted(line[line.index("] ") :] for line in told if _META_LEADER.search(line))
    found = _META_LEADER.search(newest)
    assert found
    return cluster.node(found[1])


@pytest.mark.skipif(not LONG, reason="an election takes ten seconds")
async def test_the_leader_of_the_cluster_is_killed_and_work_goes_on(service: Path, domain: str, tmp_path: Path) -> None:
    async with three(service, domain, tmp_path) as (cluster, world, _):
        leader = meta_leader(cluster)

        await leader.kill()
        stall_s = await works_again(world)
        await leader.restart()

        await world.orders(50)
        await world.done()
        assert stall_s <= ELECTION_S


@pytest.mark.skipif(not LONG, reason="tests/contract/test_cluster.py kills the stream's leader under its writers")
async def test_the_leader_of_the_stream_is_killed_and_work_goes_on(service: Path, domain: str, tmp_path: Path) -> None:
    async with three(service, domain, tmp_path) as (cluster, world, log):
        for _ in range(3):
            leader = await stream_leader(cluster, log)
            await leader.kill()
            stall_s = await works_again(world)
            await leader.restart()
            await world.orders(50)
            assert stall_s <= ELECTION_S

        await world.done()


@pytest.mark.skipif(not LONG, reason="takes 15 s of standing still")
async def test_the_leader_of_the_stream_stands_still_and_the_clients_move(
    service: Path, domain: str, tmp_path: Path
) -> None:
    async with three(service, domain, tmp_path) as (cluster, world, log):
        leader = await stream_leader(cluster, log)
        began_s = time.monotonic()
        leader.pause()
        try:
            stall_s = await works_again(world)
            await world.orders(50)
            await asyncio.sleep(max(0.0, began_s + 15 - time.monotonic()))
        finally:
            leader.resume()

        await world.orders(50)
        await world.done()
        assert stall_s <= ELECTION_S


async def test_without_a_quorum_nothing_is_acked_and_it_is_said_in_time(
    service: Path, domain: str, tmp_path: Path
) -> None:
    async with three(service, domain, tmp_path) as (cluster, world, log):
        leader = await stream_leader(cluster, log)
        lost = [node for node in cluster.nodes if node is not leader]
        told: list[tuple[HocketError, float]] = []
        asked: list[Envelope] = []

        await asyncio.gather(*(node.kill() for node in lost))
        end_s = time.monotonic() + QUORUM_LOST_S
        while time.monotonic() < end_s:
            number, world.ordered = world.ordered, world.ordered + 1
            asked.append(Envelope(f"order-{number}", "/test", "kill.ordered.v1", {"n": number}, partitionkey="key-0"))
            began_s = time.monotonic()
            with pytest.raises((Unavailable, OutcomeUnknown)) as refused:
                await world.bus.publish_envelope(asked[-1], timeout_s=ANSWER_S if LONG else 1.0)
            told.append((refused.value, time.monotonic() - began_s))
        await asyncio.gather(*(node.restart() for node in lost))
        healed_s = time.monotonic()

        for envelope in asked:
            await world.bus.publish_envelope(envelope, timeout_s=DRAINED_S)
        await world.orders(50)
        await world.done()
        assert max(took_s for _, took_s in told) <= ANSWER_S + GRACE_S
        assert time.monotonic() - healed_s <= DRAINED_S
