"""The writer: what it takes for a sentence, which ones it chooses, and how it revises."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.testing import Bed
from hocket_schemas.briefs import (
    BriefDrafted,
    BriefFailed,
    BriefPlanned,
    Evidence,
    EvidenceFound,
    Objection,
    Question,
    RevisionRequested,
    Section,
)
from hocket_schemas.words import plain

from .agent import writer
from .drafting import draft
from .sentences import Span, can_stand, leans_back, split

CURSOR = "The cursor says how far an agent has come in the log."
MOVES = "It moves on when the events before it are finished."
READ = "An agent reads its cursor at the start."
LAST = "Nobody but the owner writes the cursor of an agent."
CLAIM = "A claim makes one instance of an agent the owner."


def sentences(passage: str) -> list[str]:
    return [span.text for span in split(passage)]


def stands(text: str) -> bool:
    return can_stand(Span(0, len(text), text), text)


def question(no: int, term: str) -> Question:
    return Question(no=no, subject=term.title(), text=f"What about {term}?", terms=[term])


def evidence(no: int, term: str, *passages: str, document: str = "a.txt") -> EvidenceFound:
    return EvidenceFound(
        question=no,
        passages=[
            Evidence(document=document, start=1000 * i, line=10 * i + 1, text=text, score=1 - i / 10)
            for i, text in enumerate(passages)
        ],
        weights={term: 1.0},
    )


def drafted(
    *found: EvidenceFound, rejected: frozenset[tuple[str, int, int]] = frozenset(), most: int = 5
) -> list[Section]:
    questions = [question(e.question, next(iter(e.weights))) for e in found]
    return draft(questions, {e.question: e for e in found}, rejected, most)


def quoted(sections: list[Section]) -> list[list[str]]:
    return [[sentence.text for sentence in section.sentences] for section in sections]


# Sentences


@pytest.mark.parametrize(
    ("passage", "wants"),
    [
        ("One is here. Two is\n  there! Is it?", ["One is here.", "Two is there!", "Is it?"]),
        ("It says “so.” Then (it ends.) Done.", ["It says “so.”", "Then (it ends.)", "Done."]),
        ("Use e.g. this, i.e. that, cf. Smith. Then go.", ["Use e.g. this, i.e. that, cf. Smith.", "Then go."]),
        ("See no. 5 and fig. 3 of J. Doe. Say no. Go.", ["See no. 5 and fig. 3 of J. Doe.", "Say no.", "Go."]),
        ("Version 3.11 came. It is x.y now.", ["Version 3.11 came.", "It is x.y now."]),
        ("Lists, sets, etc. are types. Next.", ["Lists, sets, etc. are types.", "Next."]),
        ("From a import ... so it goes. Next.", ["From a import ... so it goes.", "Next."]),
        ("The \"try\" … \"except\" statement is one. Next.", ["The \"try\" … \"except\" statement is one.", "Next."]),
        ("One ends.  yield is a name. Two.", ["One ends.", "yield is a name.", "Two."]),
        ("It ends. [1] The next one. [12]", ["It ends.", "The next one."]),
        ("**Token.** The sequence of a claim.", ["**Token.** The sequence of a claim."]),
        ("No stop at the end", ["No stop at the end"]),
        ("  \n ", []),
    ],
)  # fmt: skip
def test_a_passage_falls_into_its_sentences(passage: str, wants: list[str]) -> None:
    assert sentences(passage) == wants


def test_a_sentence_knows_where_it_stands() -> None:
    passage = "First one.\n   Second\n one here."

    spans = list(split(passage))

    assert [passage[span.start : span.end] for span in spans] == ["First one.", "Second\n one here."]


@given(st.text(alphabet=st.sampled_from("Aab .!?…\"'()[]*1\n,"), max_size=80))
def test_whatever_a_passage_holds_nothing_of_it_is_in_two_sentences(passage: str) -> None:
    spans = list(split(passage))

    assert all(plain(passage[span.start : span.end]) == span.text != "" for span in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))


@pytest.mark.parametrize(
    "text",
    [
        CURSOR,
        "*Names* refer to objects in the program text.",
        '"UnboundLocalError" is a subclass of that other error.',
        "The `open` call returns a file, or raises an error.",
        "Events (and commands, too) are handled in log order.",
        "Der Läufer kommt an, wenn the others are gone.",
    ],
)
def test_a_whole_sentence_can_stand(text: str) -> None:
    assert stands(text)


@pytest.mark.parametrize(
    "text",
    [
        "Too short to stand.",
        "A sentence " + "goes on and " * 30 + "ends.",
        "a sentence that begins in the middle of another one.",
        "A sentence whose end is missing, for example:",
        "(A sentence that is an aside, in brackets, of another.)",
        "A sentence with a bracket (that is never closed in it.",
        'A sentence with a quote" that never began in it.',
        "Return a copy of the string with its case folded.",
        "Called when the instance is about to be destroyed by us.",
        "Changed in version 3.8: The rule is now another one.",
        "A sentence with :ref:`debris` of another markup in it.",
        "A sentence with <b>markup</b> of a page is left in it.",
        "A sentence with [a link](other.md) is not for quoting.",
        "A formula x = y + z ^ 2 | w is no sentence.",
        "An optional map of the environment used.",
        "Several instances of one agent working on one shard.",
    ],
)
def test_what_is_no_whole_sentence_cannot_stand(text: str) -> None:
    assert not stands(text)


def test_a_word_broken_at_the_end_of_a_line_is_not_quoted() -> None:
    passage = "The class is a *non-\nvirtual base class* of the exception object."

    assert not can_stand(next(split(passage)), passage)


@pytest.mark.parametrize(
    ("text", "leans"),
    [
        (CURSOR, False),
        (MOVES, True),
        ("However, the cursor may be behind.", True),
        ("When this is done, the cursor moves.", True),
        ("In that case the cursor stays.", False),
        ("For example, the cursor stays where it was.", True),
        ("Those are the rules of the log.", True),
        ("The owner writes, and nobody asks it to.", False),
    ],
)
def test_a_sentence_that_needs_the_one_before_is_known(text: str, leans: bool) -> None:
    assert leans_back(text) is leans


# Drafts


def test_a_sentence_comes_with_what_follows_it() -> None:
    sections = drafted(evidence(1, "cursor", f"{CURSOR} {MOVES.replace('the events', 'the cursor')}"))

    assert quoted(sections) == [[CURSOR, MOVES.replace("the events", "the cursor")]]


def test_a_sentence_that_leans_back_does_not_come_alone() -> None:
    sections = drafted(evidence(1, "cursor", f"{CLAIM} It needs the cursor of the agent before."))

    assert quoted(sections) == []


def test_a_sentence_cites_its_own_lines() -> None:
    passage = "Some rain falls on all of it.\n" + CURSOR.replace("has come", "has\n   come")

    [section] = drafted(evidence(1, "cursor", passage))

    [sentence] = section.sentences
    assert (sentence.line_first, sentence.line_last) == (2, 3)
    assert (sentence.start, sentence.end) == (passage.index("The cursor"), len(passage))
    assert sentence.text == CURSOR


def test_nothing_is_said_twice() -> None:
    sections = drafted(
        evidence(1, "cursor", CURSOR),
        evidence(2, "agent", CURSOR.upper().capitalize(), CURSOR, CLAIM, document="b.txt"),
    )

    assert quoted(sections) == [[CURSOR], [CLAIM]]


def test_an_answer_stays_within_its_length() -> None:
    passages = [f"The cursor of agent {i} says how far it has come." for i in range(9)]

    [section] = drafted(evidence(1, "cursor", *passages), most=4)

    assert len(section.sentences) == 4


def test_an_answer_is_told_in_the_order_of_its_documents() -> None:
    later = "Every cursor is a record."

    [section] = drafted(evidence(1, "cursor", f"Some rain falls on all of it. {CURSOR}", f"{later[:-1]} of one agent."))

    assert [s.start for s in section.sentences] == sorted(s.start for s in section.sentences)


def test_a_description_without_its_subject_is_passed_over_with_all_that_follows() -> None:
    sections = drafted(evidence(1, "cursor", f"Returns the cursor of the agent. {CURSOR}"))

    assert sections == []


def test_a_rejected_sentence_is_replaced_and_the_others_stay() -> None:
    found = [evidence(1, "cursor", CURSOR, READ), evidence(2, "claim", CLAIM)]
    before = drafted(*found, most=1)

    after = drafted(*found, rejected=frozenset({("a.txt", 0, len(CURSOR))}), most=1)

    assert quoted(before) == [[CURSOR], [CLAIM]]
    assert quoted(after) == [[READ], [CLAIM]]


def test_a_question_without_an_answer_has_no_section() -> None:
    sections = drafted(evidence(1, "rain", CURSOR), evidence(2, "claim", CLAIM))

    assert [section.question for section in sections] == [2]


# The agent


def plan(*terms: str) -> BriefPlanned:
    questions = [question(no, term) for no, term in enumerate(terms, 1)]
    return BriefPlanned(title="Notes", questions=questions, sentences_max=1)


async def test_a_draft_is_written_when_all_evidence_is_there() -> None:
    async with Bed(writer) as bed:
        for event in (plan("cursor", "claim"), evidence(2, "claim", CLAIM)):
            await bed.publish(event, key="b-1")
        await bed.quiet()
        drafted_early = bed.events(BriefDrafted)
        await bed.publish(evidence(1, "cursor", CURSOR), key="b-1")
        await bed.quiet()

        assert drafted_early == []
        [first] = bed.events(BriefDrafted)
        assert (first.version, first.title, quoted(first.sections)) == (1, "Notes", [[CURSOR], [CLAIM]])


async def test_a_revision_leaves_out_what_was_ever_objected_to() -> None:
    objections = [
        RevisionRequested(version=version, objections=[Objection(document="a.txt", start=start, end=end, reason="no")])
        for version, (start, end) in enumerate([(0, len(CURSOR)), (1000, 1000 + len(READ))], 1)
    ]

    async with Bed(writer) as bed:
        for event in (plan("cursor"), evidence(1, "cursor", CURSOR, READ, LAST), *objections):
            await bed.publish(event, key="b-1")
        await bed.quiet()

        drafts = bed.events(BriefDrafted)
        assert [(d.version, quoted(d.sections)) for d in drafts] == [(1, [[CURSOR]]), (2, [[READ]]), (3, [[LAST]])]


async def test_an_objection_to_an_old_draft_is_void() -> None:
    async with Bed(writer) as bed:
        await bed.publish(plan("cursor"), key="b-1")
        await bed.publish(evidence(1, "cursor", CURSOR), key="b-1")
        await bed.quiet()
        await bed.publish(RevisionRequested(version=7, objections=[]), key="b-1")
        await bed.quiet()

        assert [d.version for d in bed.events(BriefDrafted)] == [1]


async def test_evidence_without_a_sentence_fails_the_brief() -> None:
    async with Bed(writer) as bed:
        for event in (plan("cursor"), EvidenceFound(question=1, passages=[], weights={})):
            await bed.publish(event, key="b-1")
        await bed.quiet()

        [failed] = bed.events(BriefFailed)
        assert "no sentence that answers" in failed.reason
