"""What reading promises: the newest of a subject, scans without holes or doubles, and live talk."""

import asyncio
from contextlib import aclosing

from tests.contract.worlds import World, scanned

from hocket.log.base import Message, Write


async def fill(world: World, *tails: str) -> None:
    for tail in tails:
        await world.log.append([Write(world.subject(tail), tail.encode())])


async def test_the_newest_message_of_an_unknown_subject_is_none(world: World) -> None:
    await fill(world, "a.b")

    assert await world.log.last(world.subject("a")) is None
    assert await world.log.last(world.subject("a.b.c")) is None


async def test_another_client_reads_what_was_appended(world: World) -> None:
    other = await world.connect()
    await fill(world, "a", "b")

    newest = await other.last(world.subject("b"))

    assert newest
    assert (newest.seq, newest.data) == (2, b"b")
    assert newest.time_ns > 1_700_000_000 * 10**9
    assert await other.end() == 2


async def test_a_scan_yields_what_matches_in_log_order(world: World) -> None:
    await fill(world, "a.1", "b.1", "a.2", "c.1", "b.2.x", "a.3")

    found = await scanned(world.log, [world.subject("a.*"), world.subject("b.>")])

    assert [m.data for m in found] == [b"a.1", b"b.1", b"a.2", b"b.2.x", b"a.3"]
    assert [m.seq for m in found] == [1, 2, 3, 5, 6]


async def test_a_scan_begins_at_a_sequence(world: World) -> None:
    await fill(world, *(f"a.{i}" for i in range(1, 8)))

    assert [m.seq for m in await scanned(world.log, [world.subject("a.*")], start=5)] == [5, 6, 7]
    assert [m.seq for m in await scanned(world.log, [world.subject("a.*")], start=7)] == [7]
    assert await scanned(world.log, [world.subject("a.*")], start=8) == []
    assert await scanned(world.log, [world.subject("a.*")], start=1000) == []


async def test_a_scan_that_matches_nothing_ends_at_once(world: World) -> None:
    await fill(world, "a.1")

    async with asyncio.timeout(0.8):
        assert await scanned(world.log, [world.subject("b.>"), world.subject("c")]) == []


async def test_a_long_scan_is_complete(world: World) -> None:
    for i in range(3):
        await world.log.append([Write(world.subject(f"a.{i}.{j}"), bytes(100)) for j in range(1000)])

    found = await scanned(world.log, [world.subject("a.>")], start=11)

    assert [m.seq for m in found] == list(range(11, 3001))


async def test_a_scan_of_large_messages_is_complete(world: World) -> None:
    for i in range(24):
        await world.log.append([Write(world.subject(f"a.{i}"), bytes(900_000))])

    found = await scanned(world.log, [world.subject("a.>")])

    assert [(m.seq, len(m.data)) for m in found] == [(i, 900_000) for i in range(1, 25)]


async def test_a_scan_ends_with_what_was_there_when_it_began(world: World) -> None:
    await fill(world, *(f"a.{i}" for i in range(1, 600)))

    found: list[Message] = []
    async with asyncio.timeout(10), aclosing(world.log.scan([world.subject("a.*")])) as messages:
        async for message in messages:
            found.append(message)
            if len(found) % 100 == 1:
                await fill(world, f"a.more{len(found)}")

    assert [m.seq for m in found] == list(range(1, 600))


async def test_a_scan_ends_though_its_last_message_is_overwritten_meanwhile(world: World) -> None:
    await fill(world, *(f"a.{i}" for i in range(1, 2000)))

    found: list[Message] = []
    async with asyncio.timeout(10), aclosing(world.log.scan([world.subject("a.*")])) as messages:
        async for message in messages:
            if not found:
                await fill(world, "a.1999")
            found.append(message)

    assert [m.seq for m in found][:-1] == list(range(1, 1999))[: len(found) - 1]
    assert found[-1].seq in (1998, 1999)


async def test_following_goes_on_with_what_is_appended(world: World) -> None:
    await fill(world, "a.1", "b.1")

    found: list[Message] = []
    async with asyncio.timeout(10), aclosing(world.log.scan([world.subject("a.*")], follow=True)) as messages:
        async for message in messages:
            found.append(message)
            if len(found) == 4:
                break
            await fill(world, "b.2", f"a.{len(found) + 1}")

    assert [m.data for m in found] == [b"a.1", b"a.2", b"a.3", b"a.4"]


async def test_following_an_empty_log_waits(world: World) -> None:
    other = await world.connect()

    async with asyncio.timeout(10), aclosing(other.scan([world.subject("a.*")], follow=True)) as messages:
        coming = asyncio.ensure_future(anext(messages))
        await fill(world, "b.1", "a.1")
        first = await coming

    assert first.seq == 2


async def test_who_listens_hears_what_is_told(world: World) -> None:
    other = await world.connect()

    async with asyncio.timeout(10), other.listen(world.subject("hb.*")) as heard:
        await world.log.tell(world.subject("hb.a"), b"1")
        await world.log.tell(world.subject("live.a"), b"not this")
        await world.log.tell(world.subject("hb.b"), b"2")
        first, second = await anext(heard), await anext(heard)

    assert [(m.subject, m.data) for m in (first, second)] == [
        (world.subject("hb.a"), b"1"),
        (world.subject("hb.b"), b"2"),
    ]


async def test_telling_nobody_is_no_error(world: World) -> None:
    await world.log.tell(world.subject("hb.a"), b"1")

    async with asyncio.timeout(10), world.log.listen(world.subject("hb.a")) as heard:
        await world.log.tell(world.subject("hb.a"), b"2")
        first = await anext(heard)

    assert first.data == b"2"


async def test_a_slow_listener_loses_the_oldest(world: World) -> None:
    async with asyncio.timeout(10), world.log.listen(world.subject("live.>")) as heard:
        for i in range(1500):
            await world.log.tell(world.subject("live.a"), b"%d" % i)
        async with world.log.listen(world.subject("end")) as end:
            await world.log.tell(world.subject("end"), b"")
            await anext(end)
        kept = [await anext(heard) for _ in range(1024)]

    assert [m.data for m in kept] == [b"%d" % i for i in range(1500 - 1024, 1500)]


async def test_the_log_tells_the_time_that_it_stamps_messages_with(world: World) -> None:
    first_s = await world.log.time_s()
    await fill(world, "a")
    last_s = await world.log.time_s()

    [stored] = await scanned(world.log, [world.subject("a")])

    assert first_s - 1e-6 <= stored.time_ns / 1e9 <= last_s + 1e-6
