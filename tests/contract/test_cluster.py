"""Three servers, three replicas, and a leader that dies under load."""

import asyncio
import itertools
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.contract.worlds import ROOM, scanned, until

from hocket.errors import Conflict, ConsumerLost, OutcomeUnknown, Unavailable
from hocket.log.base import Expect, Log, Write
from hocket.log.jetstream import JetStreamLog, connect
from hocket.log.server import Cluster

WRITERS = 4


class Chain:
    """One writer's chain: each append expects the one before, so a doubled or lost one would break it."""

    def __init__(self, log: Log, name: str) -> None:
        self.log = log
        self.head = f"{log.domain}.0.cur.{name}"
        self.prefix = f"{log.domain}.0.evt.{name}"
        self.acknowledged: list[int] = []
        self.unknown = 0
        self.longest_s = 0.0
        self._at = 0

    async def run(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        for i in itertools.count():
            if stop.is_set():
                return
            await self._extend(i)
            self.longest_s = max(self.longest_s, loop.time() - before_s)
            before_s = loop.time()
            self.acknowledged.append(i)

    async def _extend(self, i: int) -> None:
        fence = Expect(self.head, self._at)
        writes = [Write(f"{self.prefix}.{i}.{part}", b"%d" % i) for part in range(3)]
        group = [*writes, Write(self.head, b"%d" % i, fence)]
        while True:
            try:
                self._at = await self.log.append(group, timeout_s=5)
                return
            except Unavailable:
                continue
            except (OutcomeUnknown, Conflict) as doubt:
                self.unknown += isinstance(doubt, OutcomeUnknown)
                if await self._stored(i):
                    return

    async def _stored(self, i: int) -> bool:
        while True:
            try:
                head = await self.log.last(self.head)
            except Unavailable:
                continue
            if head and int(head.data) == i:
                self._at = head.seq
                return True
            return False


async def test_what_was_acknowledged_survives_the_leaders_death(tmp_path: Path, domain: str) -> None:
    async with (
        Cluster(tmp_path) as cluster,
        connect(cluster.url, domain=domain, replicas=3, max_bytes=ROOM, timeout_s=30) as [log],
    ):
        chains = [Chain(log, f"w{i}") for i in range(WRITERS)]
        stop = asyncio.Event()
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for chain in chains:
                tasks.create_task(chain.run(stop))
            await _longer_by(chains, 50)
            leader = await log.leader()
            assert leader
            await cluster.node(leader).kill()
            await _longer_by(chains, 50)
            await cluster.node(leader).restart()
            await _longer_by(chains, 20)
            stop.set()

        stall = f"longest wait {max(c.longest_s for c in chains):.1f} s, {sum(c.unknown for c in chains)} unknown"
        for chain in chains:
            messages = await scanned(log, [f"{chain.prefix}.>"])
            found = [int(message.data) for message in messages]
            links = len(chain.acknowledged)
            assert found[: 3 * links] == [i for i in range(links) for _ in range(3)], stall
            assert len(found) == 3 * links, stall


async def test_a_consumer_reads_on_after_the_leaders_death(tmp_path: Path, domain: str) -> None:
    async with (
        Cluster(tmp_path) as cluster,
        connect(cluster.url, domain=domain, replicas=3, max_bytes=ROOM, timeout_s=30) as [log],
    ):
        chain = Chain(log, "w")
        stop = asyncio.Event()
        read: list[int] = []
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_read(log, f"{chain.prefix}.>", read))
            writing = tasks.create_task(chain.run(stop))
            await _longer_by([chain], 50)
            leader = await log.leader()
            assert leader
            await cluster.node(leader).kill()
            await _longer_by([chain], 30)
            stop.set()
            await writing

            async def all_read() -> bool:
                return len(read) >= 3 * len(chain.acknowledged)

            await until(all_read)
            reading.cancel()

        stored = [m.seq for m in await scanned(log, [f"{chain.prefix}.>"])]
        assert read == stored


