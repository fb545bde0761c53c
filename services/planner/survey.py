"""What the documents are about: every passage weighed, every heading and phrase noted."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from hocket_schemas.documents import DocumentRead
from hocket_schemas.words import STOPWORDS, plain, terms

HEADING_SHARE, PHRASE_SHARE = 1.0, 0.5
"""A heading is what its author thought worth naming; a phrase is a guess at it."""

PHRASE_COUNT_MIN = 3
"""Passages that have to use a phrase before it counts for one."""

WORD_LENGTH_MIN = 4
"""A shorter word makes no phrase."""

_EMPTY_HEADING_LINES = """
acknowledgements|appendix|authors|background|basic usage|bibliography|changelog|changes|conclusion|consequences|contents
context|copyright|credits|decision|description|details|example|examples|faq|footnotes|further reading|general
getting started|history|index|introduction|license|links|next steps|not read|note|notes|options|overview|preface
references|remarks|see also|sources|status|summary|synopsis|table of contents|todo|usage|what's next
"""

_EMPTY_HEADINGS = frozenset(re.split(r"[|\n]", _EMPTY_HEADING_LINES.strip()))
"""Headings that name no subject."""

_NUMBERING = re.compile(r"^(?:(?:chapter|section|part)\s+)?(?:\d+(?:\.\d+)*\.?|[ivxlc]+\.)\s+", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[()\[\]{}<>=|\\$@^~;:]|::|https?")
_RUN = re.compile(r"[^\W\d_][\w\u2019'-]*(?: [^\W\d_][\w\u2019'-]*)*")


@dataclass(frozen=True, slots=True)
class Text:
    """A passage as the planner sees it."""

    document: str
    counts: Mapping[str, int]
    """How often it uses each term."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that the brief could ask about."""

    subject: str
    terms: tuple[str, ...]
    texts: tuple[int, ...]
    """The passages that it covers, by their place in the survey, ascending."""

    share: float
    """What it counts, from 0 to 1."""


@dataclass(slots=True)
class Survey:
    """All passages of a library; the same documents in the same order give the same survey."""

    texts: list[Text] = field(default_factory=list)
    tf: Counter[str] = field(default_factory=Counter)
    """How often each term is used."""

    df: Counter[str] = field(default_factory=Counter)
    """How many passages use it."""

    _seen: set[str] = field(default_factory=set)
    _headings: dict[str, list[int]] = field(default_factory=dict)
    _phrases: dict[str, list[int]] = field(default_factory=dict)

    def add(self, read: DocumentRead) -> None:
        """Take in a document, or a part of one, except for what another one says word for word."""
        for passage in read.passages:
            text = plain(passage.text)
            if text in self._seen:
                continue
            self._seen.add(text)
            i = len(self.texts)
            counts = Counter(terms(text))
            self.texts.append(Text(read.document, counts))
            # What stands in the heading is spoken of, even if a pronoun takes its place below.
            for spoken in (counts, dict.fromkeys((t for t in terms(passage.heading) if t not in counts), 1)):
                self.tf.update(spoken)
                self.df.update(spoken.keys())
            if heading := _clean(passage.heading):
                self._headings.setdefault(heading, []).append(i)
            for phrase in dict.fromkeys(_phrases(text)):
                self._phrases.setdefault(phrase, []).append(i)

    def rarity(self, term: str) -> float:
        """How telling a term is: above 0, more for one that few passages use, 0 for one that none does."""
        return math.log(1 + len(self.texts) / self.df[term]) if term in self.df else 0.0

    def salience(self, term: str) -> float:
        """How much the documents make of a term: it is used often, but not everywhere."""
        return math.sqrt(self.tf[term]) * self.rarity(term)

    def candidates(self) -> Iterator[Candidate]:
        """Every heading, and the phrases that are used again and again."""
        taken: set[frozenset[str]] = set()
        for subject, covered in [*self._headings.items(), *self._phrases.items()]:
            is_heading = subject in self._headings
            wanted = tuple(dict.fromkeys(terms(subject)))
            if not wanted or frozenset(wanted) in taken or (not is_heading and len(covered) < PHRASE_COUNT_MIN):
                continue
            taken.add(frozenset(wanted))
            yield Candidate(subject, wanted, tuple(covered), HEADING_SHARE if is_heading else PHRASE_SHARE)


def _clean(heading: str) -> str:
    """A heading as a subject; empty if it names none."""
    subject = _NUMBERING.sub("", heading).strip("*_`# ").rstrip(".:?!")
    if subject.lower() in _EMPTY_HEADINGS or _UNPRINTABLE.search(subject) or not 1 <= len(subject.split()) <= 8:
        return ""
    return subject if terms(subject) else ""


def _phrases(text: str) -> Iterator[str]:
    """Pairs of neighbours that both say something."""
    for run in _RUN.findall(text):
        words = run.lower().split(" ")
        for first, second in pairwise(words):
            if first not in STOPWORDS and second not in STOPWORDS and min(len(first), len(second)) >= WORD_LENGTH_MIN:
                yield f"{first} {second}"
