"""The researcher: which passages it finds, in which order."""

import pytest

from hocket.testing import Bed
from hocket_schemas.briefs import EvidenceFound, Question, QuestionPosed
from hocket_schemas.documents import DocumentRead, Passage

from .agent import researcher
from .ranking import Index, rank, rarity, weights_of

QUESTION = Question(no=1, subject="Cursors", text="What about cursors?", terms=["cursor"], context=["log"])


def read(document: str, *passages: str, heading: str = "") -> DocumentRead:
    return DocumentRead(
        document=document,
        digest="0" * 64,
        passages=[
            Passage(start=100 * i, end=100 * i + len(text), line=i + 1, text=text, heading=heading)
            for i, text in enumerate(passages)
        ],
    )


def index_of(*documents: DocumentRead) -> Index:
    index = Index()
    for document in documents:
        index.add(document)
    return index


def found(index: Index, question: Question = QUESTION, most: int = 10) -> list[str]:
    return [f"{e.document}:{e.line}" for e in rank(index, weights_of(index, question), most)]


def test_only_passages_with_a_term_of_the_question_are_found() -> None:
    index = index_of(read("a.txt", "The cursor moves on.", "Nothing of that kind is here."))

    assert found(index) == ["a.txt:1"]


def test_more_of_the_question_ranks_higher() -> None:
    index = index_of(read("a.txt", "A log is kept.", "The cursor of a log moves on.", "A cursor moves on."))

    assert found(index) == ["a.txt:2", "a.txt:3", "a.txt:1"]


def test_a_passage_under_the_right_heading_is_found_by_it() -> None:
    index = index_of(read("a.txt", "It moves on.", heading="Cursors"), read("b.txt", "It stays."))

    assert found(index) == ["a.txt:1"]


def test_where_a_matter_is_the_subject_ranks_above_where_it_is_mentioned() -> None:
    index = index_of(
        read("a.txt", "A cursor is there.", "Some rain falls.", "Some snow falls."),
        read("b.txt", "A cursor is here.", "The cursor waits.", "The cursor moves."),
    )

    assert found(index)[0].startswith("b.txt")


def test_a_passage_that_occurs_twice_is_found_once_where_it_came_first() -> None:
    index = index_of(read("a.txt", "The cursor\n  moves on."), read("b.txt", "The cursor moves on."))

    assert found(index) == ["a.txt:1"]


def test_equals_keep_the_order_of_the_library() -> None:
    index = index_of(*(read(f"{name}.txt", f"The cursor moves {name}{name}.") for name in "abcdef"))

    assert found(index, most=3) == ["a.txt:1", "b.txt:1", "c.txt:1"]


def test_the_best_passage_scores_1_and_the_others_less() -> None:
    index = index_of(read("a.txt", "A log is kept.", "The cursor of a log moves on."))

    scores = [e.score for e in rank(index, weights_of(index, QUESTION), 10)]

    assert scores[0] == 1
    assert 0 < scores[1] < 1


def test_a_term_of_the_topic_weighs_less_than_one_of_the_question() -> None:
    index = index_of(read("a.txt", "The cursor moves on.", "A log is kept."))

    weights = weights_of(index, QUESTION)

    assert weights["log"] < weights["cursor"]
    assert sum(weights.values()) == pytest.approx(1, abs=1e-5)


def test_an_unknown_question_finds_nothing() -> None:
    index = index_of(read("a.txt", "Nothing of that kind is here."))

    assert weights_of(index, QUESTION) == {}
    assert found(index) == []


@pytest.mark.parametrize("having", [0, 1, 50, 100])
def test_a_rare_term_tells_more_and_none_tells_nothing(having: int) -> None:
    assert rarity(100, having) > rarity(100, having + 1) > 0 or having == 100


async def test_each_question_gets_its_evidence() -> None:
    second = Question(no=2, subject="Claims", text="What about claims?", terms=["claim"])

    async with Bed(researcher) as bed:
        await bed.publish(read("b.txt", "A claim makes an owner."), key="b-1")
        await bed.publish(read("a.txt", "The cursor moves on."), key="b-1")
        await bed.publish(QuestionPosed(question=QUESTION, library="l-1"), key="b-1")
        await bed.publish(QuestionPosed(question=second, library="l-1"), key="b-1")
        await bed.quiet()

        evidence = bed.events(EvidenceFound)
        assert [(e.question, [p.document for p in e.passages]) for e in evidence] == [(1, ["a.txt"]), (2, ["b.txt"])]


async def test_libraries_of_different_briefs_are_kept_apart() -> None:
    async with Bed(researcher) as bed:
        for key in ("b-2", "b-3"):
            await bed.publish(read(f"{key}.txt", "The cursor moves on."), key=key)
            await bed.publish(QuestionPosed(question=QUESTION, library="same"), key=key)
        await bed.quiet()

        found_in = [[p.document for p in e.passages] for e in bed.events(EvidenceFound)]
        assert sorted(found_in) == [["b-2.txt"], ["b-3.txt"]]
