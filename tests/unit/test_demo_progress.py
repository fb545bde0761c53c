"""What a demo says while it plays."""

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest

from hocket.cli.telling import Teller, preview
from hocket.demo.progress import Progress
from hocket.observe.fact import Fact
from hocket_schemas.approvals import ApprovalRequested
from hocket_schemas.briefs import Heading, Proof, Unread


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
        "nobody has been asked for approval (publisher)",
    ),
    (
        fact("publisher", "hocket.approval.requested.v1", question="Publish this brief?"),
        ["asks a person: Publish this brief?"],
        "nobody has decided on the brief",
    ),
    (
        replace(fact("", "hocket.approval.decided.v1", option="approve", by="ann"), to="publisher"),
        ["approved by ann"],
        "the brief has not been published (publisher)",
    ),
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
        "publisher": "Publish this brief?",
        "coordinator": "follows it to its end",
    }


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (fact("publisher", "brief.failed.v1", reason="It is a folder."), "gave up: It is a folder."),
        (fact("publisher", "brief.rejected.v1", version=1, by="ann"), "gave up: ann rejected the brief."),
        (fact("", "hocket.approval.decided.v1", option="deny", by="ann"), "denied by ann"),
        (
            fact("publisher", "hocket.approval.refused.v1", by="bob", reason="it is too late"),
            "heeds no decision of bob: it is too late",
        ),
    ],
)
def test_another_ending_is_told_too(ending: Fact, text: str) -> None:
    assert [step.text for step in Progress().take(ending)] == [text]


@pytest.mark.parametrize("text", ["# Notes\n\nSo it is. [a.md:1]\n", None])
def test_whoever_decides_sees_what_is_in_the_brief_and_what_is_not(text: str | None) -> None:
    proof = Proof(
        title="Notes \x1b[2J",
        out="/out/brief.md",
        sentences=2,
        documents=1,
        contents=[Heading(subject="The log", sentences=2)],
        digest="0" * 64,
        text=text,
        dropped=1,
        unread=[Unread(document=f"{i}.md", reason="is binary") for i in range(7)],
    )
    request = ApprovalRequested(
        approval="a.0",
        agent="publisher",
        question="Publish this brief?",
        details=proof.model_dump(mode="json"),
        digest="d",
        options=["approve", "deny"],
    )

    lines = [line.strip() for line in preview(request).splitlines()]

    assert ("So it is. [a.md:1]" in lines) is (text is not None)
    assert "Title:     Notes \ufffd[2J" in lines
    assert "Contents:  2 sentences from 1 document" in lines
    assert "The log (2)" in lines
    assert "To write:  /out/brief.md" in lines
    assert "Left out:  1 sentence that did not stand up to review" in lines
    assert "Not read:  7 documents" in lines
    assert "0.md is binary" in lines
    assert "and 2 more" in lines


async def test_what_is_said_while_somebody_is_asked_comes_afterwards() -> None:
    out = StringIO()
    teller = Teller(out)

    with teller.paused():
        teller.say("publisher", "approved by ann")
        said_early = out.getvalue()

    assert said_early == ""
    assert "publisher    approved by ann" in out.getvalue()
