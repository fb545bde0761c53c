"""The audit finds nothing in an honest log, and each planted lie by its name."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from hocket.agent import Agent
from hocket.context import Context
from hocket.engine.cursor import Mark
from hocket.engine.runs import Head
from hocket.ids import cause_of
from hocket.log.base import Message, Write
from hocket.log.memory import MemoryLog, MemoryServer
from hocket.observe.audit import Report, audit
from hocket.observe.finding import Severity
from hocket.observe.letters import letters
from hocket.observe.settling import redrive
from hocket.policy import Retry
from hocket.subjects import Names, type_of
from hocket.testing import Bed
from hocket_schemas import gate
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Catalog, Event

LOCAL = Catalog()
NAMES = Names("hocket", 0)
CONSUMES = {"splitter": ["text.sent.v1"], "reader": ["word.found.v1"]}


class TextSent(Event, type="text.sent.v1", catalog=LOCAL):
    text: str


class WordFound(Event, type="word.found.v1", catalog=LOCAL):
    word: str


class WordRead(Event, type="word.read.v1", catalog=LOCAL):
    word: str


def splitter() -> Agent[None]:
    agent = Agent("splitter")

    @agent.on(TextSent, retry=Retry(attempts_max=1))
    async def split(event: TextSent) -> list[WordFound]:
        if not event.text:
            raise ValueError("no text")
        return [WordFound(word=word) for word in event.text.split()]

    return agent


def reader() -> Agent[None]:
    agent = Agent("reader")

    @agent.on(WordFound)
    async def read(event: WordFound) -> WordRead:
        return WordRead(word=event.word)

    return agent


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    """A log with two texts, five words each split and read, and one dead letter; the crew has left."""
    async with Bed(splitter(), reader()) as bed:
        for number, text in enumerate(("one two three", "four five", "")):
            await bed.publish(TextSent(text=text), key="k", event_id=f"text-{number}")
        await bed.quiet()
    async with Bed(server=bed.server) as left:
        yield left


async def test_what_is_said_of_an_effect_follows_from_the_effect() -> None:
    writer = Agent("writer")

    @writer.effect()
    async def write(text: str) -> int:
        return len(text)

    @write.undo
    async def unwrite(text: str, length: int) -> None:
        return

    @writer.on(TextSent)
    async def keep(event: TextSent, ctx: Context) -> WordRead:
        await ctx.step(write, event.text)
        return WordRead(word=event.text)

    async with Bed(writer) as bed:
        await bed.publish(TextSent(text="one"), key="k")
        await bed.quiet()

        report = await audit(bed.bus, {"writer": ["text.sent.v1"]})

    assert (report.events, report.emitted, report.findings) == (3, 2, ())


def emitted(source: str, cause: str, event_id: str, event: Event, *, agent: str, i: int, key: str = "k") -> Write:
    """An event as an agent would write it."""
    token = cause_of(agent, source, event_id)
    envelope = Envelope(
        id=f"{token}.{i}",
        source=f"/hocket/{agent}",
        type=event.event_type,
        data=event.model_dump(),
        partitionkey=key,
        causationid=cause,
    )
    return Write(NAMES.event(key, agent, token, i, event.event_type), gate.write(envelope))


async def test_an_honest_log_holds_what_was_promised(bed: Bed) -> None:
    report = await audit(bed.bus, CONSUMES)

    assert report == Report(events=13, emitted=10, handled=8, letters=1, open_letters=1, agents=2, findings=())


def doubled(server: MemoryServer) -> None:
    """The splitter's first word a second time, with another type."""
    server.store([emitted("/hocket/test", "text-0", "text-0", WordRead(word="x"), agent="splitter", i=0)])


def gap(server: MemoryServer) -> None:
    server.store([emitted("/hocket/test", "text-0", "text-0", WordRead(word="x"), agent="splitter", i=7)])


def without_cause(server: MemoryServer) -> None:
    server.store([emitted("/hocket/test", "gone", "gone", WordRead(word="x"), agent="splitter", i=0)])


def with_a_wrong_cause(server: MemoryServer) -> None:
    server.store([emitted("/hocket/test", "text-0", "text-9", WordRead(word="x"), agent="splitter", i=0)])


def out_of_order(server: MemoryServer) -> None:
    """The splitter answers a text in a second way, after it has answered a later one."""
    server.store([emitted("/hocket/test", "text-0", "text-0", WordRead(word="x"), agent="splitter", i=3)])


def handled_and_dead(server: MemoryServer) -> None:
    server.store([emitted("/hocket/test", "text-2", "text-2", WordRead(word="x"), agent="splitter", i=0)])


