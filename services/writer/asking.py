"""A draft in a model's words: for each question some sentences, each with the passage and the quote that carry it.

Imported only where a model is configured: it needs the extra `hocket[llm]`.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, Field
from pydantic_ai import Agent as Asked

from hocket import Context
from hocket.llm import Choice, Passage, Template, ask_model, configured
from hocket_schemas.briefs import Evidence, EvidenceFound, Objection, Question, Section, Sentence
from hocket_schemas.lineage import Origin
from hocket_schemas.words import plain

CONTEXT_TOKENS_MAX = 3000
"""Most that the passages for one question come to, by the estimate; the best ones go first."""

SECTION = Template(
    "brief.section",
    "1",
    """Answer the question in at most {sentences_max} sentences of 6 to 40 words, from the passages alone.
Each sentence stands by itself, keeps numbers as its passage has them, and names the one passage that it relies on, with
the words of that passage that carry it, copied letter by letter. What the passages do not say is left out; if they say
nothing to the question, there is no sentence.

Question: {question}
{objections}
Passages, each after its id in brackets:

{passages}""",
)

OBJECTIONS = "A reviewer did not accept these sentences; write others, or none:\n{}\n"


class Told(BaseModel):
    """One sentence of the answer."""

    text: str = Field(description="the sentence, in your words")
    passage: str = Field(description="the id of the passage that it relies on")
    quote: str = Field(description="the words of that passage that carry it, copied letter by letter")


class Answer(BaseModel):
    """What the passages say to the question."""

    sentences: list[Told]


INSTRUCTIONS = "You write briefs. You add nothing to your sources."


async def write(
    ctx: Context,
    questions: Sequence[Question],
    found: Mapping[int, EvidenceFound],
    before: Sequence[Section],
    objections: Sequence[Objection],
    sentences_max: int,
) -> tuple[list[Section], str]:
    """The sections of a brief and who wrote them; of an earlier draft those that nobody has objected to stay."""
    asked = Asked(configured.model(), name="writer", output_type=Answer, instructions=INSTRUCTIONS)
    kept = {section.question: section for section in before if not _objected(section, objections)}

    async def answer(question: Question) -> Section | None:
        if question.no in kept:
            return kept[question.no]
        earlier = [section for section in before if section.question == question.no]
        if before and not earlier:
            return None  # it had no answer, and nobody has asked for one
        return await _ask(ctx, asked, question, found[question.no], _told(earlier, objections), sentences_max)

    sections = await asyncio.gather(*(answer(question) for question in questions if question.no in found))
    return [section for section in sections if section is not None and section.sentences], configured.name()


async def _ask(
    ctx: Context,
    asked: Asked[None, Answer],
    question: Question,
    evidence: EvidenceFound,
    objected: str,
    sentences_max: int,
) -> Section:
    passages = _named(evidence.passages)
    shown = [Passage(id, each.text, f"{each.document}:{each.line}") for id, each in passages.items()]
    prompt = SECTION.filled(
        question=question.text,
        sentences_max=sentences_max,
        objections=OBJECTIONS.format(objected) if objected else "",
        passages=Choice.within(CONTEXT_TOKENS_MAX, shown),
    )
    result = await ask_model(ctx, asked, prompt, name=f"section {question.no}")
    sentences = [_sentence(told, passages, result.run_id) for told in result.output.sentences[:sentences_max]]
    return Section(question=question.no, subject=question.subject, sentences=sentences)


def _named(passages: Sequence[Evidence]) -> dict[str, Evidence]:
    """The passages by ids that say where they stand."""
    named: dict[str, Evidence] = {}
    for passage in passages:
        id = f"{passage.document}:{passage.line}"
        named[id if id not in named else f"{id} ({passage.start})"] = passage
    return named


def _sentence(told: Told, passages: Mapping[str, Evidence], inquiry: str) -> Sentence:
    """A sentence and the place of its quote. One without a place is none; the reviewer will say so."""
    passage = passages.get(told.passage)
    words = r"\s+".join(map(re.escape, told.quote.split()))
    spoken = re.search(rf"(?<!\w){words}(?!\w)", passage.text) if passage and words else None
    if passage is None or spoken is None:
        document, begin, text = (passage.document, passage.start, passage.text) if passage else (told.passage, 0, "")
        first, last, line = 0, len(text), passage.line if passage else 1
        quote = plain(told.quote)
    else:
        document, begin, text, line = passage.document, passage.start, passage.text, passage.line
        first, last = spoken.span()
        quote = plain(text[first:last])
    line_first = line + text.count("\n", 0, first)
    return Sentence(
        text=quote,
        document=document,
        start=begin + first,
        end=begin + last,
        line_first=line_first,
        line_last=line_first + text.count("\n", first, last),
        words=plain(told.text),
        origin=Origin(inquiry=inquiry, items=[told.passage]),
    )


def _objected(section: Section, objections: Sequence[Objection]) -> bool:
    return any(objection.question == section.question for objection in objections)


def _told(sections: Sequence[Section], objections: Sequence[Objection]) -> str:
    """The sentences that somebody has objected to, one a line, each with why."""
    reasons = {(o.question, o.document, o.start, o.end): o.reason for o in objections}
    return "\n".join(
        f"- {sentence.words} ({reasons[place]})"
        for section in sections
        for sentence in section.sentences
        if (place := (section.question, sentence.document, sentence.start, sentence.end)) in reasons
    )
