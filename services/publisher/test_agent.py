"""The publisher: what it waits for, what it writes, and what it leaves alone."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest

from hocket.approval import DENY
from hocket.clock import LoopClock
from hocket.crashpoints import POINTS
from hocket.demo.brief import parse
from hocket.host.crew import running
from hocket.log.memory import MemoryServer
from hocket.observe.runs import effects
from hocket.testing import Bed, run_virtual
from hocket_schemas.approvals import ApprovalRequested
from hocket_schemas.briefs import (
    DECISION,
    BriefFailed,
    BriefPublished,
    BriefRejected,
    BriefRequested,
    BriefReviewed,
    Heading,
    Proof,
    Section,
    Sentence,
    Source,
    Unread,
)

from .agent import find_brief, find_entry, list_brief, publisher, take_brief_back, take_entry_back, write_brief
from .files import KEPT_BYTES_MAX, CannotWrite, digest_of, enter, entry_of, look, replace, write
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


# The files


def test_a_brief_is_rendered_line_by_line() -> None:
    assert render(REVIEWED) == RENDERED


def test_what_is_rendered_can_be_read_back() -> None:
    brief = parse(render(REVIEWED))

    assert brief.problems == []
    assert [(quote.text, quote.first, quote.last) for quote in brief.quotes] == [
        (s.text, s.line_first, s.line_last) for s in REVIEWED.sections[0].sentences
    ]


def test_the_words_of_a_model_stand_above_their_quote() -> None:
    told = sentence("One is here.", 0, (1, 1)).model_copy(update={"words": "There is one of them."})
    reviewed = REVIEWED.model_copy(
        update={"sections": [Section(question=1, subject="All", sentences=[told, told])], "model": "m"}
    )

    text = render(reviewed)

    assert "\nThere is one of them.\n> One is here. [a b.txt:1]\n\nThere is one of them.\n> One" in text
    assert text.endswith(
        "\n## Written with a model\n\n"
        "- m: what stands above a quote is in its words, and was held against that by rules alone\n"
    )
    brief = parse(text)
    assert brief.problems == []
    assert ([quote.text for quote in brief.quotes], len(brief.told)) == (["One is here."] * 2, 2)


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "brief.md"
    path.write_text("old")
    (tmp_path / ".brief.md.1.tmp").write_text("left behind by a crash")

    replace(path, b"new")

    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("brief.md", b"new")]


def put(out: Path, text: str = RENDERED) -> None:
    """A brief and its entry, as if they had been there all along."""
    write(str(out), text)
    enter(str(out), entry_of(str(out), digest_of(text.encode()), REVIEWED))


def test_briefs_are_listed_by_name_and_the_same_again_changes_nothing(tmp_path: Path) -> None:
    for name in ("b.md", "a.md", "b.md"):
        put(tmp_path / "new" / name)

    index = json.loads((tmp_path / "new" / "index.json").read_text())
    assert [entry["path"] for entry in index["briefs"]] == ["a.md", "b.md"]
    assert index["briefs"][0] == {
        "path": "a.md",
        "title": "Notes",
        "digest": digest_of(RENDERED.encode()),
        "sentences": 3,
        "documents": [{"document": "a b.txt", "digest": DIGEST}],
    }


@pytest.mark.parametrize("content", ["[]", "{}", '{"briefs": [1]}', "not JSON", '{"name": "my project"}'])
def test_an_index_that_is_somebody_elses_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)

    with pytest.raises(CannotWrite, match="is no index of briefs"):
        look(str(tmp_path / "brief.md"))
    with pytest.raises(CannotWrite, match="is no index of briefs"):
        enter(str(tmp_path / "brief.md"), {"path": "brief.md"})

    assert (tmp_path / "index.json").read_text() == content


def test_a_folder_in_the_index_s_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index.json").mkdir()

    with pytest.raises(CannotWrite, match="is no index of briefs"):
        look(str(tmp_path / "brief.md"))


@pytest.mark.parametrize(
    ("out", "says"),
    [("folder", "cannot be a brief"), ("index.json", "cannot be a brief"), ("file/brief.md", "is no folder")],
)
def test_a_place_that_cannot_hold_a_brief_is_refused(tmp_path: Path, out: str, says: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")

    with pytest.raises(CannotWrite, match=says):
        look(str(tmp_path / out))


# Doing it once, and undoing it

ENTRY = entry_of("brief.md", digest_of(RENDERED.encode()), REVIEWED)


async def test_a_brief_is_found_by_what_it_says_alone(tmp_path: Path) -> None:
    out = tmp_path / "brief.md"

    before = await find_brief(str(out), RENDERED, None)
    out.write_text("something else")
    other = await find_brief(str(out), RENDERED, None)
    written = await write_brief(str(out), RENDERED, None)

    assert (before, other) == (None, None)
    assert await find_brief(str(out), RENDERED, None) == written
    assert written.digest == digest_of(RENDERED.encode())


@pytest.mark.parametrize("before", [None, "# An older brief\n"])
async def test_a_brief_that_is_undone_leaves_what_was_there(tmp_path: Path, before: str | None) -> None:
    out = tmp_path / "brief.md"
    if before is not None:
        out.write_text(before)
    there = look(str(out))
    written = await write_brief(str(out), RENDERED, there.text)

    for _ in range(2):
        await take_brief_back(str(out), RENDERED, there.text, written)

    assert names_in(tmp_path) == (["brief.md"] if before else [])
    assert before is None or out.read_text() == before


async def test_a_brief_that_somebody_has_changed_is_not_taken_back(tmp_path: Path) -> None:
    out = tmp_path / "brief.md"
    written = await write_brief(str(out), RENDERED, None)
    out.write_text("mine now")

    await take_brief_back(str(out), RENDERED, None, written)

    assert out.read_text() == "mine now"


@pytest.mark.parametrize("content", [b"\xff", bytes(KEPT_BYTES_MAX + 1)], ids=["binary", "large"])
def test_a_file_that_is_no_brief_is_not_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "brief.md").write_bytes(content)

    assert look(str(tmp_path / "brief.md")).text is None


async def test_an_entry_that_is_undone_leaves_what_the_index_said(tmp_path: Path) -> None:
    out, other = str(tmp_path / "brief.md"), str(tmp_path / "other.md")
    older = ENTRY | {"title": "An older brief"}
    enter(out, older)
    enter(other, ENTRY | {"path": "other.md"})
    before = (tmp_path / "index.json").read_bytes()
    there = look(out).entry

    missing = await find_entry(out, ENTRY, there)
    index = await list_brief(out, ENTRY, there)
    found = await find_entry(out, ENTRY, there)
    await take_entry_back(out, ENTRY, there, index)

    assert (missing, found) == (None, index)
    assert there == older
    assert (tmp_path / "index.json").read_bytes() == before


async def test_the_index_goes_with_its_only_brief(tmp_path: Path) -> None:
    index = await list_brief(str(tmp_path / "brief.md"), ENTRY, None)

    for _ in range(2):
        await take_entry_back(str(tmp_path / "brief.md"), ENTRY, None, index)

    assert names_in(tmp_path) == []


# The agent


async def begin(bed: Bed, out: Path, reviewed: BriefReviewed = REVIEWED) -> ApprovalRequested:
    """Ask for a brief, have it reviewed, and return what the publisher asks then."""
    await bed.publish(BriefRequested(folder="/docs", out=str(out)), key="b-1")
    await bed.publish(reviewed, key="b-1")
    await bed.settled()
    [asked] = bed.events(ApprovalRequested)
    assert isinstance(asked, ApprovalRequested)
    return asked


async def test_a_brief_is_published_when_it_is_approved_and_not_before(tmp_path: Path) -> None:
    out = tmp_path / "brief.md"

    async with Bed(publisher) as bed:
        await begin(bed, out)
        written_early = names_in(tmp_path)
        await bed.decide(by="ann")
        await bed.quiet()

        assert written_early == []
        assert bed.events(BriefPublished) == [
            BriefPublished(path=str(out), digest=digest_of(RENDERED.encode()), sentences=3, documents=1)
        ]
        assert out.read_text() == RENDERED
        assert sorted(names_in(tmp_path)) == ["brief.md", "index.json"]


async def test_whoever_decides_is_shown_what_would_be_written(tmp_path: Path) -> None:
    async with Bed(publisher) as bed:
        asked = await begin(bed, tmp_path / "brief.md")

        assert asked.question == "Publish this brief?"
        assert asked.expires is not None
        assert Proof.model_validate(asked.details) == Proof(
            title="Notes",
            out=str(tmp_path / "brief.md"),
            sentences=3,
            documents=1,
            contents=[Heading(subject="Cursors", sentences=3)],
            digest=digest_of(RENDERED.encode()),
            text=RENDERED,
            unread=[Unread(document="z.txt", reason="is empty")],
        )


async def test_a_long_text_is_shown_by_its_digest_alone(tmp_path: Path) -> None:
    long = [sentence("So it is. " * 100, 1000 * i, (i + 1, i + 1)) for i in range(20)]
    reviewed = REVIEWED.model_copy(update={"sections": [Section(question=1, subject="All", sentences=long)]})

    async with Bed(publisher) as bed:
        proof = Proof.model_validate((await begin(bed, tmp_path / "brief.md", reviewed)).details)

        assert (proof.text, proof.digest) == (None, digest_of(render(reviewed).encode()))


async def test_a_brief_that_is_denied_is_not_written(tmp_path: Path) -> None:
    async with Bed(publisher) as bed:
        await begin(bed, tmp_path / "brief.md")
        await bed.decide(DENY, by="ann", reason="too long")
        await bed.quiet()

        [rejected] = bed.events(BriefRejected)
        assert (rejected.version, rejected.by) == (2, "ann")
        assert rejected.sentence == "ann rejected the brief: too long"
        assert bed.events(BriefPublished) == []
        assert names_in(tmp_path) == []


def test_a_brief_on_which_nobody_decides_is_given_up(tmp_path: Path) -> None:
    async def wait() -> list[BriefRejected]:
        async with Bed(publisher, server=MemoryServer(clock=LoopClock())) as bed:
            await begin(bed, tmp_path / "brief.md")
            await asyncio.sleep(DECISION.total_seconds())
            await bed.quiet()
            return bed.events(BriefRejected)

    [rejected] = run_virtual(wait())

    assert rejected.by == ""
    assert rejected.sentence == "nobody approved the brief: 25 minutes have passed."
    assert names_in(tmp_path) == []


async def test_the_title_can_be_edited_with_the_approval(tmp_path: Path) -> None:
    out = tmp_path / "brief.md"

    async with Bed(publisher) as bed:
        await begin(bed, out)
        await bed.decide(edited={"title": "How we decide"})
        await bed.quiet()

        [published] = bed.events(BriefPublished)
        assert out.read_text() == RENDERED.replace("# Notes", "# How we decide")
        assert published.digest == digest_of(out.read_bytes())
        assert json.loads((tmp_path / "index.json").read_text())["briefs"][0]["title"] == "How we decide"


@pytest.mark.parametrize(
    "edited", [{"text": "mine"}, "a text", {"title": ""}, {"title": "two\nlines"}, {"title": 7}, {"surprise": 1}]
)
async def test_nothing_else_can_be_edited(tmp_path: Path, edited: object) -> None:
    async with Bed(publisher) as bed:
        await begin(bed, tmp_path / "brief.md")
        await bed.decide(by="ann", edited=edited)
        await bed.quiet()

        [rejected] = bed.events(BriefRejected)
        assert "title" in rejected.reason
        assert names_in(tmp_path) == []


async def test_a_place_that_cannot_be_written_fails_the_brief_and_leaves_nothing_unknown(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("somebody else's")

    async with Bed(publisher) as bed:
        await begin(bed, tmp_path / "brief.md")
        await bed.decide()
        await bed.quiet()

        [failed] = bed.events(BriefFailed)
        assert "is no index of briefs" in failed.reason
        assert names_in(tmp_path) == ["index.json"]
        assert await effects(bed.bus) == []


class Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("call", [1, 2], ids=["the file", "the index"])
@pytest.mark.parametrize("point", [point for point in POINTS if point.endswith(("intent", "after call", "outcome"))])
def test_a_process_that_dies_around_a_write_leaves_it_done_once(tmp_path: Path, point: str, call: int) -> None:
    async def die_and_go_on() -> tuple[list[BriefPublished], list[str]]:
        async with Bed(server=MemoryServer(clock=LoopClock())) as bed:
            bed.agents = (publisher,)
            log = bed.server.connect()
            left = call

            def reach(name: str) -> None:
                nonlocal left
                left -= name == point
                if name == point and left == 0:
                    log.kill()
                    raise Killed

            with suppress(BaseExceptionGroup):
                async with running(bed.crew_on(log, reach=reach)), asyncio.timeout(60):
                    await bed.owned()
                    await begin(bed, tmp_path / "brief.md")
                    await bed.decide()
                    await asyncio.sleep(3600)
            assert left == 0, "it did not come to that point"
            async with running(bed.crew()):
                await bed.quiet()
            return bed.events(BriefPublished), [effect.state for effect in await effects(bed.bus)]

    published, states = run_virtual(die_and_go_on())

    assert len(published) == 1
    assert states == ["done", "done"]
    assert (tmp_path / "brief.md").read_text() == RENDERED
    assert len(json.loads((tmp_path / "index.json").read_text())["briefs"]) == 1