def lost(server: MemoryServer) -> None:
    """An event beyond the cursor."""
    envelope = Envelope(id="late", source="/x", type="word.found.v1", data={"word": "x"})
    server.store([Write(NAMES.event("k", "x", "late", 0, "word.found.v1"), gate.write(envelope))])


def left_open(server: MemoryServer) -> None:
    """A cursor that says that its newest event is not done."""
    record = server.newest(NAMES.cursor("reader"))
    assert record is not None
    upto = Mark.from_json(record.data).upto
    newest = max(m.seq for m in server.since(1, [NAMES.events_of_type("word.found.v1")], 100) if m.seq <= upto)
    server.store([Write(NAMES.cursor("reader"), Mark(upto, (newest,)).to_json())])


def open_run(server: MemoryServer) -> None:
    head = Head(subject="x", seq=3, handler="read", version="0", since="", suspect=False)
    server.store([Write(NAMES.run("reader", "k", "r"), head.to_json())])


def unreadable(server: MemoryServer) -> None:
    server.store([Write(NAMES.cursor("reader"), b"{}")])


def overwritten(server: MemoryServer) -> None:
    """The same event again, by a publisher that left the condition out: now it stands after its effects."""
    message = next(m for m in server.history if m.subject.endswith("text-0.0") and type_of(m.subject) == "text.sent.v1")
    server.store([Write(message.subject, message.data)])


@pytest.mark.parametrize(
    ("lie", "codes"),
    [
        (doubled, {"doubled", "out-of-order"}),
        (gap, {"gap", "out-of-order"}),
        (without_cause, {"no-cause"}),
        (with_a_wrong_cause, {"wrong-cause"}),
        (out_of_order, {"out-of-order"}),
        (handled_and_dead, {"handled-and-dead"}),
        (lost, {"unfinished"}),
        (left_open, {"unfinished"}),
        (open_run, {"open-run"}),
        (unreadable, {"unreadable", "never-owned"}),
        (overwritten, {"cause-after-effect", "unfinished", "out-of-order"}),
    ],
)
async def test_each_lie_is_found_by_its_name(bed: Bed, lie: Callable[[MemoryServer], None], codes: set[str]) -> None:
    lie(bed.server)

    report = await audit(bed.bus, CONSUMES)

    assert {finding.code for finding in report.findings} == codes
    assert {finding.severity for finding in report.findings} == {Severity.ERROR}


async def test_a_run_that_waits_is_only_noted(bed: Bed) -> None:
    head = Head(subject="x", seq=3, handler="read", version="0", since="", suspect=False, until_s=1_767_225_600.0)
    bed.server.store([Write(NAMES.run("reader", "k", "r"), head.to_json())])

    report = await audit(bed.bus, CONSUMES)

    assert [(finding.code, finding.severity) for finding in report.findings] == [("waiting-run", Severity.NOTE)]
    assert "until 2026-01-01T00:00:00.000Z" in report.findings[0].message


async def test_an_agent_that_never_came_is_missed(bed: Bed) -> None:
    report = await audit(bed.bus, {**CONSUMES, "archivist": ["word.read.v1"]})

    assert [(finding.code, finding.message.split()[0]) for finding in report.findings] == [("never-owned", "archivist")]


async def test_a_cursor_that_is_written_while_the_log_is_read_is_not_missed(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor, scan = bed.names.cursor("reader"), MemoryLog.scan

    async def overtaken(log: MemoryLog, filters: Sequence[str], **options: Any) -> AsyncIterator[Message]:
        async for message in scan(log, filters, **options):
            if message.subject != cursor:
                yield message

    monkeypatch.setattr(MemoryLog, "scan", overtaken)
    report = await audit(bed.bus, CONSUMES)

    assert report.findings == ()


async def test_with_events_that_age_a_missing_cause_is_a_warning(bed: Bed) -> None:
    without_cause(bed.server)

    report = await audit(bed.bus, CONSUMES, ageing=True)

    assert [(finding.code, finding.severity) for finding in report.findings] == [("no-cause", Severity.WARNING)]


async def test_what_a_person_sent_again_is_no_lie(bed: Bed) -> None:
    [letter] = [letter async for letter in letters(bed.bus)]
    async with Bed(splitter(), reader(), server=bed.server) as again:
        sent = await redrive(again.bus, letter, by="ada")
        await again.publish(TextSent(text="six"), key="k")
        await again.quiet()

    report = await audit(bed.bus, CONSUMES)

    assert not sent.duplicate
    assert report.findings == ()
    assert report.letters == 2
