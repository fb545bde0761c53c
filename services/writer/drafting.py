"""A draft: for each question the sentences that answer it best, word for word from the evidence."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hocket_schemas.briefs import Evidence, EvidenceFound, Question, Section, Sentence
from hocket_schemas.words import terms

from .sentences import Span, can_stand, lacks_subject, leans_back, split

Place = tuple[str, int, int]
"""Where a sentence stands: document, start, end."""

PASSAGE_SHARE = 0.35
"""What the fit of the whole passage counts beside the fit of the sentence."""

HEADING_SHARE = 0.5
"""What a term counts that stands in the heading, but not in the sentence."""

OPENING_BONUS = 0.15
"""The first sentence of a paragraph mostly says what it is about, and needs nothing before it."""

DEFINITION_BONUS = 0.1

FIT_MIN = 0.25
"""A sentence that speaks of less of the question is no answer; the section stays short instead."""

FOLLOWERS_MAX = 2
"""Most sentences that may follow the one chosen from a passage."""

FOLLOWER_SCORE_MIN = 0.25
LEANING_FOLLOWER_SCORE_MIN = 0.1
"""A sentence that says "it" for what the one before named need not name it again."""

NARRATION_MALUS = 0.15
"""A tutorial's "we" leads through an example; what holds in general is said without."""

CONDITION_MALUS = 0.1
"""A sentence that begins with "If" tells of a case, before the reader knows the rule."""

_NARRATES = re.compile(r"\b(?:[Ww]e|[Oo]ur|us|I|my|[Ll]et[\u2019']s)\b")


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A sentence that could open a stretch of the answer."""

    evidence: Evidence
    spans: Sequence[Span]
    i: int
    score: float


def draft(
    questions: Sequence[Question],
    found: Mapping[int, EvidenceFound],
    rejected: Collection[Place],
    sentences_max: int,
) -> list[Section]:
    """The sections of a brief, without any sentence in `rejected` and without saying anything twice.

    The same arguments give the same draft, and a rejection changes no more than it has to. A question
    that the evidence does not answer has no section.
    """
    used: set[str] = set()
    sections = []
    for question in questions:
        evidence = found.get(question.no)
        if evidence is None:
            continue
        sentences = _answer(evidence, rejected, used, sentences_max)
        if sentences:
            sections.append(Section(question=question.no, subject=question.subject, sentences=sentences))
    return sections


def _answer(evidence: EvidenceFound, rejected: Collection[Place], used: set[str], sentences_max: int) -> list[Sentence]:
    """Take the best sentence, then what follows it in its paragraph and helps, then the next best."""
    sentences: list[Sentence] = []
    for candidate in sorted(_candidates(evidence, rejected), key=lambda c: -c.score):
        room = min(sentences_max - len(sentences), 1 + FOLLOWERS_MAX)
        if room <= 0:
            break
        if candidate.spans[candidate.i].text.casefold() in used:
            continue
        for span in _stretch(candidate, evidence.weights, rejected, used)[:room]:
            used.add(span.text.casefold())
            sentences.append(_sentence(candidate.evidence, span))
    # Told document by document, the one that says most first, each in its own order.
    documents = [document for document, _ in Counter(s.document for s in sentences).most_common()]
    return sorted(sentences, key=lambda s: (documents.index(s.document), s.start))


def _candidates(evidence: EvidenceFound, rejected: Collection[Place]) -> Iterator[_Candidate]:
    for passage in evidence.passages:
        spans = list(split(passage.text))
        if not spans or lacks_subject(spans[0].text):
            continue  # so is the rest about what only the headline names
        for i, span in enumerate(spans):
            fit = _fit(span.text, evidence.weights, passage.heading)
            if fit >= FIT_MIN and _may_stand(passage, span, rejected) and not leans_back(span.text):
                score = fit + PASSAGE_SHARE * passage.score
                score += OPENING_BONUS * (i == 0) + DEFINITION_BONUS * _defines(span.text, evidence.weights)
                score -= CONDITION_MALUS * span.text.startswith(("If ", "When "))
                score -= NARRATION_MALUS * bool(_NARRATES.search(span.text))
                yield _Candidate(passage, spans, i, round(score, 6))


def _stretch(
    candidate: _Candidate, weights: Mapping[str, float], rejected: Collection[Place], used: Collection[str]
) -> list[Span]:
    """The chosen sentence, and those right behind it as long as they stay with the question."""
    stretch = [candidate.spans[candidate.i]]
    for span in candidate.spans[candidate.i + 1 : candidate.i + 1 + FOLLOWERS_MAX]:
        if not _may_stand(candidate.evidence, span, rejected) or span.text.casefold() in used:
            break
        if _fit(span.text, weights, candidate.evidence.heading) < (
            LEANING_FOLLOWER_SCORE_MIN if leans_back(span.text) else FOLLOWER_SCORE_MIN
        ):
            break
        stretch.append(span)
    return stretch


def _may_stand(passage: Evidence, span: Span, rejected: Collection[Place]) -> bool:
    place = (passage.document, passage.start + span.start, passage.start + span.end)
    return place not in rejected and can_stand(span, passage.text)


def _fit(text: str, weights: Mapping[str, float], heading: str) -> float:
    """The share of the question that a sentence speaks of, from 0 to 1; what its heading says counts in part."""
    spoken, above = set(terms(text)), set(terms(heading))
    return sum(
        weight if term in spoken else HEADING_SHARE * weight
        for term, weight in weights.items()
        if term in spoken or term in above
    )


def _defines(text: str, weights: Mapping[str, float]) -> bool:
    """Whether a sentence says what something of the question is: "A scope defines …", "Names refer to …"."""
    first, _, rest = text.partition(" is " if " is " in text else " are ")
    return bool(rest) and len(first.split()) <= 5 and any(term in weights for term in terms(first))


def _sentence(passage: Evidence, span: Span) -> Sentence:
    line_first = passage.line + passage.text.count("\n", 0, span.start)
    return Sentence(
        text=span.text,
        document=passage.document,
        start=passage.start + span.start,
        end=passage.start + span.end,
        line_first=line_first,
        line_last=line_first + passage.text.count("\n", span.start, span.end),
    )
