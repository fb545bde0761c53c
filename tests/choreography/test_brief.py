"""The whole crew: real documents in, a brief out that holds against them."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hocket.agent import Agent
from hocket.clock import LoopClock
from hocket.crashpoints import POINTS, Reach
from hocket.demo.brief import parse, verify
from hocket.demo.corpus import lay_out
from hocket.errors import DecisionRefused
from hocket.host.crew import running
from hocket.host.loader import load
from hocket.log.memory import MemoryLog, MemoryServer
from hocket.observe.runs import decide, open_runs
from hocket.testing import Bed, run_virtual
from hocket_schemas.approvals import ApprovalDecided
from hocket_schemas.briefs import (
    REVISIONS_MAX,
    BriefDrafted,
    BriefFailed,
    BriefPlanned,
    BriefPublished,
    BriefRejected,
    BriefRequested,
    BriefReviewed,
    RevisionRequested,
    Section,
    Sentence,
    Source,
)
from hocket_schemas.documents import DocumentRead, DocumentRefused
from hocket_schemas.event import Event
from hocket_schemas.runtime import SagaCompensated
from hocket_schemas.undoing import EffectUndone

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services"
CREW = ("librarian", "planner", "researcher", "writer", "reviewer", "publisher")
POINTS_AT_WORK = [
    point
    for point in POINTS
    if point.endswith(("claim", "scan", "handler", "append", "cursor flush", "intent", "call", "outcome"))
]
FROM_START = dict.fromkeys(CREW, True)
PROCESSES = 12
KILLS_MIN = 2
LIFETIME_S = 20.0
SENTENCE = Sentence(text="So it is.", document="a.md", start=0, end=9, line_first=1, line_last=1)
REVIEWED = BriefReviewed(
    version=1,
    title="Notes",
    sections=[Section(question=1, subject="All", sentences=[SENTENCE])],
    sources=[Source(document="a.md", digest="0" * 64)],
)
TOPIC = "How Python evaluates expressions and handles exceptions"


def crew() -> Sequence[Agent[Any]]:
    return [agent for name in CREW for agent in load(SERVICES / name).agents]


def test_whatever_an_agent_of_the_crew_hears_somebody_says() -> None:
    agents = crew()  # loading holds each manifest against its code

    said = {event for agent in agents for event in agent.emits}
    heard = {event for agent in agents for event in agent.consumes}

    assert heard - said == {BriefRequested.event_type}
    assert said - heard == {BriefPublished.event_type, BriefFailed.event_type, BriefRejected.event_type}


async def brief_from(folder: Path, out: Path, topic: str = "") -> Bed:
    """Run the crew until the brief is published or failed; the bed is closed, its log can be looked at."""
    async with Bed(*crew()) as bed:
        await bed.publish(BriefRequested(folder=str(folder), out=str(out), topic=topic), key="b-1")
        await bed.settled()
        if bed.events(BriefReviewed):
            await bed.decide(by="ann")
        await bed.quiet()
        assert [bed.dead(agent) for agent in bed.agents] == [[] for _ in CREW]
    return bed


@pytest.mark.parametrize("topic", ["", TOPIC])
async def test_the_language_reference_becomes_a_brief_that_holds(tmp_path: Path, topic: str) -> None:
    folder = lay_out(tmp_path)

    bed = await brief_from(folder, tmp_path / "brief.md", topic)

    [published] = bed.events(BriefPublished)
    assert verify(tmp_path / "brief.md", folder) == []
    brief = parse((tmp_path / "brief.md").read_text())
    assert len(brief.headings) == 6
    assert len(brief.quotes) == published.sentences >= 20
    assert len(brief.digests) == published.documents >= 4


async def test_the_reviewer_sends_drafts_back_and_what_it_objects_to_is_not_published(tmp_path: Path) -> None:
    bed = await brief_from(lay_out(tmp_path), tmp_path / "brief.md", TOPIC)

    revisions = bed.events(RevisionRequested)
    assert 1 <= len(revisions) <= REVISIONS_MAX
    assert len(bed.events(BriefDrafted)) == len(revisions) + 1
    [reviewed] = bed.events(BriefReviewed)
    objected = {(o.document, o.start) for revision in revisions for o in revision.objections}
    assert objected.isdisjoint((s.document, s.start) for section in reviewed.sections for s in section.sentences)


async def test_documents_that_cannot_be_read_do_not_keep_the_others_out(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "good.md").write_text("# Cursors\n\nThe cursor says how far an agent has come in the log.\n")
    (docs / "binary.md").write_bytes(b"\0\1\2")
    (docs / "latin.txt").write_bytes(b"caf\xe9")
    (docs / "empty.txt").write_bytes(b"")

    bed = await brief_from(docs, docs / "brief.md")

    assert [read.document for read in bed.events(DocumentRead)] == ["good.md"]
    assert [refused.document for refused in bed.events(DocumentRefused)] == ["binary.md", "empty.txt", "latin.txt"]
    text = (docs / "brief.md").read_text()
    assert "The cursor says how far an agent has come in the log. [good.md:3]" in text
    assert "- binary.md: is binary\n- empty.txt: is empty\n- latin.txt: is not UTF-8 text" in text
    assert verify(docs / "brief.md", docs) == []


async def test_the_same_folder_gives_the_same_bytes_even_with_the_brief_in_it(tmp_path: Path) -> None:
    folder = lay_out(tmp_path)

    await brief_from(folder, folder / "brief.md", TOPIC)
    first = (folder / "brief.md").read_bytes()
    await brief_from(folder, folder / "brief.md", TOPIC)

    assert (folder / "brief.md").read_bytes() == first


async def test_a_folder_without_documents_ends_with_what_to_do(tmp_path: Path) -> None:
    bed = await brief_from(tmp_path, tmp_path / "brief.md")

    [failed] = bed.events(BriefFailed)
    assert "There is no document in" in failed.reason
    assert "choose another folder" in failed.reason


async def test_a_brief_that_cannot_be_listed_is_taken_back_when_its_saga_fails(tmp_path: Path) -> None:
    out, foreign = tmp_path / "brief.md", '{"name": "my project"}'
    out.write_text("# An older brief\n")

    def interfere(point: str) -> None:
        if point == "after outcome":  # the brief is written, and not listed yet
            (tmp_path / "index.json").write_text(foreign)

    async with Bed() as bed:
        bed.agents = tuple(agent for name in ("publisher", "coordinator") for agent in load(SERVICES / name).agents)
        async with running(bed.crew(reach=interfere)):
            await bed.owned()
            await bed.publish(BriefRequested(folder="/docs", out=str(out)), key="b-1")
            await bed.publish(REVIEWED, key="b-1")
            await bed.decide(by="ann")
            async with asyncio.timeout(20):
                while not bed.events(SagaCompensated):
                    await bed.server.changed()

        assert [failed.reason for failed in bed.events(BriefFailed)] == [
            f"{tmp_path}/index.json is there and is no index of briefs. Move it, or choose another folder."
        ]
        assert [undone.effect for undone in bed.events(EffectUndone)] == ["write_brief"]
        assert out.read_text() == "# An older brief\n"
        assert (tmp_path / "index.json").read_text() == foreign


class Killed(BaseException):
    """A process dies here."""


def mortal(log: MemoryLog, point: str, count: int) -> Reach:
    """Dies when the point is reached for the `count`-th time."""
    left = count

    def reach(name: str) -> None:
        nonlocal left
        left -= name == point
        if left == 0:
            log.kill()
            raise Killed(point)

    return reach


async def hunted(folder: Path, out: Path, seed: int) -> tuple[list[Event], int]:
    """Run the crew in one process after another; return what it said, and how many were killed at work."""
    rng = random.Random(seed)
    server = MemoryServer(clock=LoopClock())
    kills = 0
    async with Bed(server=server) as bed:
        bed.agents = tuple(crew())
        await bed.publish(BriefRequested(folder=str(folder), out=str(out), topic=TOPIC), key="b-1")
        for n in range(PROCESSES):
            log = server.connect()
            reach = mortal(log, rng.choice(POINTS_AT_WORK), rng.randint(1, 3))
            try:
                async with asyncio.timeout(LIFETIME_S * rng.random()):
                    await bed.crew_on(log, reach=reach, replay=FROM_START).run()
            except* (Killed, TimeoutError):
                kills += not bed.events(BriefPublished)
            log.kill()
            if n >= PROCESSES // 2:  # so that processes die while the approval is open, too
                await approve(bed)
        async with running(bed.crew(replay=FROM_START)):
            await bed.settled()
            await approve(bed)
            await bed.quiet()
        return bed.events(DocumentRead, BriefPlanned, BriefReviewed, BriefPublished), kills


async def approve(bed: Bed) -> None:
    """Approve what is asked, once however often it is tried."""
    async for run in open_runs(bed.bus):
        if run.request is not None:
            asked = run.request
            yes = ApprovalDecided(approval=asked.approval, digest=asked.digest, option=asked.options[0], by="ann")
            with suppress(DecisionRefused):  # it was decided before
                await decide(bed.bus, run, yes, event_id="approval")


@pytest.mark.parametrize("seed", range(8))
def test_a_crew_that_is_killed_again_and_again_writes_the_same_bytes(tmp_path: Path, seed: int) -> None:
    folder = lay_out(tmp_path)
    asyncio.run(brief_from(folder, tmp_path / "calm.md", TOPIC))

    events, kills = run_virtual(hunted(folder, tmp_path / "hunted.md", seed))

    assert kills >= KILLS_MIN, "too little was provoked for the run to prove anything"
    assert (tmp_path / "hunted.md").read_bytes() == (tmp_path / "calm.md").read_bytes()
    read = [event.document for event in events if isinstance(event, DocumentRead)]
    assert len(read) == len(set(read)) == len(list(folder.iterdir()))
    assert [type(event) for event in events[len(read) :]] == [BriefPlanned, BriefReviewed, BriefPublished]
