"""What a reviewer objects to: a sentence that is not what its source says, or that does not stand well here."""

import re
from collections.abc import Iterable, Mapping, Sequence

from hocket_schemas.briefs import Objection, Section, Sentence
from hocket_schemas.documents import Passage
from hocket_schemas.words import plain, terms

WORDS_MIN, WORDS_MAX = 6, 40

SHARED_TERMS_MAX = 0.6
"""Two sentences of whose terms together a larger share is common say the same."""

SUPPORTED_TERMS_MIN = 0.5
"""Of the terms in a model's words at least such a share has to be in the quote."""

GAP_MAX = 12
"""Most characters between two sentences of one paragraph: blanks, a line break, a footnote mark."""

_FLAWS = (
    (
        re.compile(
            r"\b(?:above|below|as follows|the following|following (?:is|are)|see (?:also|the|section|chapter))\b"
            r"|\b(?:next|previous|last|following|preceding) (?:chapter|example|list|paragraph|section|table)s?\b"
            r"|\b(?:described|discussed|defined|documented|explained|given|listed|mentioned|shown|specified)"
            r" (?:earlier|elsewhere|here|in section|in the section|later|there|under)\b"
            r"|\b(?:in|see|under) (?:appendix|chapter|section)\b|\bfootnote"
            r"|\b(?:appendix|chapter|example|figure|listing|section|step|table) [A-Z]?\d",
            re.IGNORECASE,
        ),
        "it points to another place in its document",
    ),
    (
        re.compile(
            r"\b(?:this|these) (?:appendix|book|chapter|document|examples?|list|manual|page|paragraph|section|table"
            r"|text|topic|tutorial)\b|\bdocumentation (?:about|for|of|on)\b",
            re.IGNORECASE,
        ),
        "it speaks of the document instead of the matter",
    ),
    (
        re.compile(
            r"\b(?:let us|let[\u2019']s|we(?:[\u2019']ll| will)"
            r"|notice that|remember that|recall that|you may wonder)\b|!$",
            re.IGNORECASE,
        ),
        "it talks to the reader",
    ),
    (re.compile(r"[?:;,]$|^[^a-z]*$"), "it is a question or a heading"),
)

_MARKUP = re.compile(r"\]\(|https?://|<[A-Za-z/!]|[^\S ]")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_CODE = re.compile(r"`([^`]+)`")
_NEGATION = re.compile(r"\b(?:no|not|never|none|nothing|neither|nor|without|cannot)\b|n['\u2019]t\b", re.IGNORECASE)
_LEANS_BACK = re.compile(r"^\W*(?:Also|However|It|Otherwise|Such|That|Then|Therefore|These|They|This|Those|Thus)\b")


def objections_to(sections: Sequence[Section], passages: Mapping[str, Sequence[Passage]]) -> list[Objection]:
    """Every objection to a draft, at most one per sentence, in the order of the draft."""
    objections = []
    earlier: list[tuple[Sentence, frozenset[str]]] = []
    for section in sections:
        before: Sentence | None = None
        for sentence in section.sentences:
            reason = (
                _mismatch(sentence, passages.get(sentence.document, ()))
                or unsupported(sentence)
                or _flaw(sentence, before, earlier)
            )
            if reason:
                objections.append(
                    Objection(
                        document=sentence.document,
                        start=sentence.start,
                        end=sentence.end,
                        reason=reason,
                        question=section.question,
                    )
                )
            else:
                earlier.append((sentence, frozenset(terms(said(sentence)))))
                before = sentence
    return objections


def without(sections: Sequence[Section], objections: Sequence[Objection]) -> list[Section]:
    """The draft without the sentences objected to, and without sections that have none left."""
    places = {(o.question, o.document, o.start, o.end) for o in objections}
    kept = []
    for section in sections:
        sentences = [s for s in section.sentences if (section.question, s.document, s.start, s.end) not in places]
        if sentences:
            kept.append(section.model_copy(update={"sentences": sentences}))
    return kept


def _mismatch(sentence: Sentence, passages: Sequence[Passage]) -> str | None:
    """Why a sentence is not what its source says there, if it is not."""
    for passage in passages:
        if passage.start <= sentence.start and sentence.end <= passage.end:
            first, last = sentence.start - passage.start, sentence.end - passage.start
            if plain(passage.text[first:last]) != sentence.text:
                return "its source says something else there"
            line_first = passage.line + passage.text.count("\n", 0, first)
            line_last = passage.line + passage.text.count("\n", 0, last)
            if (line_first, line_last) != (sentence.line_first, sentence.line_last):
                return "it stands on other lines of its source"
            return None
    return "its source has no such passage"


def said(sentence: Sentence) -> str:
    """What the brief says there: a model's words, or the quote itself."""
    return sentence.words or sentence.text


def unsupported(sentence: Sentence) -> str | None:
    """Why a model's words go beyond their quote, if that can be seen without understanding either.

    Numbers, names in code and negations have to be those of the quote, and the terms for the greater part. Words that
    pass may still say something else: whether they follow from the quote is for whoever approves the brief.
    """
    if not sentence.words:
        return None
    if not (sentence.words[0].isalnum() or sentence.words[0] in '`"“') or _MARKUP.search(sentence.words):
        return "it has more to it than words"
    for kind, pattern in (("number", _NUMBER), ("name", _CODE)):
        more = sorted(set(pattern.findall(sentence.words)) - set(pattern.findall(sentence.text)))
        if more:
            return f"its quote does not have the {kind} {more[0]}"
    if bool(_NEGATION.search(sentence.words)) != bool(_NEGATION.search(sentence.text)):
        return "one of it and its quote denies something, and the other does not"
    own, theirs = set(terms(sentence.words)), set(terms(sentence.text))
    if len(own & theirs) < SUPPORTED_TERMS_MIN * len(own):
        return "its quote speaks of something else"
    return None


def _flaw(
    sentence: Sentence, before: Sentence | None, earlier: Iterable[tuple[Sentence, frozenset[str]]]
) -> str | None:
    """What is wrong with a sentence whose quote is right, if anything is."""
    text = said(sentence)
    words = len(text.split())
    if not WORDS_MIN <= words <= WORDS_MAX:
        return f"it has {words} words, a brief wants {WORDS_MIN} to {WORDS_MAX}"
    for pattern, reason in _FLAWS:
        if pattern.search(text):
            return reason
    if _LEANS_BACK.match(text) and (sentence.words or not _follows(sentence, before)):
        return "it leans on a sentence that is not here"
    own = frozenset(terms(text))
    for other, theirs in earlier:
        if len(own & theirs) > SHARED_TERMS_MAX * len(own | theirs):
            return f"it says the same as {other.document}:{other.line_first}"
    return None


def _follows(sentence: Sentence, before: Sentence | None) -> bool:
    return before is not None and before.document == sentence.document and 0 <= sentence.start - before.end <= GAP_MAX
