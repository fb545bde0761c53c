"""What a log promises when its server stands still, dies and comes back."""

import asyncio
import time
from contextlib import aclosing

import pytest
from tests.contract.worlds import World, reached, scanned, surely, taken, until

from hocket.errors import ConsumerLost, OutcomeUnknown, Unavailable
from hocket.log.base import Consumption, Expect, Log, Write


def once(world: World, i: int) -> Write:
    subject = world.subject(f"a.{i}")
    return Write(subject, b"%d" % i, Expect(subject, 0))


@pytest.mark.parametrize("count", [1, 3])
async def test_an_append_without_an_answer_has_an_unknown_outcome(own_world: World, count: int) -> None:
    await own_world.log.append([once(own_world, 0)])
    group = [once(own_world, i) for i in range(1, count + 1)]

    began_s = time.monotonic()
    async with own_world.unanswered():
        with pytest.raises(OutcomeUnknown):
            await own_world.log.append(group, timeout_s=0.3)
        took_s = time.monotonic() - began_s

    assert took_s < 1.5

    async def decided() -> bool:
        return await own_world.log.end() == 1 + count

    await until(decided)
    assert [m.data for m in await scanned(own_world.log, [own_world.subject(">")])] == [
        b"%d" % i for i in range(count + 1)
    ]


async def test_a_log_that_is_away_is_unavailable_within_the_deadline(own_world: World) -> None:
    await own_world.log.append([once(own_world, 0)])
    await own_world.crash()

    began_s = time.monotonic()
    with pytest.raises((Unavailable, OutcomeUnknown)):
        await own_world.log.append([once(own_world, 1)], timeout_s=0.5)
    with pytest.raises(Unavailable):
        await own_world.log.append([once(own_world, 1)], timeout_s=0.5)
    took_s = time.monotonic() - began_s

    assert took_s < 3
    await own_world.recover()
    assert await surely(own_world.log, once(own_world, 1)) == 2


async def test_nothing_acknowledged_is_lost_when_the_server_dies(own_world: World) -> None:
    promised: dict[str, int] = {}

    async def write(writer: int) -> None:
        for i in range(40):
            write = once(own_world, writer * 1000 + i)
            promised[write.subject] = await surely(own_world.log, write)

    async with asyncio.TaskGroup() as writers:
        for writer in range(4):
            writers.create_task(write(writer))
        for some in (30, 80, 120):
            await reached(promised, some)
            await own_world.crash()
            await own_world.recover()

    found = {m.subject: m.seq for m in await scanned(own_world.log, [own_world.subject(">")])}
    assert found == promised
    assert sorted(found.values()) == list(range(1, 161))


async def test_batches_are_whole_or_absent_after_the_server_dies(own_world: World) -> None:
    acknowledged: set[int] = set()

    async def write() -> None:
        for batch in range(60):
            group = [once(own_world, batch * 100 + i) for i in range(20)]
            try:
                await own_world.log.append(group, timeout_s=5)
            except (OutcomeUnknown, Unavailable):
                continue
            acknowledged.add(batch)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        for some in (10, 30):
            await reached(acknowledged, some)
            await own_world.crash()
            await own_world.recover()

    sizes: dict[int, int] = {}
    for message in await _readable(own_world.log, own_world.subject(">")):
        sizes[int(message) // 100] = sizes.get(int(message) // 100, 0) + 1
    assert set(sizes.values()) == {20}
    assert acknowledged <= set(sizes)
    assert len(acknowledged) >= 50


async def _readable(log: Log, pattern: str) -> list[bytes]:
    while True:
        try:
            return [m.data for m in await scanned(log, [pattern])]
        except Unavailable:
            await asyncio.sleep(0.01)


async def test_a_consumer_is_lost_when_the_server_dies_and_can_be_made_again(own_world: World) -> None:
    await own_world.log.append([once(own_world, i) for i in range(10)])
    async with own_world.log.consume("reader", [own_world.subject("a.*")], start=1) as consumption:
        await consumption.ack((await taken(consumption, 5))[-1].seq)
        await own_world.crash()

        async with asyncio.timeout(5):
            with pytest.raises(ConsumerLost):
                await _forever(consumption)

    await own_world.recover()
    async with own_world.log.consume("reader", [own_world.subject("a.*")], start=6) as consumption:
        assert [m.seq for m in await taken(consumption, 5)] == [6, 7, 8, 9, 10]


async def _forever(consumption: Consumption) -> None:
    while True:
        await consumption.take(1)


async def test_following_goes_on_when_the_server_dies(own_world: World) -> None:
    followed: list[int] = []

    async def follow() -> None:
        async with aclosing(own_world.log.scan([own_world.subject("a.*")], follow=True)) as messages:
            async for message in messages:
                followed.append(message.seq)
                if len(followed) == 300:
                    return

    async def write() -> None:
        for i in range(300):
            await surely(own_world.log, once(own_world, i))

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(follow())
        tasks.create_task(write())
        for some in (50, 150):
            await reached(followed, some)
            await own_world.crash()
            await own_world.recover()

    assert followed == list(range(1, 301))


async def test_listening_goes_on_when_the_server_dies(own_world: World) -> None:
    async with own_world.log.listen(own_world.subject("hb.*")) as heard:
        await own_world.crash()
        await own_world.recover()
        await surely(own_world.log, once(own_world, 0))

        await own_world.log.tell(own_world.subject("hb.a"), b"1")

        async with asyncio.timeout(5):
            assert (await anext(heard)).data == b"1"
