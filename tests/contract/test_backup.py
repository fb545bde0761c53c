"""A copy is the log as of one sequence, however much is overwritten while it is taken."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from hocket.errors import FileUnwritable, NeverQuiet
from hocket.log.base import Message, Seq, Whole, Write
from hocket.log.jetstream import connect
from hocket.log.memory import Faults, MemoryLog, MemoryServer
from hocket.storage.backup import back_up
from hocket.storage.checking import check, messages_of
from hocket.storage.line import Stored

RECORDS = 60
LONG = bool(os.environ.get("HOCKET_BACKUP_LOAD"))
"""By hand: many more messages, for some minutes."""

BEFORE = 30_000 if LONG else 100

ROOM = 1 << (30 if LONG else 26)


@asynccontextmanager
async def opened(kind: str, url: str, domain: str, shards: int) -> AsyncIterator[Sequence[Whole]]:
    if kind == "memory":
        yield [MemoryServer(domain=domain, shard=shard).connect() for shard in range(shards)]
        return
    async with connect(url, domain=domain, shards=shards, max_bytes=ROOM) as logs:
        yield logs


class Writer:
    """Overwrites records and adds facts in appends of some messages, and knows what the log was at each sequence."""

    def __init__(self, log: Whole) -> None:
        self.log = log
        self.stored: list[tuple[int, str, bytes]] = []
        self.ends: set[int] = {0}
        self.n = 0

    async def write(self) -> None:
        n, root = self.n, f"{self.log.domain}.{self.log.shard}"
        self.n += 1
        writes = [
            Write(f"{root}.cur.ada", b"%d" % n),
            Write(f"{root}.act.ada.k{n % RECORDS}", b"%d" % n),
            Write(
                f"{root}.evt.some=2Etype=2Ev1.k{n % RECORDS}.ada.c{n}.0", b"%d" % n, headers={"Content-Type": "text/x"}
            ),
        ]
        last = await self.log.append(writes[: n % 3 + 1])
        for i, write in enumerate(writes[: n % 3 + 1]):
            self.stored.append((last - n % 3 + i, write.subject, write.data))
        self.ends.add(last)

    def as_of(self, end: int) -> dict[str, tuple[int, bytes]]:
        return {subject: (seq, data) for seq, subject, data in sorted(self.stored) if seq <= end}


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def newest(copied: Sequence[Stored], shard: int) -> dict[str, tuple[int, bytes]]:
    return {s.message.subject: (s.message.seq, s.message.data) for s in copied if s.shard == shard}


@pytest.mark.parametrize("kind", ["memory", "jetstream"])
async def test_a_copy_taken_under_load_is_the_log_as_of_the_end_of_an_append(
    kind: str, nats_url: str, domain: str, tmp_path: Path
) -> None:
    async with opened(kind, nats_url, domain, 1) as [log]:
        writer = Writer(log)
        for _ in range(BEFORE):
            await writer.write()

        taken = asyncio.Event()

        async def load() -> None:
            while not taken.is_set():
                await writer.write()
                await asyncio.sleep(0.001)

        async with asyncio.TaskGroup() as group:
            group.create_task(load())
            backup = await back_up([log], tmp_path / "copy.jsonl")
            taken.set()

    assert backup.ends[0] in writer.ends
    assert newest(list(messages_of(tmp_path / "copy.jsonl")), 0) == writer.as_of(backup.ends[0])
    assert check(tmp_path / "copy.jsonl", digest=backup.digest).sound


@pytest.mark.parametrize("kind", ["memory", "jetstream"])
async def test_no_shard_is_copied_behind_what_another_has_caused(
    kind: str, nats_url: str, domain: str, tmp_path: Path
) -> None:
    async with opened(kind, nats_url, domain, 2) as logs:
        writers = [Writer(log) for log in logs]
        taken = asyncio.Event()

        async def load() -> None:
            while not taken.is_set():
                for writer in writers:
                    await writer.write()
                await asyncio.sleep(0.001)

        async with asyncio.TaskGroup() as group:
            group.create_task(load())
            await asyncio.sleep(0.1)
            backup = await back_up(logs, tmp_path / "copy.jsonl.gz")
            taken.set()

    copied = list(messages_of(tmp_path / "copy.jsonl.gz"))
    steps = [int(newest(copied, shard)[f"{domain}.{shard}.cur.ada"][1]) for shard in (0, 1)]
    assert steps[0] - steps[1] in (0, 1)
    assert [newest(copied, i) for i in (0, 1)] == [writers[i].as_of(backup.ends[i]) for i in (0, 1)]


@pytest.mark.parametrize("kind", ["memory", "jetstream"])
async def test_a_copy_keeps_headers_times_and_how_long_something_is_kept(
    kind: str, nats_url: str, domain: str, tmp_path: Path
) -> None:
    async with opened(kind, nats_url, domain, 1) as [log]:
        where = f"{domain}.0.evt.a=2Ev1.k.ada.c.0"
        await log.append([Write(where, b"\xff", ttl=timedelta(hours=2), headers={"Content-Type": "text/x"})])
        [message] = [m async for m in log.scan([where])]

        await back_up([log], tmp_path / "copy.jsonl")

    [stored] = messages_of(tmp_path / "copy.jsonl")
    assert stored == Stored(0, Message(where, Seq(1), b"\xff", message.time_ns, message.headers), timedelta(hours=2))


async def test_what_is_forgotten_while_a_copy_is_taken_does_not_bring_back_what_it_had_replaced(
    domain: str, tmp_path: Path
) -> None:
    clock = _Clock()
    server = MemoryServer(domain=domain, clock=clock)
    log = server.connect()
    for n in range(3000):
        await log.append([Write(f"{domain}.0.run.ada.k{n}.r", b"open")])

    def end_a_run(progress: object) -> None:
        # Read already, and over: its tombstone is gone again before the reader comes to where it stood.
        server.store([Write(f"{domain}.0.run.ada.k5.r", b"", ttl=timedelta(seconds=1))])

    async def forget() -> None:
        for _ in range(200):
            await asyncio.sleep(0)
            clock.at_s += 0.02

    async with asyncio.TaskGroup() as group:
        group.create_task(forget())
        await back_up([log], tmp_path / "copy.jsonl", clock=clock, told=end_a_run)

    assert newest(list(messages_of(tmp_path / "copy.jsonl")), 0)[f"{domain}.0.run.ada.k5.r"][1] == b""


async def test_where_nothing_can_be_written_no_file_is_left(domain: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(FileUnwritable, match="cannot be written"):
        await back_up([MemoryServer(domain=domain).connect()], tmp_path / "file" / "copy.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
async def test_a_full_disk_is_said_and_leaves_nothing(domain: str, tmp_path: Path) -> None:
    server = MemoryServer(domain=domain)
    writer = Writer(server.connect())
    for _ in range(500):
        await writer.write()
    (tmp_path / ".copy.jsonl.part").symlink_to("/dev/full")

    with pytest.raises(FileUnwritable, match="No space left"):
        await back_up([server.connect()], tmp_path / "copy.jsonl")

    assert files_in(tmp_path) == []


async def test_a_log_that_never_stands_still_is_not_copied(domain: str, tmp_path: Path) -> None:
    busy = _Busy(MemoryServer(domain=domain))

    with pytest.raises(NeverQuiet):
        await back_up([busy], tmp_path / "copy.jsonl", quiet_wait_s=0.1)

    assert files_in(tmp_path) == []


class _Busy(MemoryLog):
    """A log in which something was stored whenever somebody asks how far it goes."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(server, Faults())

    async def end(self) -> Seq:
        return self.server.store([Write(f"{self.domain}.0.cur.ada", b"{}")])


class _Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at_s = 1e9

    def now_s(self) -> float:
        return self.at_s
