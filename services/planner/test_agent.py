"""The planner: what it waits for, and what it asks."""

import pytest

from hocket.testing import Bed
from hocket_schemas.briefs import BriefFailed, BriefPlanned, BriefRequested, Question, QuestionPosed
from hocket_schemas.documents import DocumentRead, DocumentRefused, LibraryListed, Passage

from .agent import planner
from .subjects import parts_of, questions_of, title_of
from .survey import PHRASE_COUNT_MIN, Survey

REQUEST = BriefRequested(folder="/docs/cursor-notes", out="/out/brief.md")

LOGS = "A log keeps every event that anybody has stated."
CURSORS = "The cursor says how far an agent has come in the log."
CLAIMS = "A claim makes one instance the owner, and fences the others."


def read(document: str, *passages: tuple[str, str], part: int = 1, parts: int = 1) -> DocumentRead:
    return DocumentRead(
        document=document,
        digest="0" * 64,
        passages=[Passage(start=0, end=len(text), line=1, text=text, heading=heading) for heading, text in passages],
        part=part,
        parts=parts,
    )


LIBRARY = [
    read("a.md", ("The log", LOGS), ("The log", "A log forgets what is too old."), ("Overview", "All is a log here.")),
    read("b.md", ("Cursors", CURSORS), ("Cursors", "Reading starts at the cursor."), ("Claims", CLAIMS)),
]


def ask(topic: str = "", most: int = 6, library: list[DocumentRead] = LIBRARY) -> list[Question]:
    survey = Survey()
    for document in library:
        survey.add(document)
    return questions_of(survey, topic, most)


# Subjects


def test_without_a_topic_the_headings_are_asked_about() -> None:
    subjects = [question.subject for question in ask()]

    assert sorted(subjects) == ["Claims", "Cursors", "The log"]


def test_questions_are_numbered_in_the_order_of_the_brief() -> None:
    assert [question.no for question in ask(most=2)] == [1, 2]


def test_a_topic_comes_first_and_then_what_is_close_to_it() -> None:
    subjects = [question.subject for question in ask("How an agent comes to its owner")]

    assert subjects[0] == "How an agent comes to its owner"
    assert "Claims" in subjects[1:]
    assert "The log" not in subjects


def test_each_part_of_a_topic_gets_its_share_of_the_questions() -> None:
    questions = ask("cursors and claims", most=2)

    assert [question.subject for question in questions] == ["Cursors", "Claims"]
    assert [question.terms for question in questions] == [["cursor"], ["claim"]]


def test_a_subject_that_only_repeats_another_is_not_asked_about() -> None:
    subjects = [question.subject for question in ask("log")]

    assert subjects[0] == "Log"
    assert "The log" not in subjects


def test_a_topic_of_unknown_words_gives_no_question() -> None:
    assert ask("quantum chromodynamics") == []


def test_words_that_say_nothing_give_no_question() -> None:
    assert ask("how and why is it so") == []


def test_documents_without_headings_are_asked_about_by_their_words() -> None:
    texts = [f"The cursor moved on to place {i} of the log." for i in range(PHRASE_COUNT_MIN)]

    questions = ask(library=[read("a.txt", *(("", text) for text in texts))])

    assert "Cursor moved" in [question.subject for question in questions]


def test_documents_that_name_few_subjects_are_asked_for_their_main_points() -> None:
    [question] = ask(library=[read("a.txt", ("", LOGS))])

    assert question.subject == "Main points"
    assert set(question.terms) <= {"log", "keep", "event", "anybod", "stat"}


def test_the_same_passage_in_two_documents_counts_once() -> None:
    survey = Survey()

    survey.add(read("a.txt", ("", LOGS)))
    survey.add(read("b.txt", ("", LOGS.replace(" ", "\n  "))))

    assert len(survey.texts) == 1


