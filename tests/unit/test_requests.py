"""Requests are read once by each process, and before it has to take over where there is time for that."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from hocket import Agent
from hocket.beside import beside
from hocket.clock import LoopClock
from hocket.engine.requests import Requests, patterns
from hocket.log.base import Message
from hocket.log.memory import MemoryLog, MemoryServer
from hocket.subjects import address
from hocket.testing import Bed, run_virtual
from hocket_schemas.cancels import CancelRequested
from hocket_schemas.event import Catalog, Event

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
            requests = Requests(moving, first.names)
            for bed in (first, second):
                moving.now = bed.server.connect()
                read = await requests.read(await moving.now.end())
                found.append([address(message.subject).key for message in read])
        return found

    assert run_virtual(story()) == [["s-1", "s-2"], ["s-3"]]


class Moving(MemoryLog):
    """A connection to one server, and then to another that was put in its place."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log.server, log.faults)
        self.now = log

    def scan(self, filters: Sequence[str], *, start: int = 1, follow: bool = False) -> AsyncGenerator[Message, None]:
        return self.now.scan(filters, start=start, follow=follow)


async def cancelled(bed: Bed, saga: str) -> int:
    return (await bed.publish(CancelRequested(saga=saga, by="ada"), key=saga)).seq
