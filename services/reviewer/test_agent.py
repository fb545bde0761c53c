"""The reviewer: what it objects to, and what it does about it."""

import pytest

from hocket.testing import Bed
from hocket_schemas.briefs import (
    BriefDrafted,
    BriefFailed,
    BriefReviewed,
    RevisionRequested,
    Section,
    Sentence,
    Source,
    Unread,
)
from hocket_schemas.documents import DocumentRead, DocumentRefused, Passage
from hocket_schemas.words import plain

from .agent import reviewer
from .judging import objections_to, without

CURSOR = "The cursor says how far an agent\n  has come in the log."
MOVES = "It moves on when the events before it are finished."
CLAIM = "A claim makes one instance the owner of an agent."
PASSAGE = f"{CURSOR} {MOVES}\n{CLAIM}"


def passage(text: str = PASSAGE) -> Passage:
    return Passage(start=50, end=50 + len(text), line=7, text=text)


def quote(text: str, within: str = PASSAGE, /, **changes: object) -> Sentence:
    at = within.index(text)
    line = 7 + within.count("\n", 0, at)
    sentence = Sentence(
        text=plain(text),
        document="a.txt",
        start=50 + at,
        end=50 + at + len(text),
        line_first=line,
        line_last=line + text.count("\n"),
    )
    return sentence.model_copy(update=changes)


def section(*sentences: Sentence, no: int = 1) -> Section:
    return Section(question=no, subject="Cursors", sentences=list(sentences))


def reasons(*sections: Section, source: str = PASSAGE) -> list[str]:
    return [objection.reason for objection in objections_to(sections, {"a.txt": [passage(source)]})]


def alone(text: str) -> list[str]:
    return reasons(section(quote(text, text)), source=text)


# Judging


def test_a_true_quote_is_not_objected_to() -> None:
    assert reasons(section(quote(CURSOR), quote(MOVES)), section(quote(CLAIM), no=2)) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text": plain(CURSOR).replace("far", "near")}, "its source says something else there"),
        ({"text": plain(CURSOR).replace("agent", "Agent")}, "its source says something else there"),
        ({"start": 51}, "its source says something else there"),
        ({"line_last": 9}, "it stands on other lines of its source"),
        ({"start": 49}, "its source has no such passage"),
        ({"end": 5000}, "its source has no such passage"),
        ({"document": "b.txt"}, "its source has no such passage"),
    ],
)
def test_a_quote_that_its_source_does_not_hold_is_objected_to(changes: dict[str, object], reason: str) -> None:
    assert reasons(section(quote(CURSOR, **changes))) == [reason]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The cursor is a record.", "it has 5 words, a brief wants 6 to 40"),
        ("The cursor is " + "very " * 38 + "far.", "it has 42 words, a brief wants 6 to 40"),
        ("The cursor moves on in the way described below.", "it points to another place in its document"),
        ("The cursor and the claim are defined in section 4.", "it points to another place in its document"),
        ("Listing 4-2 shows a cursor that moves on.", "it points to another place in its document"),
        ("All cursors in this chapter are records of the log.", "it speaks of the document instead of the matter"),
        ("Remember that the cursor is behind for a moment.", "it talks to the reader"),
        ("Is the cursor ever behind for a moment?", "it is a question or a heading"),
        (MOVES, "it leans on a sentence that is not here"),
    ],
)
def test_a_sentence_that_does_not_stand_well_is_objected_to(text: str, reason: str) -> None:
    assert alone(text) == [reason]


QUOTED = "A claim of `own` lasts 5 seconds and does not end with its process."


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("A claim of `own` lasts 5 seconds and is not ended by its process.", None),
        ("A claim lasts 50 seconds and does not end with its process.", "its quote does not have the number 50"),
        ("A claim of `cur` does not end with its process.", "its quote does not have the name cur"),
        (
            "A claim lasts 5 seconds and ends with its process.",
            "one of it and its quote denies something, and the other does not",
        ),
        ("Whoever owns a shard never loses any of its events.", "its quote speaks of something else"),
        ("A claim is not [a process](https://elsewhere.example).", "it has more to it than words"),
        ("## A claim does not end with its process", "it has more to it than words"),
        ("A claim does not last.", "it has 5 words, a brief wants 6 to 40"),
        ("It does not end with its process, a claim.", "it leans on a sentence that is not here"),
    ],
)
def test_the_words_of_a_model_are_held_against_their_quote(words: str, reason: str | None) -> None:
    found = reasons(section(quote(QUOTED, QUOTED, words=words)), source=QUOTED)

    assert found == ([] if reason is None else [reason])


