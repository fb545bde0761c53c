"""What is restored has its old sequences, headers and times, and what was forgotten stays so."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from hocket.clock import LoopClock
from hocket.errors import DomainInUse, TopologyMismatch
from hocket.log.base import Whole, Write
from hocket.log.jetstream import connect
from hocket.log.memory import MemoryServer
from hocket.log.renewal import Room, renewal
from hocket.storage.backup import back_up
from hocket.storage.checking import check, messages_of
from hocket.storage.line import Stored
from hocket.storage.restore import require_idle, restore
from hocket.testing import run_virtual

ROOM = Room(1 << 26)


@asynccontextmanager
async def opened(kind: str, url: str, domain: str) -> AsyncIterator[list[Whole]]:
    if kind == "memory":
        yield [MemoryServer(domain=domain, shard=shard).connect() for shard in range(2)]
        return
    async with connect(url, domain=domain, shards=2, max_bytes=ROOM.max_bytes) as logs:
        yield list(logs)


@asynccontextmanager
async def brought_back(kind: str, url: str, path: Path) -> AsyncIterator[list[Whole]]:
    """The logs after a restore in the place of what was there."""
    checked = check(path)
    firsts = [first or end + 1 for first, end in zip(checked.firsts, checked.ends, strict=True)]
    if kind == "memory":
        servers = [MemoryServer(domain=checked.domain, shard=shard) for shard in range(checked.shards)]
        for server, first in zip(servers, firsts, strict=True):
            server.begin_at(first)
        await restore(messages_of(path), checked.ends, [server.connect() for server in servers])
        yield [server.connect() for server in servers]
        return
    async with renewal(url, checked.domain) as renewed:
        logs = await renewed.begin(firsts, ROOM)
        await restore(messages_of(path), checked.ends, logs)
        await renewed.open(checked.shards, ROOM)
    async with connect(url, domain=checked.domain, create=False) as logs:
        yield list(logs)


async def work(log: Whole) -> None:
    """Leaves gaps, a record that was overwritten, one that is forgotten soon, and bytes that are no text."""
    root = f"{log.domain}.{log.shard}"
    for n in range(7):
        await log.append([Write(f"{root}.cur.ada", b"%d" % n), Write(f"{root}.act.ada.k", b"%d" % n)])
        if n % 3 == 0:
            await log.append([Write(f"{root}.evt.a=2Ev1.k.ada.c{n}.0", b"\xff", headers={"Content-Type": "text/x"})])
    await log.append([Write(f"{root}.evt.a=2Ev1.k.ada.kept.0", b"{}", ttl=timedelta(hours=1))])
    await log.append([Write(f"{root}.cur.ada", b"end")])


async def contents(logs: list[Whole]) -> list[Stored]:
    return [
        Stored(log.shard, message)
        for log in logs
        async for message in log.scan([f"{log.domain}.{log.shard}.>"])
        if not message.subject.endswith(".gap")
    ]


def comparable(found: list[Stored]) -> list[tuple[object, ...]]:
    return [
        (s.shard, m.subject, m.seq, m.data, m.time_ns, m.headers.get("Content-Type"))
        for s in found
        for m in [s.message]
    ]


@pytest.mark.parametrize("kind", ["memory", "jetstream"])
async def test_every_message_has_its_old_sequence_and_time_and_the_next_one_follows(
    kind: str, nats_url: str, domain: str, tmp_path: Path
) -> None:
    async with opened(kind, nats_url, domain) as logs:
        await work(logs[0])
        before = await contents(logs)
        end = await logs[0].end()
        await back_up(logs, tmp_path / "copy.jsonl")

    async with brought_back(kind, nats_url, tmp_path / "copy.jsonl") as logs:
        assert comparable(await contents(logs)) == comparable(before)
        assert await logs[0].append([Write(f"{domain}.0.cur.ada", b"next")]) == end + 1
        assert await logs[1].append([Write(f"{domain}.1.cur.ada", b"first")]) == 1


@pytest.mark.parametrize("kind", ["memory", "jetstream"])
async def test_a_copy_of_what_was_restored_says_the_same_as_the_first(
    kind: str, nats_url: str, domain: str, tmp_path: Path
) -> None:
    async with opened(kind, nats_url, domain) as logs:
        await work(logs[0])
        await back_up(logs, tmp_path / "first.jsonl")

    async with brought_back(kind, nats_url, tmp_path / "first.jsonl") as logs:
        await back_up(logs, tmp_path / "second.jsonl")

    first, second = (list(messages_of(tmp_path / f"{name}.jsonl")) for name in ("first", "second"))
    second = [s for s in second if not s.message.subject.endswith(".gap")]
    assert comparable(first) == comparable(second)
    [ttl] = [s.ttl for s in second if s.ttl]
    assert abs(ttl - timedelta(hours=1)) < timedelta(seconds=60)


def test_what_has_run_out_stays_forgotten_and_so_does_what_it_had_replaced(domain: str, tmp_path: Path) -> None:
    run, event = f"{domain}.0.run.ada.k.r", f"{domain}.0.evt.a=2Ev1.k.ada.c.0"

    async def story() -> tuple[int, object, object, int]:
        clock = LoopClock()
        log = MemoryServer(domain=domain, clock=clock).connect()
        await log.append([Write(run, b"open"), Write(event, b"{}", ttl=timedelta(seconds=10))])

        def end_the_run(progress: object) -> None:
            if len(log.server.history) == 2:
                log.server.store([Write(run, b"", ttl=timedelta(seconds=10))])

        await back_up([log], tmp_path / "copy.jsonl", clock=clock, told=end_the_run)
        clock.advance(3600)
        server = MemoryServer(domain=domain, clock=clock)
        restored = await restore(messages_of(tmp_path / "copy.jsonl"), [3], [server.connect()])
        return restored.expired, server.newest(run), server.newest(event), server.end

    assert run_virtual(story()) == (2, None, None, 3)


async def test_nobody_uses_a_domain_whose_restore_has_not_come_to_its_end(
    nats_url: str, domain: str, tmp_path: Path
) -> None:
    async with opened("jetstream", nats_url, domain) as logs:
        await work(logs[0])
        await back_up(logs, tmp_path / "copy.jsonl")

    async with renewal(nats_url, domain) as renewed:
        with pytest.raises(DomainInUse, match="holds 6 messages"):
            renewed.require_empty()
        await renewed.begin([2, 1], ROOM)

    with pytest.raises(TopologyMismatch, match="restore"):
        async with connect(nats_url, domain=domain):
            pass
    async with renewal(nats_url, domain) as renewed:
        renewed.require_empty()
    async with brought_back("jetstream", nats_url, tmp_path / "copy.jsonl") as logs:
        assert await contents(logs)


async def test_nothing_is_restored_while_an_agent_is_heard(nats_url: str, domain: str) -> None:
    async with opened("jetstream", nats_url, domain) as logs, renewal(nats_url, domain) as renewed:
        await require_idle(renewed.logs(1), listen_s=0.05)

        async with asyncio.TaskGroup() as group:
            asking = group.create_task(_refused(renewed.logs(1)))
            while not asking.done():
                await logs[1].tell(f"{domain}.hb.ada.1", b"{}")
                await asyncio.sleep(0.01)

    assert asking.result() == f"agent ada is at work in domain {domain!r}: stop it first"


async def _refused(logs: Sequence[Whole]) -> str:
    with pytest.raises(DomainInUse) as refused:
        await require_idle(logs)
    return str(refused.value)
