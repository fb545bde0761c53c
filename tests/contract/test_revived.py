"""Runs that have ended stay ended, though a server that is killed finds overwritten heads in its store again."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from hocket import Agent, Context
from hocket.beside import beside
from hocket.clock import LoopClock
from hocket.engine import owner, runs
from hocket.engine.commit import Committer
from hocket.engine.cursor import Cursor, Mark
from hocket.engine.ends import overwrite
from hocket.engine.runs import Head, ending, tombstone
from hocket.engine.transition import Tenure, Transition
from hocket.errors import Fenced
from hocket.log.base import Log, Message, Write
from hocket.log.jetstream import connect
from hocket.log.memory import MemoryLog, MemoryServer
from hocket.log.server import EmbeddedServer
from hocket.policy import Limits
from hocket.process import Process
from hocket.subjects import Names
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
AGENT = "ada"
SHORT = timedelta(seconds=1)
"""As long as a tombstone stays here."""


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "TOMBSTONE_KEPT", SHORT)


class Given(Event, type="revived.given.v1", catalog=EVENTS):
    pass


class Taken(Event, type="revived.taken.v1", catalog=EVENTS):
    pass


async def test_a_run_that_has_ended_stays_ended_when_the_server_is_killed() -> None:
    async with EmbeddedServer(None) as server, connect(server.url, domain="killed") as [log]:
        names = Names(log.domain, log.shard)
        async with working(log) as work:
            await work.begin("ended", "waiting")
            await work.end("ended")
        await forgotten(log, run(names, "ended"))

        await server.restart()
        back = await heads(log)
        async with working(log) as work:
            await work.overwrite()
            found = work.found

        assert back == [run(names, "ended"), run(names, "waiting")], "this server does not need what is tested here"
        assert [subject for subject, _ in found.runs] == [run(names, "waiting")]
        assert await heads(log) == [run(names, "waiting")]


async def test_a_takeover_reads_the_open_runs_however_many_have_ended() -> None:
    server = MemoryServer(clock=(clock := LoopClock()))
    log = Counting(server.connect())
    async with working(log) as work:
        await work.begin(*map(str, range(300)))
        await work.end(*map(str, range(297)))
    clock.advance(2 * SHORT.total_seconds())
    log.scans = log.read = 0

    found = await taken_over(log)

    assert len(found.runs) == 3
    assert (log.scans, log.read) == (2, 3 + 2), "the claim and the cursor, and the heads; no more questions"


async def test_many_that_are_back_are_told_from_the_open_ones() -> None:
    server = MemoryServer(clock=(clock := LoopClock()))
    log = Counting(server.connect())
    async with working(log) as work:
        await work.begin(*(f"{n:04}" for n in range(1200)))
        await work.end(*(f"{n:04}" for n in range(1200) if n % 3))
    clock.advance(2 * SHORT.total_seconds())
    server.stop()
    server.start()

    async with working(log) as work:
        await work.overwrite()
        found = work.found
    log.scans = 0
    again = await taken_over(log)

    assert [subject[-4:] for subject, _ in found.runs] == [f"{n:04}" for n in range(0, 1200, 3)]
    assert again.runs == found.runs
    assert log.scans == 2, "what was back is out of the way again"


async def test_an_owner_that_was_followed_meanwhile_overwrites_nothing() -> None:
    server = MemoryServer(clock=(clock := LoopClock()))
    names = Names(server.domain, server.shard)
    async with working(server.connect()) as work:
        await work.begin("ended")
        await work.end("ended")
    clock.advance(2 * SHORT.total_seconds())
    server.stop()
    server.start()

    log = server.connect()
    async with working(log) as work:
        await taken_over(log)
        overwriting = asyncio.create_task(work.overwrite())
        with pytest.raises(Fenced):
            await work.ended()
        overwriting.cancel()

    assert work.found.back == [run(names, "ended")]
    assert [m.subject for m in server.since(1, [names.runs(AGENT)], 9) if m.data] == [run(names, "ended")]


def test_a_crew_goes_on_beside_what_is_back_until_that_is_overwritten() -> None:
    agent = Agent(AGENT)

    @agent.on(Given)
    async def take(event: Given, ctx: Context) -> Taken:
        await ctx.sleep(1.0)
        return Taken()

    async def story() -> tuple[int, int, int]:
        server = MemoryServer(clock=LoopClock())
        async with Bed(agent, server=server) as bed, asyncio.timeout(100):
            for n in range(600):
                await bed.publish(Given(), key=f"k{n}")
            await bed.quiet()
            await bed.pass_time(2 * SHORT)
            server.stop()
            server.start()
            back = len(bed.runs(agent))
            while bed.runs(agent):
                await server.changed()
            await bed.publish(Given(), key="k0")
            await bed.quiet()
            return back, len(bed.events(Given)), len(bed.events(Taken))

    back, given, taken = run_virtual(story())

    assert back == 600
    assert given == taken == 601


async def test_runs_that_nobody_has_counted_are_open_unless_they_are_marked() -> None:
    log = MemoryServer().connect()
    names = Names(log.domain, log.shard)
    open_run, ended = run(names, "open"), run(names, "ended")
    await log.append([Write(names.cursor(AGENT), Mark(7).to_json()), *ending(names, ended)])
    await log.append([Write(subject, HEAD.to_json()) for subject in (open_run, ended)])

    found = await taken_over(log)

    assert [subject for subject, _ in found.runs] == [open_run]


def test_the_mark_of_an_end_is_kept_as_long_as_its_journal_and_its_tombstone_goes_soon() -> None:
    names = Names("killed", 0)

    stone, mark = ending(names, run(names, "ended"))

    assert stone == tombstone(run(names, "ended"))
    assert stone.ttl == SHORT
    assert mark.ttl is None or mark.ttl >= Limits().journal_kept


HEAD = Head("killed.0.evt.a=2Ev1.k.test.e.0", 1, "handle", "1", "2026-01-01T00:00:00.000Z", suspect=False)


def run(names: Names, name: str) -> str:
    return names.run(AGENT, "k", name)


async def taken_over(log: Log) -> owner.Found:
    return await owner.take_over(log, Names(log.domain, log.shard), AGENT, Process(instance="next"))


async def heads(log: Log) -> list[str]:
    names = Names(log.domain, log.shard)
    return sorted([message.subject async for message in log.scan([names.runs(AGENT)]) if message.data])


async def forgotten(log: Log, subject: str) -> None:
    async with asyncio.timeout(10):
        while await log.last(subject) is not None:  # noqa: ASYNC110 - the log does not tell what it forgets
            await asyncio.sleep(0.1)


class Work:
    """What an owner commits of its runs."""

    def __init__(self, found: owner.Found, tenure: Tenure, committer: Committer) -> None:
        self.found = found
        self._tenure, self._committer = tenure, committer

    async def begin(self, *named: str) -> None:
        for name in named:
            subject = run(self._tenure.names, name)
            self._put([Write(subject, replace(HEAD, until_s=4e9).to_json())])
        await self._committer.caught_up(self._tenure)

    async def end(self, *named: str) -> None:
        for name in named:
            self._put(ending(self._tenure.names, run(self._tenure.names, name)))
        await self._committer.caught_up(self._tenure)

    async def overwrite(self) -> None:
        await overwrite(self._committer, self._tenure, self.found.back)

    async def ended(self) -> None:
        await self._tenure.ended()

    def _put(self, records: list[Write]) -> None:
        self._committer.put(Transition(self._tenure, None, records=records))


@asynccontextmanager
async def working(log: Log) -> AsyncIterator[Work]:
    """An owner, for as long as this lasts. It leaves without a word."""
    names = Names(log.domain, log.shard)
    found = await owner.take_over(log, names, AGENT, Process(instance="first"))
    tenure = Tenure(AGENT, names, found.token, found.doubt, Cursor(found.mark or Mark()), [s for s, _ in found.runs])
    committer = Committer(log, Limits(), Process().reach)
    async with beside(committer.run()), asyncio.timeout(20):
        yield Work(found, tenure, committer)


class Counting(MemoryLog):
    """Counts what is read of it."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log.server, log.faults)
        self.scans = self.read = 0

    async def scan(
        self, filters: Sequence[str], *, start: int = 1, follow: bool = False
    ) -> AsyncGenerator[Message, None]:
        self.scans += 1
        async with aclosing(super().scan(filters, start=start, follow=follow)) as messages:
            async for message in messages:
                self.read += 1
                yield message
