"""The bus as publishers, readers and askers see it, on the twin."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from hocket import Agent
from hocket.client import Bus, Start, open_bus
from hocket.clock import LoopClock
from hocket.errors import NotFound, OutcomeUnknown, StorageFull, Unavailable, UsageError
from hocket.log.memory import Faults, MemoryServer
from hocket.subjects import shard_of
from hocket.testing import Bed, run_virtual
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()


class Said(Event, type="client.said.v1", catalog=EVENTS):
    n: int


class Heard(Event, type="client.heard.v1", catalog=EVENTS):
    n: int


async def numbers(bus: Bus, **how: Any) -> list[int]:
    return [delivery.envelope.data["n"] async for delivery in bus.read(Said, **how)]


async def fill(bus: Bus) -> None:
    for n in range(100):
        await bus.publish(Said(n=n), key="k")


def test_publishing_again_under_the_same_id_adds_nothing() -> None:
    async def story() -> tuple[list[bool], list[int]]:
        async with Bed() as bed:
            receipts = [await bed.bus.publish(Said(n=1), key="k", event_id="order-1") for _ in range(3)]
            assert len({receipt.seq for receipt in receipts}) == 1
            return [receipt.duplicate for receipt in receipts], await numbers(bed.bus)

    assert run_virtual(story()) == ([False, True, True], [1])


def test_one_duplicate_among_many_does_not_keep_the_others_out() -> None:
    async def story() -> list[bool]:
        async with Bed() as bed:
            await bed.bus.publish(Said(n=3), key="k", event_id="order-3")
            publishing = (bed.bus.publish(Said(n=n), key="k", event_id=f"order-{n}") for n in range(8))
            receipts = await asyncio.gather(*publishing)
            assert sorted(await numbers(bed.bus)) == list(range(8))
            return [receipt.duplicate for receipt in receipts]

    assert run_virtual(story()) == [n == 3 for n in range(8)]


@pytest.mark.parametrize("fault", ["lose_answer", "lose_request", "late"])
def test_an_answer_that_is_lost_does_not_double_the_event(fault: str) -> None:
    async def story() -> list[int]:
        server = MemoryServer(clock=LoopClock())
        faulty = server.connect(Faults(**{fault: 0.4}))
        async with open_bus([faulty]) as bus:
            for n in range(20):
                await bus.publish(Said(n=n), key="k", timeout_s=600)
            await asyncio.sleep(60)
            return await numbers(bus)

    assert run_virtual(story()) == list(range(20))


def test_a_log_that_is_away_is_said_to_be_away_in_time() -> None:
    async def story() -> None:
        server = MemoryServer(clock=LoopClock())
        async with open_bus([server.connect()]) as bus:
            server.stop()
            async with asyncio.timeout(6):
                with pytest.raises(Unavailable):
                    await bus.publish(Said(n=1), timeout_s=5)

    run_virtual(story())


def test_an_event_that_may_be_stored_is_not_said_to_be_missing_because_the_log_is_away_later() -> None:
    async def story() -> list[int]:
        server, faults = MemoryServer(clock=LoopClock()), Faults(lose_answer=1.0)
        async with open_bus([server.connect(faults)]) as bus, asyncio.TaskGroup() as tasks:
            publishing = tasks.create_task(refusal(bus))
            await asyncio.sleep(1)
            server.stop()
            assert isinstance(await publishing, OutcomeUnknown)
            server.start()
            faults.lose_answer = 0.0
            return await numbers(bus)

    async def refusal(bus: Bus) -> Unavailable | OutcomeUnknown | None:
        try:
            await bus.publish(Said(n=1), timeout_s=12)
        except (Unavailable, OutcomeUnknown) as error:
            return error
        return None

    assert run_virtual(story()) == [1]


def test_a_full_log_is_said_to_be_full_and_keeps_what_it_has() -> None:
    async def story() -> list[int]:
        server = MemoryServer(clock=LoopClock(), bytes_max=2000)
        async with open_bus([server.connect()]) as bus:
            with pytest.raises(StorageFull):
                await fill(bus)
            return await numbers(bus)

    kept = run_virtual(story())

    assert kept == list(range(len(kept)))
    assert 0 < len(kept) < 100


def test_a_subscriber_gets_everything_from_where_it_began_without_a_gap() -> None:
    async def story() -> list[list[int]]:
        async with Bed() as bed:
            first = await bed.bus.publish(Said(n=0), key="k")
            await bed.bus.publish(Said(n=1), key="k")
            got: list[list[int]] = []
            starts: list[Start] = ["start", "live", int(first.seq) + 1]
            for start in starts:
                async with bed.bus.subscribe(Said, key="k", start=start) as deliveries:
                    await bed.bus.publish(Said(n=9), key="k")
                    await bed.bus.publish(Said(n=9), key="other")
                    heard: list[int] = []
                    async for delivery in deliveries:
                        heard.append(delivery.envelope.data["n"])
                        if heard[-1] == 9 and heard.count(9) == (await numbers(bed.bus, key="k")).count(9):
                            break
                        if start == "live":
                            break
                    got.append(heard)
            return got

    assert run_virtual(story()) == [[0, 1, 9], [9], [1, 9, 9, 9]]


def test_whoever_asks_gets_the_answer_of_its_own_saga() -> None:
    agent = Agent("echo")

    @agent.on(Said)
    async def hear(event: Said) -> Heard:
        return Heard(n=event.n)

    async def story() -> list[int]:
        async with Bed(agent, server=MemoryServer(clock=LoopClock())) as bed:
            answers = await asyncio.gather(*(bed.bus.ask(Said(n=n), reply=Heard) for n in range(5)))
            return [answer.envelope.data["n"] for answer in answers]

    assert run_virtual(story()) == list(range(5))


def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_said() -> None:
    async def story() -> list[int]:
        async with Bed(server=MemoryServer(clock=LoopClock())) as bed:
            with pytest.raises(TimeoutError):
                await bed.bus.ask(Said(n=1), reply=Heard, timeout_s=30)
            return await numbers(bed.bus)

    assert run_virtual(story()) == [1]


def test_keys_are_spread_over_shards_and_found_again() -> None:
    async def story() -> tuple[set[int], list[int]]:
        servers = [MemoryServer(shard=shard, clock=LoopClock()) for shard in range(4)]
        async with open_bus([server.connect() for server in servers]) as bus:
            receipts = [await bus.publish(Said(n=n), key=f"key-{n}") for n in range(40)]
            assert all(receipt.shard == shard_of(receipt.key, 4) for receipt in receipts)
            with pytest.raises(NotFound, match="a sequence names a place in one shard"):
                async with bus.subscribe(start=3):
                    pass
            return {receipt.shard for receipt in receipts}, await numbers(bus, key="key-7")

    assert run_virtual(story()) == ({0, 1, 2, 3}, [7])


def test_the_same_event_published_by_two_at_once_is_there_once() -> None:
    async def story() -> tuple[list[bool], list[int]]:
        async with Bed() as bed:
            same = [bed.bus.publish(Said(n=1), key="k", event_id="order-1") for _ in range(3)]
            receipts = await asyncio.gather(*same, bed.bus.publish(Said(n=2), key="k"))
            return [receipt.duplicate for receipt in receipts], await numbers(bed.bus)

    duplicates, found = run_virtual(story())

    assert duplicates == [False, True, True, False]
    assert found == [1, 2]


def test_an_event_that_no_log_takes_is_refused_alone() -> None:
    async def story() -> tuple[list[Any], list[int]]:
        async with Bed() as bed:
            bad = Envelope(id="bad", source="/test", type=Said.event_type, partitionkey="k", data={"n": 1})
            told = await asyncio.gather(
                bed.bus.publish_envelope(bad, retention=timedelta(milliseconds=1500)),
                bed.bus.publish(Said(n=2), key="k"),
                return_exceptions=True,
            )
            return told, await numbers(bed.bus)

    told, found = run_virtual(story())

    assert isinstance(told[0], UsageError)
    assert found == [2]


async def test_an_error_of_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_bus([MemoryServer().connect()]) as bus, bus.subscribe():
            1 / 0  # noqa: B018 - the error is what is wanted
