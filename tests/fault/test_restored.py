"""A crew that is wiped out and brought back from a copy remembers all, and ends what it had begun."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from tests.fault.services import coordinator

from hocket import Agent, Context, Saga
from hocket.client import Bus, open_bus
from hocket.clock import LoopClock
from hocket.host.crew import Crew, running
from hocket.log.jetstream import connect
from hocket.log.memory import MemoryServer
from hocket.log.renewal import Room, renewal
from hocket.log.server import EmbeddedServer
from hocket.observe.audit import audit
from hocket.observe.history import history
from hocket.observe.runs import decide, open_runs
from hocket.observe.sagas import SagaState, facts_in, fold
from hocket.storage.backup import back_up
from hocket.storage.checking import check, messages_of
from hocket.storage.restore import restore
from hocket.subjects import Names
from hocket.testing import Bed, run_virtual
from hocket_schemas.approvals import ApprovalDecided
from hocket_schemas.event import Event


class TripAsked(Event, type="restored.trip.asked.v1"):
    fails: bool = False


class Naps(Event, type="restored.naps.v1"):
    s: float


class Noted(Event, type="restored.noted.v1", retention=timedelta(days=30)):
    n: int


class TripBooked(Event, type="restored.trip.booked.v1"):
    seat: str


class TripRefused(Event, type="restored.trip.refused.v1"):
    pass


class Woken(Event, type="restored.woken.v1"):
    pass


class Counted(BaseModel):
    n: int = 0


TRIP = Saga("restored-trip", starts=TripAsked, done=TripBooked, fails=[TripRefused], deadline=timedelta(hours=9))


def crew(calls: list[str]) -> list[Agent[Any]]:
    """Books after somebody has approved, naps, and counts."""
    desk = Agent("desk", state=Counted)

    @desk.effect()
    async def book(seat: str, *, key: str = "") -> str:
        calls.append(f"book {seat}")
        return seat

    @book.undo
    async def cancel(seat: str, booked: str | None, *, key: str = "") -> None:
        calls.append(f"cancel {seat}")

    @desk.on(TripAsked)
    async def trip(event: TripAsked, ctx: Context[Counted]) -> TripBooked | TripRefused:
        seat = await ctx.step(book, "7A")
        decision = await ctx.approve("Go?", details=seat)
        return TripRefused() if event.fails or not decision.approved else TripBooked(seat=seat)

    @desk.on(Naps)
    async def nap(event: Naps, ctx: Context[Counted]) -> Woken:
        await ctx.sleep(event.s)
        return Woken()

    @desk.on(Noted)
    async def note(event: Noted, ctx: Context[Counted]) -> None:
        ctx.state.n += event.n

    return [desk, coordinator()]


async def seen(bus: Bus) -> dict[str, Any]:
    """All that can be asked about a domain: sagas, approvals, histories, and the records themselves."""
    facts = [fact async for fact in facts_in(bus)]
    records: dict[str, tuple[int, bytes]] = {}
    names = Names(bus.domain, 0)
    kinds = [names.cursors, f"{names.root}.act.>", f"{names.root}.run.>", f"{names.root}.jrn.>", names.owners]
    async with aclosing(bus.logs[0].scan(kinds)) as messages:
        async for message in messages:
            if message.data:  # else the end of a run, which is forgotten soon
                records[message.subject] = (message.seq, message.data)
    return {
        "facts": facts,
        "sagas": fold([TRIP], facts, 0.0),
        "approvals": [run async for run in open_runs(bus)],
        "histories": {key: await history(bus, key) for key in sorted({fact.key for fact in facts})},
        "records": records,
    }


async def begin(bus: Bus) -> None:
    """Trips that wait for people, one that is over, a nap, and a count."""
    for n in range(10):
        await bus.publish(Noted(n=n), key="count")
    for saga in ("trip-1", "trip-2", "trip-3"):
        await bus.publish(TripAsked(fails=saga == "trip-2"), key=saga)


async def approve(bus: Bus, *sagas: str) -> None:
    for run in [run async for run in open_runs(bus) if run.key in sagas]:
        asked = run.request
        if asked is None:
            continue  # the coordinator's, which waits for its deadline
        said = ApprovalDecided(approval=asked.approval, digest=asked.digest, option="approve", by="ada")
        await decide(bus, run, said)


def test_what_is_restored_folds_to_the_same_and_goes_on_to_its_end(tmp_path: Path) -> None:
    calls: list[str] = []

    async def story() -> None:
        clock = LoopClock()
        server = MemoryServer(clock=clock)
        async with Bed(*crew(calls), server=server) as bed:
            await begin(bed.bus)
            await bed.publish(Naps(s=3600), key="sleeper")
            await bed.settled()
            await approve(bed.bus, "trip-3")
            await bed.settled()
            await back_up([server.connect()], tmp_path / "copy.jsonl", clock=clock)
            before = await seen(bed.bus)

        clock.advance(600)
        [first], [end] = check(tmp_path / "copy.jsonl").firsts, check(tmp_path / "copy.jsonl").ends
        again = MemoryServer(clock=clock)
        again.begin_at(first)
        await restore(messages_of(tmp_path / "copy.jsonl"), [end], [again.connect()])
        async with open_bus([again.connect()], publisher="test", clock=clock) as bus:
            assert await seen(bus) == before

        assert calls == ["book 7A"] * 3
        async with Bed(*crew(calls), server=again) as bed:
            await approve(bed.bus, "trip-1", "trip-2")
            await bed.settled()
            assert len(bed.events(TripBooked)) == 2
            assert bed.events(Woken) == []
            await bed.pass_time(timedelta(hours=1))
            await bed.quiet()
            assert len(bed.events(Woken)) == 1
            await bed.publish(Noted(n=1), key="count")
            await bed.quiet()
            assert bed.state(bed.agents[0], "count") == Counted(n=46)
            states = {line.id: line.state for line in (await seen(bed.bus))["sagas"]}
            assert [states[f"trip-{n}"] for n in (1, 2, 3)] == [
                SagaState.COMPLETED,
                SagaState.COMPENSATED,
                SagaState.COMPLETED,
            ]
            report = await audit(bed.bus, {agent.name: list(agent.hears) for agent in bed.agents})
            assert [f for f in report.findings if f.severity == "error"] == []

    run_virtual(story())

    assert calls == [*["book 7A"] * 3, "cancel 7A"]


async def test_a_wiped_folder_is_restored_and_the_crew_goes_on(tmp_path: Path) -> None:
    calls: list[str] = []
    data, copy = tmp_path / "data", tmp_path / "copy.jsonl.gz"

    async with EmbeddedServer(data) as server, connect(server.url) as logs, open_bus(logs, publisher="test") as bus:
        async with running(Crew(crew(calls), logs)):
            await begin(bus)
            await until(lambda: asking(bus), 3)
            await back_up(logs, copy)
        before = [(f.seq, f.id, f.stored) for f in [fact async for fact in facts_in(bus)]]
    shutil.rmtree(data)

    async with EmbeddedServer(data) as server:
        async with renewal(server.url, "hocket") as renewed:
            checked = check(copy)
            room = Room(1 << 28)
            logs = await renewed.begin(checked.firsts, room)
            await restore(messages_of(copy), checked.ends, logs)
            await renewed.open(1, room)
        async with connect(server.url, create=False) as logs, open_bus(logs, publisher="test") as bus:
            assert [(f.seq, f.id, f.stored) for f in [fact async for fact in facts_in(bus)]] == before
            async with running(Crew(crew(calls), logs)):
                await approve(bus, "trip-1", "trip-2", "trip-3")
                await until(lambda: ended(bus), 3)

    assert calls.count("book 7A") == 3


async def until(looked: Callable[[], Awaitable[int]], count: int) -> None:
    """Wait until there are so many of something."""
    async with asyncio.timeout(30):
        found = await looked()
        while found < count:
            await asyncio.sleep(0.02)
            found = await looked()


async def asking(bus: Bus) -> int:
    return len([run async for run in open_runs(bus) if run.request is not None])


async def ended(bus: Bus) -> int:
    ends = {TripBooked.event_type, TripRefused.event_type}
    return len([fact async for fact in facts_in(bus) if fact.type in ends])
