"""Requests are read once by each process, and before it has to take over where there is time for that."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from hocket import Agent, Limits
from hocket.beside import beside
from hocket.clock import LoopClock
from hocket.crashpoints import pass_by
from hocket.engine import requests as requests_module
from hocket.engine.commit import Committer
from hocket.engine.cursor import Cursor, Mark
from hocket.engine.requests import Digest, Requests, patterns
from hocket.engine.transition import Tenure
from hocket.errors import Unavailable
from hocket.host.crew import running
from hocket.log.base import Message, Write
from hocket.log.memory import MemoryLog, MemoryServer
from hocket.subjects import address
from hocket.testing import Bed, run_virtual
from hocket_schemas.cancels import CancelRequested
from hocket_schemas.event import Catalog, Event
from hocket_schemas.holds import HoldPlaced

EVENTS = Catalog()


class Given(Event, type="requests.given.v1", catalog=EVENTS):
    n: int


class Taken(Event, type="requests.taken.v1", catalog=EVENTS):
    n: int


def test_a_standby_that_takes_over_knows_the_requests_and_reads_only_the_newer_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent, starts, reading = Agent("heeds"), list[int](), asyncio.Event()

    @agent.on(Given)
    async def take(event: Given) -> Taken:
        return Taken(n=event.n)

    async def story() -> tuple[int, list[int]]:
        server = MemoryServer(clock=LoopClock())
        async with Bed(server=server) as bed, asyncio.timeout(100):
            bed.agents = (agent,)
            log = server.connect()
            scan = log.scan

            async def watched(filters: Sequence[str], **options: Any) -> AsyncGenerator[Message, None]:
                if list(filters) == patterns(bed.names) and not options.get("follow"):
                    starts.append(options["start"])
                    reading.set()
                async for message in scan(filters, **options):
                    yield message

            monkeypatch.setattr(log, "scan", watched)
            first, second = bed.crew_on(server.connect(), agent), bed.crew_on(log, agent)
            async with beside(first.run()):
                await first.owning()
                old = [await cancelled(bed, f"s-{n}") for n in range(50)]
                async with beside(second.run()):
                    await reading.wait()
                    await cancelled(bed, "s-50")
                    first.drain()
                    await second.owning()
                    for n in (7, 50, 51):
                        await bed.publish(Given(n=n), key=f"k-{n}", saga=f"s-{n}")
                    await bed.quiet()
                    return old[-1], [taken.n for taken in bed.events(Taken)]

    last, taken = run_virtual(story())

    assert starts[0] == 1
    assert starts[-1] > last
    assert taken == [51]


def test_of_another_log_nothing_is_known() -> None:
    async def story() -> list[list[str]]:
        found = []
        async with Bed() as first, Bed() as second:
            await cancelled(first, "s-1")
            await cancelled(first, "s-2")
            await cancelled(second, "s-3")
            moving = Moving(first.server.connect())
            requests = Requests(moving, first.names, "heeds")
            for bed in (first, second):
                moving.now = bed.server.connect()
                await requests.read(await moving.now.end())
                found.append([cancel.scope[1] for cancel in requests.cancels])
        return found

    assert run_virtual(story()) == [["s-1", "s-2"], ["s-3"]]


@pytest.mark.parametrize("damaged", [None, 0, 1, 2])
def test_digests_tell_the_same_as_the_requests_whichever_of_them_is_missing(
    damaged: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_module, "DIGEST_MIN", 3)
    monkeypatch.setattr(requests_module, "DIGEST_MAX", 7)
    agent = Agent("heeds")

    async def lives(bed: Bed, cancels: range, *digests: int) -> None:
        """One process that finds new requests, and another one that follows it; then there are such digests."""
        for n in cancels:
            await cancelled(bed, f"s-{n}")
        async with running(bed.crew(agent)):
            await bed.quiet()
        async with running(bed.crew(agent)):
            while tuple(told(bed)) != digests:
                await bed.server.changed()

    def told(bed: Bed) -> list[int]:
        """Of how many requests each digest tells."""
        found = bed.server.since(1, [bed.names.digests("heeds")], 100)
        by_number = sorted((message.subject, message.data) for message in found)
        return [len(Digest.from_json(data).cancels) for _, data in by_number]

    async def story() -> tuple[Requests, Requests]:
        async with Bed() as bed, asyncio.timeout(100):
            bed.agents = (agent,)
            await lives(bed, range(4), 4)
            await lives(bed, range(4, 6), 4)
            await lives(bed, range(6, 20), 7, 7, 6)
            await lives(bed, range(20, 25), 7, 7, 7, 4)
            if damaged is not None:
                bed.server.store([Write(bed.names.digest("heeds", damaged), b"")])
            log = bed.server.connect()
            digested, read = Requests(log, bed.names, "heeds"), Requests(log, bed.names, "another")
            for each in (digested, read):
                await each.read(bed.server.end)
            return digested, read

    digested, read = run_virtual(story())

    assert [(each.seq, each.id, each.scope, each.until_s) for each in digested.cancels] == [
        (each.seq, each.id, each.scope, each.until_s) for each in read.cancels
    ]
    recalled = [str(each) == f"cancelled by request {each.id}" for each in digested.cancels]
    assert recalled.count(True) == (25 if damaged is None else 18)
    assert len(read.cancels) == 25


def test_what_a_digest_tells_of_stays_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests_module, "DIGEST_MIN", 2)
    agent = Agent("heeds")

    @agent.on(Given)
    async def take(event: Given) -> Taken:
        return Taken(n=event.n)

    async def story() -> list[int]:
        async with Bed() as bed:
            bed.agents = (agent,)
            for n in range(3):
                await cancelled(bed, f"s-{n}")
            for _ in range(3):
                async with running(bed.crew()):
                    await bed.quiet()
            assert bed.server.newest(bed.names.digest("heeds", 0)) is not None
            for n in (1, 7):
                await bed.publish(Given(n=n), key=f"k-{n}", saga=f"s-{n}")
            async with running(bed.crew()):
                await bed.quiet()
            return [taken.n for taken in bed.events(Taken)]

    assert run_virtual(story()) == [7]


def test_a_digest_tells_of_no_request_that_the_cursor_has_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests_module, "DIGEST_MIN", 1)

    async def story() -> tuple[list[int], list[int]]:
        async with Bed() as bed:
            log = bed.server.connect()
            seqs = [await cancelled(bed, f"s-{n}") for n in range(5)]
            token = await log.append([Write(bed.names.owner("heeds"), b"{}")])
            requests, committer = Requests(log, bed.names, "heeds"), Committer(log, Limits(), pass_by)
            await requests.read(token)
            async with beside(committer.run()):
                await requests.digest(committer, Tenure("heeds", bed.names, token, 0, Cursor(Mark(seqs[2]))))
            record = bed.server.newest(bed.names.digest("heeds", 0))
            assert record is not None
            return seqs, [cancel.seq for cancel in Digest.from_json(record.data).cancels]

    seqs, told = run_virtual(story())

    assert told == seqs[:3]


def test_a_read_that_is_cut_short_leaves_nothing_out_and_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent("heeds")

    async def story() -> None:
        async with Bed() as bed:
            bed.agents = (agent,)
            monkeypatch.setattr(requests_module, "DIGEST_MIN", 2)
            for n in range(3):
                await cancelled(bed, f"s-{n}")
                await bed.publish(HoldPlaced(key=f"k-{n}", by="ada"), key=f"k-{n}")
            while bed.server.newest(bed.names.digest("heeds", 0)) is None:
                async with running(bed.crew()):
                    await bed.quiet()
            await cancelled(bed, "s-3")
            for after in range(8):
                log = Breaking(bed.server.connect(), after)
                requests = Requests(log, bed.names, "heeds")
                with suppress(Unavailable):
                    await requests.read(bed.server.end)
                log.left = 100
                await requests.read(bed.server.end)
                assert [cancel.scope[1] for cancel in requests.cancels] == ["s-0", "s-1", "s-2", "s-3"]
                assert [address(word.subject).key for word in requests.words] == ["k-0", "k-1", "k-2"]

    run_virtual(story())


class Breaking(MemoryLog):
    """A connection over which so many messages are read before the log is away for once."""

    def __init__(self, log: MemoryLog, left: int) -> None:
        super().__init__(log.server, log.faults)
        self.left = left

    async def scan(
        self, filters: Sequence[str], *, start: int = 1, follow: bool = False
    ) -> AsyncGenerator[Message, None]:
        async for message in super().scan(filters, start=start, follow=follow):
            if not self.left:
                raise Unavailable("for a test")
            self.left -= 1
            yield message


class Moving(MemoryLog):
    """A connection to one server, and then to another that was put in its place."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log.server, log.faults)
        self.now = log

    def scan(self, filters: Sequence[str], *, start: int = 1, follow: bool = False) -> AsyncGenerator[Message, None]:
        return self.now.scan(filters, start=start, follow=follow)


async def cancelled(bed: Bed, saga: str) -> int:
    return (await bed.publish(CancelRequested(saga=saga, by="ada"), key=saga)).seq
