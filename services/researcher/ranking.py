"""Which passages speak to a question: BM25, written plainly, the same on every machine."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hocket_schemas.briefs import Evidence, Question
from hocket_schemas.documents import DocumentRead, Passage
from hocket_schemas.words import plain, terms

SATURATION = 1.2
"""How soon a repeated term stops to count (BM25's k1)."""

LENGTH_SHARE = 0.4
"""How much a long passage must say to score like a short one (BM25's b)."""

CONTEXT_WEIGHT = 0.4
"""What a term of the topic weighs beside one of the question itself."""

HEADING_COUNT = 2
"""A term in the heading counts like so many in the passage."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A passage as the index sees it."""

    document: str
    passage: Passage
    counts: Mapping[str, int]
    length: int


@dataclass(slots=True)
class Index:
    """All passages of a library, and where each term occurs."""

    entries: list[Entry] = field(default_factory=list)
    postings: dict[str, list[int]] = field(default_factory=dict)
    """Term to places in `entries`, ascending."""

    groups: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """The passages that stand together under one heading of one document, ascending."""

    _seen: set[str] = field(default_factory=set)
    _length: int = 0

    def add(self, read: DocumentRead) -> None:
        """Take in a document, or a part of one; of passages that say the same only the first counts."""
        for passage in read.passages:
            text = plain(passage.text)
            if text in self._seen:
                continue
            self._seen.add(text)
            counts = Counter(terms(text))
            length = counts.total()
            for term in terms(passage.heading):
                counts[term] += HEADING_COUNT
            place = len(self.entries)
            for term in counts:
                self.postings.setdefault(term, []).append(place)
            self.groups.setdefault((read.document, passage.heading), []).append(place)
            self.entries.append(Entry(read.document, passage, counts, length))
            self._length += length

    @property
    def length_mean(self) -> float:
        """The terms of a passage on average, at least 1."""
        return max(1.0, self._length / len(self.entries)) if self.entries else 1.0


def weights_of(index: Index, question: Question) -> dict[str, float]:
    """How much each term of the question tells: rare ones more. They sum to 1; unknown terms have none."""
    shares = dict.fromkeys(question.context, CONTEXT_WEIGHT) | dict.fromkeys(question.terms, 1.0)
    raw = {
        term: share * rarity(len(index.entries), len(index.postings[term]))
        for term, share in sorted(shares.items())
        if term in index.postings
    }
    total = sum(raw.values())
    return {term: round(weight / total, 6) for term, weight in raw.items()} if total else {}


def rank(index: Index, weights: Mapping[str, float], most: int) -> list[Evidence]:
    """The passages that fit best, best first; the best has score 1. Equals keep the order of the library.

    A passage whose neighbours speak of the same counts up to double: there the matter is the subject,
    elsewhere it is mentioned.
    """
    scores: dict[int, float] = {}
    length_mean = index.length_mean
    for term, weight in weights.items():
        for i in index.postings.get(term, ()):
            entry = index.entries[i]
            count = entry.counts[term]
            stretch = 1 - LENGTH_SHARE + LENGTH_SHARE * entry.length / length_mean
            gain = weight * count * (SATURATION + 1) / (count + SATURATION * stretch)
            scores[i] = scores.get(i, 0.0) + gain
    for group in index.groups.values():
        about = sum(weights[term] * _share(index, group, term) for term in weights)
        for i in group:
            if i in scores:
                scores[i] *= 1 + about
    best = sorted(scores, key=lambda i: (-scores[i], i))[:most]
    return [_evidence(index.entries[i], scores[i] / scores[best[0]]) for i in best]


def _share(index: Index, group: Sequence[int], term: str) -> float:
    """How many of the passages under one heading speak of a term."""
    return sum(term in index.entries[i].counts for i in group) / len(group)


def rarity(total: int, having: int) -> float:
    """BM25's inverse document frequency; above 0 even for a term that is everywhere."""
    return math.log(1 + (total - having + 0.5) / (having + 0.5))


def _evidence(entry: Entry, score: float) -> Evidence:
    passage = entry.passage
    return Evidence(
        document=entry.document,
        start=passage.start,
        line=passage.line,
        text=passage.text,
        heading=passage.heading,
        score=round(score, 6),
    )
