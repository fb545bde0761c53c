"""What a durable consumer promises: deliveries in log order, each once, or ConsumerLost."""

import asyncio

import pytest
from tests.contract.worlds import World, taken

from hocket.errors import ConsumerLost
from hocket.log.base import Write


async def fill(world: World, *tails: str) -> None:
    await world.log.append([Write(world.subject(tail), tail.encode()) for tail in tails])


async def test_deliveries_come_in_log_order_from_the_start_asked_for(world: World) -> None:
    await fill(world, *(f"{kind}.{i}" for i in range(400) for kind in ("a", "b")))
    await fill(world, *(f"c.{i}" for i in range(900)))

    async with world.log.consume("reader", [world.subject("a.*"), world.subject("c.*")], start=5) as consumption:
        got = await taken(consumption, 398 + 900)

    assert [m.seq for m in got] == [*range(5, 801, 2), *range(801, 1701)]
    assert [m.data for m in got[:2]] == [b"a.2", b"a.3"]


async def test_taking_waits_for_the_next_message(world: World) -> None:
    async with world.log.consume("reader", [world.subject("a.*")], start=1) as consumption:
        coming = asyncio.ensure_future(taken(consumption, 1))
        await fill(world, "b.1", "a.1", "b.2")
        [first] = await coming
        await fill(world, "a.2")
        [second] = await taken(consumption, 1)

    assert (first.seq, second.seq) == (2, 4)


async def test_taking_returns_no_more_than_asked_for(world: World) -> None:
    await fill(world, *(f"a.{i}" for i in range(10)))

    async with world.log.consume("reader", [world.subject("a.*")], start=1) as consumption:
        sizes: list[int] = []
        while sum(sizes) < 10:
            sizes.append(len(await consumption.take(3)))

    assert max(sizes) <= 3


async def test_a_consumer_starts_again_at_an_older_position(world: World) -> None:
    await fill(world, *(f"a.{i}" for i in range(10)))
    async with world.log.consume("reader", [world.subject("a.*")], start=1) as consumption:
        await consumption.ack((await taken(consumption, 10))[-1].seq)

    async with world.log.consume("reader", [world.subject("a.*")], start=3) as consumption:
        again = await taken(consumption, 8)

    assert [m.seq for m in again] == list(range(3, 11))


async def test_a_consumer_may_start_beyond_the_end(world: World) -> None:
    await fill(world, "a.1", "a.2")

    async with world.log.consume("reader", [world.subject("a.*")], start=3) as consumption:
        await fill(world, "a.3")
        [first] = await taken(consumption, 1)

    assert first.seq == 3


async def test_a_consumer_may_change_what_it_reads(world: World) -> None:
    await fill(world, "a.1", "b.1", "c.1")
    async with world.log.consume("reader", [world.subject("a.*")], start=1) as consumption:
        await taken(consumption, 1)

    async with world.log.consume("reader", [world.subject("b.*"), world.subject("c.*")], start=1) as consumption:
        got = await taken(consumption, 2)

    assert [m.data for m in got] == [b"b.1", b"c.1"]


async def test_acknowledging_lets_a_reader_take_more_than_may_be_pending(world: World) -> None:
    for i in range(21):
        await fill(world, *(f"a.{i}.{j}" for j in range(1000)))

    async with world.log.consume("reader", [world.subject("a.>")], start=1) as consumption:
        for i in range(21):
            await consumption.ack((await taken(consumption, 1000))[-1].seq)
            assert (await world.log.end()) == 21_000, i


async def test_a_second_reader_takes_over(world: World) -> None:
    await fill(world, "a.1", "a.2")
    other = await world.connect()

    async with world.log.consume("reader", [world.subject("a.*")], start=1) as first:
        await taken(first, 2)
        async with other.consume("reader", [world.subject("a.*")], start=2) as second:
            await fill(world, "a.3", "a.4")
            got = await taken(second, 3)
            with pytest.raises(ConsumerLost):
                await taken(first, 3)

    assert [m.seq for m in got] == [2, 3, 4]


async def test_readers_of_different_names_do_not_disturb_each_other(world: World) -> None:
    async with (
        world.log.consume("one", [world.subject("a.*")], start=1) as one,
        world.log.consume("two", [world.subject("a.*")], start=1) as two,
    ):
        await fill(world, "a.1", "a.2")

        assert [m.seq for m in await taken(one, 2)] == [1, 2]
        assert [m.seq for m in await taken(two, 2)] == [1, 2]


async def test_a_deleted_consumer_is_lost_and_can_be_made_again(world: World) -> None:
    await fill(world, "a.1")
    async with world.log.consume("reader", [world.subject("a.*")], start=1) as consumption:
        await taken(consumption, 1)
        waiting = asyncio.ensure_future(consumption.take(1))
        await world.delete_consumer("reader")

        async with asyncio.timeout(5):
            with pytest.raises(ConsumerLost):
                await waiting
        with pytest.raises(ConsumerLost):
            await consumption.take(1)

    async with world.log.consume("reader", [world.subject("a.*")], start=1) as consumption:
        assert len(await taken(consumption, 1)) == 1


async def test_a_reader_can_be_told_how_much_waits_for_it(world: World) -> None:
    async with world.log.consume("reader", [world.subject("a.*")], start=1) as consumption:
        await fill(world, *(f"a.{i}" for i in range(5)), "b.1")
        await taken(consumption, 2)
        await fill(world, "a.5", "a.6")
        pending = await consumption.pending()

    assert pending == 5


async def test_a_consumer_tells_how_far_it_has_come(world: World) -> None:
    await fill(world, "a.1", "b.1", "a.2", "b.2")
    unknown = await world.log.handed_out("reader")
    async with world.log.consume("reader", [world.subject("a.*")], start=2) as consumption:
        await taken(consumption, 1)
        read = await world.log.handed_out("reader")
    await fill(world, "a.3", "b.3")
    left = await world.log.handed_out("reader")

    async with world.log.consume("reader", [world.subject("a.*")], start=9):
        made_anew = await world.log.handed_out("reader")

    assert (unknown, read, left, made_anew) == (None, 3, 3, 8)
