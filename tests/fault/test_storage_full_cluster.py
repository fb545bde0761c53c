"""One of three servers has no room on its disk: the others go on, and nothing that was acknowledged is missing."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.contract.worlds import ROOM
from tests.fault.disks import Disk, group, mounted
from tests.fault.test_outages import ELECTION_S, stream_leader

from hocket.errors import LogError
from hocket.log import jetstream
from hocket.log.base import Log
from hocket.log.server import Cluster

SIZE = 3
APPENDS = 300
"""Ten times as much as has room on the full disk."""


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[dict[str, Disk]]:
    with ExitStack() as stack:
        found = {}
        for name in ("n1", "n2", "n3"):
            root = tmp_path / "cluster" / name
            root.mkdir(parents=True)
            found[name] = stack.enter_context(mounted(root))
        yield found


class Writer:
    """Appends one group after the other, and keeps what it was told."""

    def __init__(self, log: Log, domain: str) -> None:
        self.log = log
        self.domain = domain
        self.acked: set[int] = set()
        self.unknown: dict[int, str] = {}
        self.number = 0
        self.longest_s = 0.0
        """Between two acknowledgements."""

    async def write(self, count: int) -> None:
        acked_s, last = time.monotonic(), self.number + count
        async with asyncio.timeout(60):
            while self.number < last:
                self.number += 1
                try:
                    await self.log.append(group(self.domain, self.number, SIZE))
                except LogError as error:
                    self.unknown[self.number] = repr(error)
                    last += 1
                    continue
                self.acked.add(self.number)
                self.longest_s = max(self.longest_s, time.monotonic() - acked_s)
                acked_s = time.monotonic()

    async def stored(self) -> dict[int, int]:
        found: dict[int, int] = {}
        async for message in self.log.scan([f"{self.domain}.0.a.>"]):
            number = int(message.subject.split(".")[3])
            found[number] = found.get(number, 0) + 1
        return found


@pytest.mark.parametrize("of", ["the leader", "another"])
async def test_one_full_disk_of_three_stops_nobody_and_loses_nothing(
    of: str, disks: dict[str, Disk], tmp_path: Path, domain: str
) -> None:
    async with (
        Cluster(tmp_path / "cluster") as cluster,
        jetstream.connect(cluster.url, domain=domain, replicas=3, max_bytes=ROOM, timeout_s=30) as [log],
    ):
        writer = Writer(log, domain)
        await writer.write(20)
        leader = await stream_leader(cluster, log)
        full = next(node for node in cluster.nodes if (node is leader) == (of == "the leader"))
        disks[full.name].leave(1 << 16)

        await writer.write(APPENDS)

        room = disks[full.name].room()
        disks[full.name].grow()
        await full.restart()
        await writer.write(20)
        stored = await writer.stored()

    assert room < 1 << 14, "its disk was never full, so nothing was proved"
    assert writer.acked <= stored.keys(), "what was acknowledged is there"
    assert stored.keys() <= writer.acked | writer.unknown.keys()
    assert set(stored.values()) == {SIZE}, "no half of a batch"
    assert writer.longest_s <= ELECTION_S
