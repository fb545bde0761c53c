"""The whole crew: real documents in, a brief out that holds against them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hocket.agent import Agent
from hocket.demo.brief import parse, verify
from hocket.demo.corpus import lay_out
from hocket.host.loader import load
from hocket.testing import Bed
from hocket_schemas.briefs import (
    REVISIONS_MAX,
    BriefApproved,
    BriefDrafted,
    BriefFailed,
    BriefPublished,
    BriefRejected,
    BriefRequested,
    BriefReviewed,
    RevisionRequested,
)
from hocket_schemas.documents import DocumentRead, DocumentRefused

ROOT = Path(__file__).parents[2]
CREW = ("librarian", "planner", "researcher", "writer", "reviewer", "publisher")
TOPIC = "How Python evaluates expressions and handles exceptions"


def crew() -> Sequence[Agent[Any]]:
    return [agent for name in CREW for agent in load(ROOT / "services" / name).agents]


def test_whatever_an_agent_of_the_crew_hears_somebody_says() -> None:
    agents = crew()  # loading holds each manifest against its code

    said = {event for agent in agents for event in agent.emits}
    heard = {event for agent in agents for event in agent.consumes}

    asked = {BriefRequested.event_type, BriefApproved.event_type, BriefRejected.event_type}
    assert heard - said == asked
    assert said - heard == {BriefPublished.event_type, BriefFailed.event_type}


async def brief_from(folder: Path, out: Path, topic: str = "") -> Bed:
    """Run the crew until the brief is published or failed; the bed is closed, its log can be looked at."""
    async with Bed(*crew()) as bed:
        await bed.publish(BriefRequested(folder=str(folder), out=str(out), topic=topic), key="b-1")
        await bed.quiet()
        for reviewed in bed.events(BriefReviewed):
            await bed.publish(BriefApproved(version=reviewed.version, by="ann"), key="b-1")
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