def test_a_quote_that_its_source_does_not_hold_is_objected_to_whatever_stands_above_it() -> None:
    bad = quote(QUOTED, QUOTED, text="A claim ends.", words="A claim does not end with its process.")

    assert reasons(section(bad), source=QUOTED) == ["its source says something else there"]


def test_the_same_place_in_two_answers_is_objected_to_in_one() -> None:
    both = [section(quote(CURSOR)), section(quote(CURSOR), no=2)]

    kept = without(both, objections_to(both, {"a.txt": [passage()]}))

    assert [left.question for left in kept] == [1]


def test_a_sentence_may_lean_on_the_one_right_before_it_alone() -> None:
    assert reasons(section(quote(MOVES), quote(CURSOR))) == ["it leans on a sentence that is not here"]
    assert reasons(section(quote(CURSOR)), section(quote(MOVES), no=2)) == ["it leans on a sentence that is not here"]


def test_a_sentence_cannot_lean_on_one_that_is_objected_to() -> None:
    bad = quote(CURSOR, text="Something else is said here about it.")

    assert len(reasons(section(bad, quote(MOVES)))) == 2


def test_the_second_of_two_sentences_that_say_the_same_is_objected_to() -> None:
    first = "A cursor says how far an agent has come in its log."
    second = "The cursors say how far the agents have come in the log, really."
    source = f"{first} {second}"

    found = reasons(section(quote(first, source)), section(quote(second, source), no=2), source=source)

    assert found == ["it says the same as a.txt:7"]


def test_what_is_objected_to_is_taken_out_and_empty_sections_too() -> None:
    sections = [section(quote(CURSOR), quote(CLAIM)), section(quote(MOVES), no=2)]
    objections = objections_to(sections, {"a.txt": [passage(f"{CURSOR} {MOVES}\n{CLAIM.upper()}")]})

    kept = without(sections, objections)

    assert [[s.text for s in left.sentences] for left in kept] == [[plain(CURSOR)]]


# The agent

READ = DocumentRead(document="a.txt", digest="0" * 64, passages=[passage()])


def draft(version: int, *sentences: Sentence) -> BriefDrafted:
    return BriefDrafted(version=version, title="Notes", sections=[section(*sentences)])


async def test_a_good_draft_waits_for_approval_with_its_sources() -> None:
    async with Bed(reviewer) as bed:
        for event in (READ, DocumentRefused(document="z.txt", reason="is empty"), draft(1, quote(CURSOR))):
            await bed.publish(event, key="b-1")
        await bed.quiet()

        assert bed.events(BriefReviewed) == [
            BriefReviewed(
                version=1,
                title="Notes",
                sections=[section(quote(CURSOR))],
                sources=[Source(document="a.txt", digest="0" * 64)],
                unread=[Unread(document="z.txt", reason="is empty")],
            )
        ]


async def test_a_draft_goes_back_twice_and_then_without_what_is_wrong() -> None:
    bad = quote(CURSOR, text="Something else is said here.")

    async with Bed(reviewer) as bed:
        for event in (READ, draft(1, bad, quote(CLAIM)), draft(2, bad, quote(CLAIM)), draft(3, bad, quote(CLAIM))):
            await bed.publish(event, key="b-1")
        await bed.quiet()

        assert [revision.version for revision in bed.events(RevisionRequested)] == [1, 2]
        [reviewed] = bed.events(BriefReviewed)
        assert reviewed.sections == [section(quote(CLAIM))]
        assert [dropped.start for dropped in reviewed.dropped] == [bad.start]


async def test_a_draft_of_which_nothing_is_left_fails_the_brief() -> None:
    async with Bed(reviewer) as bed:
        for event in (READ, draft(3, quote(CURSOR, text="Something else is said here."))):
            await bed.publish(event, key="b-1")
        await bed.quiet()

        [failed] = bed.events(BriefFailed)
        assert "stood up to review" in failed.reason