async def test_while_a_leader_stands_still_nobody_waits_for_an_answer_that_cannot_come(
    tmp_path: Path, domain: str
) -> None:
    async with (
        Cluster(tmp_path) as cluster,
        connect(cluster.url, domain=domain, replicas=3, max_bytes=ROOM, timeout_s=30) as [any_log],
        AsyncExitStack() as clients,
    ):
        leader = cluster.node(await any_log.leader() or "")
        other = next(node for node in cluster.nodes if node is not leader)
        [log] = await clients.enter_async_context(connect(other.url, domain=domain))
        await log.append([Write(f"{domain}.0.a.0", b"")])

        leader.pause()
        try:
            async with asyncio.timeout(30):
                with pytest.raises(OutcomeUnknown, match="another server leads"):
                    await log.append([Write(f"{domain}.0.a.1", b"")], timeout_s=60)
            await _takes_one(log, "first", patiently=True)  # whoever leads the cluster may be elected a little later
            for i in range(6):
                await _takes_one(log, f"reader-{i}")
        finally:
            leader.resume()


async def test_a_scan_on_any_server_sees_what_was_acknowledged_before(tmp_path: Path, domain: str) -> None:
    async with (
        Cluster(tmp_path) as cluster,
        connect(cluster.url, domain=domain, replicas=3, max_bytes=ROOM, timeout_s=30) as [log],
        AsyncExitStack() as clients,
    ):
        others = [(await clients.enter_async_context(connect(n.url, domain=domain)))[0] for n in cluster.nodes]

        for i in range(30):
            last = await log.append([Write(f"{domain}.0.a.{i}.{j}", b"") for j in range(5)])
            for other in others:
                assert [m.seq for m in await scanned(other, [f"{domain}.0.a.{i}.*"])] == list(range(last - 4, last + 1))


async def test_a_server_that_is_behind_is_not_believed_that_there_is_nothing(tmp_path: Path, domain: str) -> None:
    async with (
        Cluster(tmp_path) as cluster,
        connect(cluster.url, domain=domain, replicas=3, max_bytes=ROOM, timeout_s=30) as [any_log],
        AsyncExitStack() as clients,
    ):
        leader = cluster.node(await any_log.leader() or "")
        behind = next(node for node in cluster.nodes if node is not leader)
        [ahead] = await clients.enter_async_context(connect(leader.url, domain=domain))
        [log] = await clients.enter_async_context(connect(behind.url, domain=domain))
        for i in range(25):
            behind.pause()
            for j in range(40):
                await ahead.append([Write(f"{domain}.0.b.{i}.{j}.{k}", bytes(2000)) for k in range(20)])
            last = await ahead.append([Write(f"{domain}.0.a.{i}", b"")])
            asked = asyncio.create_task(scanned(log, [f"{domain}.0.a.{i}"]))
            await asyncio.sleep(0.02)  # it is asked before it can catch up
            behind.resume()

            assert [message.seq for message in await asked] == [last]


async def _takes_one(log: JetStreamLog, name: str, *, patiently: bool = False) -> None:
    """Read with a consumer that any of the servers may have to make."""
    while True:
        try:
            async with log.consume(name, [f"{log.domain}.0.a.*"], start=1) as consumption:
                assert await consumption.take(1)
            return
        except Unavailable:
            if not patiently:
                raise


async def _read(log: JetStreamLog, pattern: str, read: list[int]) -> None:
    """Read as an owner does: from the cursor on, and again after every loss."""
    while True:
        try:
            async with log.consume("reader", [pattern], start=read[-1] + 1 if read else 1) as consumption:
                while True:
                    read += [message.seq for message in await consumption.take(100)]
        except (ConsumerLost, Unavailable):
            continue


async def _longer_by(chains: list[Chain], links: int) -> None:
    """Wait until every chain has grown."""
    goals = [len(chain.acknowledged) + links for chain in chains]

    async def grown() -> bool:
        return all(len(c.acknowledged) >= goal for c, goal in zip(chains, goals, strict=True))

    await until(grown, within_s=40)
