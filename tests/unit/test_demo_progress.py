"""What a demo says while it plays."""

from typing import Any

import pytest

from hocket.cli.telling import preview
from hocket.demo.progress import Progress
from hocket.observe.fact import Fact
from hocket_schemas.briefs import BriefReviewed, Objection, Section, Sentence, Source, Unread


def fact(publisher: str, event_type: str, **data: Any) -> Fact:
    return Fact(
        seq=1,
        shard=0,
        id="e1",
        type=event_type,
        key="k",
        saga="k",
        source=f"/hocket/{publisher}",
        publisher=publisher,
        to=None,
        cause=None,
        version=None,
        hops=0,
        time=None,
        stored="",
        data=data,
    )


SENTENCES = {"sections": [{"sentences": [1, 2]}, {"sentences": [3]}]}
COURSE = [
    (fact("librarian", "library.listed.v1", documents=2, ignored=0), ["found 2 documents"], "neither read nor refused"),
    (fact("librarian", "document.read.v1", passages=[1, 2], part=1, parts=2), [], "2 of 2 documents neither"),
    (fact("librarian", "document.read.v1", passages=[3], part=2, parts=2), [], "1 of 2 documents neither"),
    (
        fact("librarian", "document.refused.v1", document="a.md", reason="is binary"),
        ["a.md is binary", "read 1 document, 3 passages; could not read 1"],
        "no plan has been made (planner)",
    ),
    (fact("planner", "brief.planned.v1", questions=[1, 2]), ["asks 2 questions"], "no evidence for 2 of 2 questions"),
    (fact("planner", "question.posed.v1"), [], "no evidence for 2 of 2 questions (researcher)"),
    (fact("researcher", "evidence.found.v1"), [], "no evidence for 1 of 2 questions (researcher)"),
    (fact("researcher", "evidence.found.v1"), ["has evidence for 2 questions"], "nothing has been drafted (writer)"),
    (fact("writer", "brief.drafted.v1", version=1, **SENTENCES), ["draft 1: 3 sentences"], "draft 1 is being reviewed"),
    (
        fact("reviewer", "revision.requested.v1", objections=[1]),
        ["objects to 1 sentence, wants another draft"],
        "draft 1 is being reviewed or revised (reviewer, writer)",
    ),
    (fact("writer", "brief.drafted.v1", version=2, **SENTENCES), ["draft 2: 3 sentences"], "draft 2 is being reviewed"),
    (
        fact("reviewer", "brief.reviewed.v1", **SENTENCES),
        ["3 sentences stood up to review"],
        "nobody has decided on the brief",
    ),
    (fact("demo", "brief.approved.v1", by="ann"), ["approved by ann"], "the brief has not been published (publisher)"),
    (fact("publisher", "brief.published.v1", path="/b.md"), ["wrote /b.md"], "not been published"),
]


def test_each_step_is_told_once_and_what_is_missing_is_known_in_between() -> None:
    progress = Progress()
    before = progress.missing()

    told = [([step.text for step in progress.take(each)], progress.missing()) for each, _, _ in COURSE]

    assert before == "the folder has not been searched (librarian)"
    assert [texts for texts, _ in told] == [texts for _, texts, _ in COURSE]
    assert [missing for _, missing in told if missing] == [missing for _, missing in told]
    assert all(part in missing for (_, missing), (_, _, part) in zip(told, COURSE, strict=True))


def test_the_table_says_what_each_agent_is_at() -> None:
    progress = Progress()
    for each, _, _ in COURSE[:-2]:
        progress.take(each)

    assert progress.doing() == {
        "librarian": "1 of 2 documents read, 1 refused",
        "planner": "2 questions",
        "researcher": "evidence for 2 of 2 questions",
        "writer": "draft 2: 3 sentences",
        "reviewer": "1 objection, 3 sentences stood up",
        "publisher": "waits for approval",
        "coordinator": "follows it to its end",
    }


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (fact("publisher", "brief.failed.v1", reason="ann rejected the brief."), "gave up: ann rejected the brief."),
        (fact("demo", "brief.rejected.v1", by="ann"), "rejected by ann"),
    ],
)
def test_another_ending_is_told_too(ending: Fact, text: str) -> None:
    assert [step.text for step in Progress().take(ending)] == [text]


def test_whoever_decides_sees_what_is_in_the_brief_and_what_is_not() -> None:
    sentence = Sentence(text="So it is.", document="a.md", start=0, end=9, line_first=1, line_last=1)
    reviewed = BriefReviewed(
        version=3,
        title="Notes \x1b[2J",
        sections=[Section(question=1, subject="The log", sentences=[sentence, sentence])],
        sources=[Source(document="a.md", digest="0" * 64)],
        unread=[Unread(document=f"{i}.md", reason="is binary") for i in range(7)],
        dropped=[Objection(document="a.md", start=0, end=9, reason="says nothing")],
    )

    lines = [line.strip() for line in preview(reviewed).splitlines()]

    assert lines[1] == "Title:     Notes \ufffd[2J"
    assert "Contents:  2 sentences from 1 document" in lines
    assert "The log (2)" in lines
    assert "Left out:  1 sentence that did not stand up to review" in lines
    assert "Not read:  7 documents" in lines
    assert "0.md is binary" in lines
    assert "and 2 more" in lines
