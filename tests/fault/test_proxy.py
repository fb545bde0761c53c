"""Each fault of the proxy does to a real client and a real server what it says, and is over when it is."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from tests.contract.worlds import ROOM, reached, scanned, surely, taken, until
from tests.fault.frames import Frame, Frames, anonymous, is_ack, is_delivery
from tests.fault.proxy import Proxy, Way, proxied

from hocket.errors import ConsumerLost, OutcomeUnknown, Unavailable
from hocket.log.base import Expect, Write
from hocket.log.jetstream import JetStreamLog, connect


class Net:
    """A log behind a proxy, and the same log seen directly."""

    def __init__(self, proxy: Proxy, log: JetStreamLog, direct: JetStreamLog) -> None:
        self.proxy, self.log, self.direct = proxy, log, direct

    def write(self, i: int, data: bytes = b"") -> Write:
        subject = f"{self.log.domain}.0.a.{i}"
        return Write(subject, data, Expect(subject, 0))

    def batch(self, first: int) -> list[Write]:
        return [self.write(i) for i in range(first, first + 3)]

    async def stored(self) -> list[int]:
        """Which were stored, in log order, as a client sees it whose network is whole."""
        found = await scanned(self.direct, [f"{self.log.domain}.0.a.*"])
        return [int(message.subject.rpartition(".")[2]) for message in found]

    async def until_stored(self, wanted: list[int]) -> None:
        async def there() -> bool:
            return await self.stored() == wanted

        await until(there)


@asynccontextmanager
async def network(url: str, domain: str) -> AsyncIterator[Net]:
    async with (
        connect(url, domain=domain, max_bytes=ROOM) as [direct],
        proxied(url) as proxy,
        connect(proxy.url, domain=domain) as [log],
    ):
        yield Net(proxy, log, direct)


@pytest.fixture
async def net(nats_url: str, domain: str) -> AsyncIterator[Net]:
    async with network(nats_url, domain) as net:
        yield net


async def test_without_a_fault_all_passes(net: Net) -> None:
    await net.log.append([net.write(0, bytes(500_000))])
    await net.log.append([net.write(i, b"\r\nPUB a b 1\r\n") for i in range(1, 200)])

    found = await scanned(net.log, [f"{net.log.domain}.0.a.*"])

    assert [len(m.data) for m in found] == [500_000] + 199 * [13]
    assert net.proxy.connections == 1


async def test_delay_is_added_to_each_way_and_ends_with_the_block(net: Net) -> None:
    async with net.proxy.delayed(0.1, jitter_s=0.03):
        began_s = time.monotonic()
        await net.log.append([net.write(0)])
        slow_s = time.monotonic() - began_s
    began_s = time.monotonic()
    await net.log.append([net.write(1)])
    fast_s = time.monotonic() - began_s

    assert slow_s >= 2 * 0.07
    assert fast_s < slow_s


async def test_a_throttled_way_takes_its_time_over_bytes(net: Net) -> None:
    began_s = time.monotonic()
    async with net.proxy.throttled(200_000):
        await net.log.append([net.write(0, bytes(60_000))])
    took_s = time.monotonic() - began_s

    assert took_s >= 60_000 / 200_000


async def test_what_is_cut_on_its_way_to_the_server_may_come_late(net: Net) -> None:
    async with net.proxy.silent(Way.UP):
        with pytest.raises(OutcomeUnknown):
            await net.log.append([net.write(0)], timeout_s=0.2)
        assert await net.stored() == []

    await net.until_stored([0])


async def test_what_is_cut_on_its_way_back_is_stored_and_nobody_knows(net: Net) -> None:
    async with net.proxy.silent(Way.DOWN):
        with pytest.raises(OutcomeUnknown):
            await net.log.append([net.write(0)], timeout_s=0.2)
        assert await net.stored() == [0]

    assert await net.log.append([net.write(1)]) == 2


@pytest.mark.parametrize("how", ["hang_up", "reset"])
async def test_a_connection_that_ends_is_replaced(how: str, net: Net) -> None:
    await net.log.append([net.write(0)])

    getattr(net.proxy, how)()

    await surely(net.log, net.write(1))
    assert await net.stored() == [0, 1]
    assert net.proxy.connections >= 2


async def test_an_append_that_was_torn_is_not_stored(net: Net) -> None:
    strike = net.proxy.tear(Way.UP)

    with pytest.raises(OutcomeUnknown):
        await net.log.append([net.write(0, bytes(3000))])

    assert (await strike.landed()).data == bytes(3000)
    await surely(net.log, net.write(1))
    assert await net.stored() == [1]


async def test_a_torn_answer_leaves_the_outcome_unknown(net: Net) -> None:
    net.proxy.tear(Way.DOWN, is_ack)

    with pytest.raises(OutcomeUnknown):
        await net.log.append([net.write(0)])

    assert await net.stored() == [0]


@pytest.mark.parametrize("batch", [False, True])
async def test_one_ack_is_swallowed_and_the_next_is_not(batch: bool, net: Net) -> None:
    strike = net.proxy.swallow_ack(batch=batch)
    await net.log.append([net.write(0)] if batch else net.batch(0))

    with pytest.raises(OutcomeUnknown, match=r"the answer .* was lost"):  # long before there is no time left
        await net.log.append(net.batch(10) if batch else [net.write(10)], timeout_s=60)

    await net.log.append(net.batch(20) if batch else [net.write(20)])
    swallowed = await strike.landed()
    assert ("batch" in orjson.loads(swallowed.data)) == batch
    assert await net.stored() == ([0, 10, 11, 12, 20, 21, 22] if batch else [0, 1, 2, 10, 20])
    assert net.proxy.connections == 1, "nothing but the ack was lost"


async def test_only_the_ack_of_the_subject_that_was_named_is_swallowed(net: Net) -> None:
    net.proxy.swallow_ack(subject=".a.1")

    await net.log.append([net.write(0)])

    with pytest.raises(OutcomeUnknown):
        await net.log.append([net.write(1)], timeout_s=0.2)


async def test_a_strike_that_was_called_off_does_not_fall(net: Net) -> None:
    strike = net.proxy.swallow_ack()
    net.proxy.forget(strike)

    await net.log.append([net.write(0)])

    assert strike.frame is None


async def test_what_is_held_comes_when_it_is_released_and_the_rest_passes(net: Net) -> None:
    async with net.proxy.held(Way.DOWN, is_ack) as kept:
        waiting = asyncio.ensure_future(net.log.append([net.write(0)]))
        await kept.grown(1)
        assert await net.log.end() == 1, "what is no ack has to pass"
        assert not waiting.done()

    assert await waiting == 1


async def test_a_delivery_that_comes_twice_ends_the_reading(net: Net) -> None:
    await net.log.append(net.batch(0))
    strike = net.proxy.duplicate_delivery(lambda frame: is_delivery(frame) and frame.subject.endswith(".a.1"))

    async with net.log.consume("reader", [f"{net.log.domain}.0.a.*"], start=1) as consumption:
        with pytest.raises(ConsumerLost):
            await taken(consumption, 4)

    await strike.landed()


async def test_flapping_lets_appends_through_in_between(net: Net) -> None:
    done: list[int] = []
    async with net.proxy.flapping(down_s=0.05, up_s=0.3):
        while net.proxy.connections < 4:
            done.append(await surely(net.log, net.write(len(done))))
    await reached(done, 1)

    assert await net.stored() == list(range(len(done)))


async def test_who_is_cut_off_is_told_that_the_log_is_away(net: Net) -> None:
    async with net.proxy.cut_off():
        with pytest.raises((OutcomeUnknown, Unavailable)):  # unknown: it was sent before the end was seen
            await net.log.append([net.write(0)], timeout_s=0.3)
        with pytest.raises(Unavailable):
            await net.log.append([net.write(0)], timeout_s=0.3)

    await surely(net.log, net.write(1))
    assert await net.stored() == [1]


def test_frames_are_whole_however_they_arrive() -> None:
    head = b"NATS/1.0\r\nA: b\r\n\r\n"
    said = b"PING\r\nHPUB a.b inbox 18 23\r\n" + head + b"12\r\n5\r\nPUB c 0\r\n\r\n+OK\r\nMSG d 7 back 2\r\nhi\r\n"

    for size in range(1, len(said) + 1):
        cutter = Frames()
        found = [f for at in range(0, len(said), size) for f in cutter.of(said[at : at + size])]

        assert b"".join(frame.raw for frame in found) == said
        assert [(f.kind, f.subject, f.reply, f.head, f.data) for f in found] == [
            (b"PING", "", "", b"", b""),
            (b"HPUB", "a.b", "inbox", head, b"12\r\n5"),
            (b"PUB", "c", "", b"", b""),
            (b"+OK", "", "", b"", b""),
            (b"MSG", "d", "back", b"", b"hi"),
        ]


def test_a_server_does_not_tell_of_the_others() -> None:
    [info] = Frames().of(b'INFO {"max_payload":1024,"connect_urls":["127.0.0.1:4222"]}\r\n')

    told: Frame = anonymous(info)

    assert told.raw == b'INFO {"max_payload":1024}\r\n'