@pytest.mark.parametrize("heading", ["Overview", "2.1 Examples", "f(x) = y", "the", "See also"])
def test_a_heading_that_names_no_subject_is_not_asked_about(heading: str) -> None:
    questions = ask(library=[read("a.txt", (heading, LOGS))])

    assert heading not in [question.subject for question in questions]


@pytest.mark.parametrize(
    ("topic", "parts"),
    [
        ("How Python evaluates expressions and handles exceptions",
         ["How Python evaluates expressions", "How Python handles exceptions"]),
        ("How ownership and borrowing work?", ["Ownership", "Borrowing"]),
        ("How the import system works", ["How the import system works"]),
        ("Classes, functions and modules", ["Classes", "Functions", "Modules"]),
        ("iterators; generators", ["Iterators", "Generators"]),
        ("", []),
        ("and", []),
    ],
)  # fmt: skip
def test_a_topic_has_parts_that_stand_alone(topic: str, parts: list[str]) -> None:
    assert parts_of(topic) == parts


@pytest.mark.parametrize(
    ("title", "topic", "folder", "called"),
    [
        ("My  brief", "a topic", "/docs", "My brief"),
        ("", "how logs work?", "/docs", "How logs work"),
        ("", "", "/docs/python-3.11-reference", "Python 3.11 reference"),
        ("", "", "/", "Brief"),
        ("", "???", "/docs", "Docs"),
    ],
)
def test_a_brief_has_a_title(title: str, topic: str, folder: str, called: str) -> None:
    assert title_of(title, topic, folder) == called


# The agent


async def test_questions_are_posed_once_every_document_is_settled() -> None:
    async with Bed(planner) as bed:
        for event in (
            REQUEST,
            LibraryListed(documents=3),
            LIBRARY[0],
            DocumentRefused(document="x", reason="is empty"),
        ):
            await bed.publish(event, key="b-1")
        await bed.quiet()
        posed_early = bed.events(QuestionPosed)
        await bed.publish(LIBRARY[1], key="b-1")
        await bed.quiet()

        assert posed_early == []
        [plan] = bed.events(BriefPlanned)
        assert plan.title == "Cursor notes"
        assert [posed.question for posed in bed.events(QuestionPosed)] == plan.questions == ask()


async def test_a_document_in_parts_is_settled_by_its_last_one() -> None:
    async with Bed(planner) as bed:
        for event in (REQUEST, LibraryListed(documents=1), read("a.md", ("The log", LOGS), part=1, parts=2)):
            await bed.publish(event, key="b-1")
        await bed.quiet()
        planned_early = bed.events(BriefPlanned)
        await bed.publish(read("a.md", ("Claims", CLAIMS), part=2, parts=2), key="b-1")
        await bed.quiet()

        assert planned_early == []
        [plan] = bed.events(BriefPlanned)
        assert {question.subject for question in plan.questions} >= {"The log", "Claims"}


async def test_a_library_that_nobody_can_read_fails_the_brief() -> None:
    async with Bed(planner) as bed:
        for event in (REQUEST, LibraryListed(documents=1), DocumentRefused(document="x.txt", reason="is binary")):
            await bed.publish(event, key="b-1")
        await bed.quiet()

        [failed] = bed.events(BriefFailed)
        assert "None of the 1 documents in /docs/cursor-notes could be read; for one, x.txt is binary." in failed.reason


@pytest.mark.parametrize(
    ("topic", "passages", "says"),
    [("quantum", [("", LOGS)], "No word of the topic “quantum”"), ("", [], "hold no prose to quote")],
)
async def test_a_library_without_an_answer_fails_the_brief(
    topic: str, passages: list[tuple[str, str]], says: str
) -> None:
    async with Bed(planner) as bed:
        for event in (
            REQUEST.model_copy(update={"topic": topic}),
            LibraryListed(documents=1),
            read("a.txt", *passages),
        ):
            await bed.publish(event, key="b-1")
        await bed.quiet()

        [failed] = bed.events(BriefFailed)
        assert says in failed.reason
