"""The publisher: what it waits for, what it writes, and what it leaves alone."""

import json
from pathlib import Path

import pytest

from hocket.demo.brief import parse
from hocket.testing import Bed
from hocket_schemas.briefs import (
    BriefApproved,
    BriefFailed,
    BriefPublished,
    BriefRejected,
    BriefRequested,
    BriefReviewed,
    Section,
    Sentence,
    Source,
    Unread,
)

from .agent import publisher
from .files import CannotWrite, digest_of, publish, replace
from .rendering import render

DIGEST = "0" * 64


def sentence(text: str, start: int, lines: tuple[int, int], document: str = "a b.txt") -> Sentence:
    return Sentence(
        text=text,
        document=document,
        start=start,
        end=start + len(text),
        line_first=lines[0],
        line_last=lines[1],
    )


REVIEWED = BriefReviewed(
    version=2,
    title="Notes",
    sections=[
        Section(
            question=1,
            subject="Cursors",
            sentences=[
                sentence("One is here.", 0, (1, 1)),
                sentence("Two is here.", 14, (1, 2)),
                sentence("Three is [here].", 99, (9, 9)),
            ],
        )
    ],
    sources=[Source(document="a b.txt", digest=DIGEST)],
    unread=[Unread(document="z.txt", reason="is empty")],
)

RENDERED = f"""\
# Notes

## Cursors

One is here. [a b.txt:1]
Two is here. [a b.txt:1-2]

Three is [here]. [a b.txt:9]

## Sources

- a b.txt sha256:{DIGEST}

## Not read

- z.txt: is empty
"""


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def request(out: Path) -> BriefRequested:
    return BriefRequested(folder="/docs", out=str(out))


# The files


def test_a_brief_is_rendered_line_by_line() -> None:
    assert render(REVIEWED) == RENDERED


def test_what_is_rendered_can_be_read_back() -> None:
    brief = parse(render(REVIEWED))

    assert brief.problems == []
    assert [(quote.text, quote.first, quote.last) for quote in brief.quotes] == [
        (s.text, s.line_first, s.line_last) for s in REVIEWED.sections[0].sentences
    ]


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "brief.md"
    path.write_text("old")
    (tmp_path / ".brief.md.1.tmp").write_text("left behind by a crash")

    replace(path, b"new")

    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("brief.md", b"new")]


def test_briefs_are_listed_by_name_and_the_same_again_changes_nothing(tmp_path: Path) -> None:
    data = render(REVIEWED).encode()

    for name in ("b.md", "a.md", "b.md"):
        publish(str(tmp_path / "new" / name), data, REVIEWED)

    index = json.loads((tmp_path / "new" / "index.json").read_text())
    assert [entry["path"] for entry in index["briefs"]] == ["a.md", "b.md"]
    assert index["briefs"][0] == {
        "path": "a.md",
        "title": "Notes",
        "digest": digest_of(data),
        "sentences": 3,
        "documents": [{"document": "a b.txt", "digest": DIGEST}],
    }


@pytest.mark.parametrize("content", ["[]", "{}", '{"briefs": [1]}', "not JSON", '{"name": "my project"}'])
def test_an_index_that_is_somebody_elses_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)

    with pytest.raises(CannotWrite, match="is no index of briefs"):
        publish(str(tmp_path / "brief.md"), b"text", REVIEWED)

    assert (tmp_path / "index.json").read_text() == content
    assert not (tmp_path / "brief.md").exists()


@pytest.mark.parametrize(
    ("out", "says"),
    [("folder", "cannot be a brief"), ("index.json", "cannot be a brief"), ("file/brief.md", "is no folder")],
)
def test_a_place_that_cannot_hold_a_brief_is_refused(tmp_path: Path, out: str, says: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")

    with pytest.raises(CannotWrite, match=says):
        publish(str(tmp_path / out), b"text", REVIEWED)


# The agent


async def test_a_brief_is_published_when_it_is_approved_and_not_before(tmp_path: Path) -> None:
    out = tmp_path / "brief.md"

    async with Bed(publisher) as bed:
        await bed.publish(request(out), key="b-1")
        await bed.publish(REVIEWED, key="b-1")
        await bed.quiet()
        written_early = out.exists()
        await bed.publish(BriefApproved(version=2, by="ann"), key="b-1")
        await bed.quiet()

        assert not written_early
        assert bed.events(BriefPublished) == [
            BriefPublished(path=str(out), digest=digest_of(RENDERED.encode()), sentences=3, documents=1)
        ]
        assert out.read_text() == RENDERED


async def test_an_approval_that_comes_first_counts_once_the_brief_is_there(tmp_path: Path) -> None:
    async with Bed(publisher) as bed:
        for event in (request(tmp_path / "brief.md"), BriefApproved(version=2, by="ann"), REVIEWED):
            await bed.publish(event, key="b-1")
        await bed.quiet()

        assert len(bed.events(BriefPublished)) == 1


@pytest.mark.parametrize("comes_first", [True, False])
async def test_an_approval_of_another_version_decides_nothing(tmp_path: Path, comes_first: bool) -> None:
    events = [REVIEWED, BriefApproved(version=1, by="ann")]

    async with Bed(publisher) as bed:
        for event in (request(tmp_path / "brief.md"), *(reversed(events) if comes_first else events)):
            await bed.publish(event, key="b-1")
        await bed.quiet()
        published_early = bed.events(BriefPublished)
        await bed.publish(BriefApproved(version=2, by="ann"), key="b-1")
        await bed.quiet()

        assert published_early == []
        assert len(bed.events(BriefPublished)) == 1


async def test_a_rejected_brief_is_not_written(tmp_path: Path) -> None:
    async with Bed(publisher) as bed:
        for event in (
            request(tmp_path / "brief.md"),
            REVIEWED,
            BriefRejected(version=2, by="ann", reason="too long"),
            BriefApproved(version=2, by="bob"),
        ):
            await bed.publish(event, key="b-1")
        await bed.quiet()

        assert [failed.reason for failed in bed.events(BriefFailed)] == ["ann rejected the brief: too long"]
        assert bed.events(BriefPublished) == []
        assert names_in(tmp_path) == []


async def test_a_second_decision_changes_nothing(tmp_path: Path) -> None:
    async with Bed(publisher) as bed:
        for event in (request(tmp_path / "brief.md"), REVIEWED, BriefApproved(version=2, by="ann")):
            await bed.publish(event, key="b-1")
        await bed.quiet()
        await bed.publish(BriefRejected(version=2, by="bob"), key="b-1")
        await bed.quiet()

        assert len(bed.events(BriefPublished)) == 1
        assert bed.events(BriefFailed) == []


async def test_a_place_that_cannot_be_written_fails_the_brief(tmp_path: Path) -> None:
    async with Bed(publisher) as bed:
        for event in (request(tmp_path), REVIEWED, BriefApproved(version=2, by="ann")):
            await bed.publish(event, key="b-1")
        await bed.quiet()

        [failed] = bed.events(BriefFailed)
        assert "cannot be a brief" in failed.reason
