"""Where sentences begin and end in a passage, and which of them can stand in a brief."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hocket_schemas.words import plain

WORDS_MIN, WORDS_MAX = 6, 45

_CLOSING = "\"'\u201d\u2019)]*_`"
"""What may stand between a full stop and the blank behind it."""

_END = re.compile(r"[.!?…][\"'”\u2019)\]*_`]*(?=\s|$)|[。\uff01\uff1f][」』”\u2019)]*")
_ABBREVIATION = re.compile(
    r"\b(?:[Ee]\.g|[Ii]\.e|[Cc]f|vs|viz|al|approx|resp|incl|St|Mr|Mrs|Ms|Dr|Prof|Inc|Ltd|Co|Corp|[A-Z])\.$|\.\.$"
)
_ABBREVIATION_BEFORE_NUMBER = re.compile(
    r"\b(?:no|nos|vol|figs?|secs?|sect|chap|ch|pp?|eq|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.$", re.IGNORECASE
)
_GOES_ON = re.compile(r"[a-z,;:)\]\u2013—=]|\.\.")
_RUN_IN_HEAD = re.compile(r"\*\*[^*]{1,60}[.:]\*\*")
"""A name in bold, with its full stop, that the sentence behind it explains."""

_FOOTNOTE = re.compile(r"\s*(?:\[\w{1,3}\]_?(?=\s|$)\s*)+")

_BEGINS = re.compile(r"[\"“\u2018'`*_]{0,3}[^\W\d_]")
_FINAL = re.compile(r"[.!?…][\"'”\u2019)\]*_`]*$|[。\uff01\uff1f][」』”\u2019)]*$")
_BROKEN_WORD = re.compile(r"\w-[ \t]*\r?\n")
_MARKUP = re.compile(
    r"::|:\w+:`|`_|\|\w+\||<[A-Za-z/!]|!\[|\]\(|\]\[|https?://|\[\w{1,3}\]|&[a-z]+;|\{[{%]|\\\w|@\w|[<>=]{3}|→"
)
_FORMULA = re.compile(r"[^\w\s.,;:!?()\"'“”\u2018\u2019`*\u2013—…/-]")
_AUXILIARY = re.compile(
    r"(?:am|are|can|cannot|could|did|do|does|had|has|have|is|may|might|must|shall|should|was|were|will|would"
    r"|\w+n['\u2019]t)"
)
_INFLECTED = re.compile(r"[a-z]+(?:ed|[^aisu'\u2019]s)")

_DESCRIBES = re.compile(r"(?:If|When|For|With|Without)\b[^.]*, (?:return|raise|print|list|display)s?\b")

_AROUND = "\"'`*_,;:.!?()[]“”\u2018\u2019"

_UNSUBJECTED_WORDS = """
about added allow allows analogous are available call called can cannot changed compute computes contains create
creates define defined defines deprecated determine determines display equivalent evaluate example execute find get
gives has have holds implement implemented implements indicate indicates insert invoked is like list may must needs
new note perform performs pop print provide provides raise raises removed renamed replace requires retrieve return
returned returns runs search see should similar specified specifies split supports takes todo used was were will
yields
"""

_UNSUBJECTED = frozenset(_UNSUBJECTED_WORDS.split())
"""First words of notes and of descriptions whose subject stands in a headline above them."""

_POINTING_WITHIN = {"he": 5, "it": 5, "she": 5, "them": 5, "they": 5, "these": 8, "this": 8}
"""A pronoun among so many first words points back; a later one mostly points into the sentence."""

_CONNECTING_WORDS = """
accordingly additionally again also and another besides but consequently conversely else
finally first fourth furthermore hence here however indeed instead lastly likewise meanwhile moreover
nevertheless next nonetheless nor or otherwise rather second secondly similarly so still subsequently
such that then thereafter therefore third thirdly those thus yet
"""

_CONNECTING = frozenset(_CONNECTING_WORDS.split())
_CONNECTING_PHRASES = (
    "as a consequence",
    "as a result",
    "as above",
    "as before",
    "as with",
    "by contrast",
    "for example",
    "for instance",
    "for the same",
    "if not",
    "if so",
    "in addition",
    "in all cases",
    "in all other cases",
    "in both cases",
    "in contrast",
    "in either case",
    "in fact",
    "in other words",
    "in particular",
    "in the former",
    "in the latter",
    "of course",
    "on the other hand",
    "the above",
    "the former",
    "the latter",
    "the other",
    "the same",
    "the second",
    "the third",
    "to do so",
)


@dataclass(frozen=True, slots=True)
class Span:
    """A sentence within a passage."""

    start: int
    end: int
    text: str
    """In plain form."""


def split(passage: str) -> Iterator[Span]:
    """The sentences of a passage, and whatever is left at its end without a full stop."""
    start = _skip_space(passage, 0)
    for match in _END.finditer(passage):
        if match.end() <= start or not _is_end(passage, match.end()):
            continue
        if _RUN_IN_HEAD.fullmatch(passage, start, match.end()):
            continue
        yield Span(start, match.end(), plain(passage[start : match.end()]))
        footnote = _FOOTNOTE.match(passage, match.end())
        start = _skip_space(passage, footnote.end() if footnote else match.end())
    end = len(passage.rstrip())
    if end > start:
        yield Span(start, end, plain(passage[start:end]))


def can_stand(span: Span, passage: str) -> bool:
    """Whether this is a whole sentence in words, free of code and markup.

    What a sentence speaks of, and whether a reader can follow it here, is not judged.
    """
    text = span.text
    words = text.split()
    if not WORDS_MIN <= len(words) <= WORDS_MAX:
        return False
    if _BEGINS.match(text) is None or _FINAL.search(text) is None or not _is_balanced(text):
        return False
    if text[0].islower() or lacks_subject(text):
        return False
    # A word hyphenated at the end of a line cannot be told from a compound, so neither is quoted.
    if _MARKUP.search(text) or _BROKEN_WORD.search(passage, span.start, span.end):
        return False
    return len(_FORMULA.findall(text)) <= 2 and _has_verb(words)


def lacks_subject(text: str) -> bool:
    """Whether a sentence is a note or a description, "Returns the length.": what it is about stands elsewhere."""
    return text.split(maxsplit=1)[0].strip(_AROUND).lower() in _UNSUBJECTED or _DESCRIBES.match(text) is not None


def leans_back(text: str) -> bool:
    """Whether a sentence needs the one before it: it begins with "However", or soon says "this" or "they"."""
    words = [word.strip(_AROUND).lower() for word in text.split()]
    if words[0] in _CONNECTING or text.lower().startswith(_CONNECTING_PHRASES):
        return True
    return any(i < _POINTING_WITHIN.get(word, 0) for i, word in enumerate(words))


def _is_end(passage: str, at: int) -> bool:
    """Whether the full stop before `at` ends a sentence."""
    before = passage[max(0, at - 12) : at].rstrip(_CLOSING)
    following = passage[at : at + 40]
    gap = len(following) - len(following.lstrip())
    following = following.lstrip()
    if before.endswith(("…", "...")):
        return not following or following[0].isupper()
    if _ABBREVIATION.search(before) or (following[:1].isdigit() and _ABBREVIATION_BEFORE_NUMBER.search(before)):
        return False
    # Two blanks set sentences apart in typewritten text, even before a lower-case name.
    return (gap >= 2 and "\n" not in passage[at : at + gap]) or _GOES_ON.match(following) is None


def _has_verb(words: Sequence[str]) -> bool:
    """Whether something looks like a finite verb; it tells a sentence from a name with attributes.

    A participle looks like one too, so "The compiler used." and "A required string." do not count.
    """
    bare = [word.strip(_AROUND) for word in words]
    return any(map(_AUXILIARY.fullmatch, bare[1:])) or any(map(_INFLECTED.fullmatch, bare[2:-1]))


def _skip_space(passage: str, at: int) -> int:
    while at < len(passage) and passage[at].isspace():
        at += 1
    return at


def _is_balanced(text: str) -> bool:
    return (
        all(text.count(a) == text.count(b) for a, b in ("()", "[]", "“”", "{}"))
        and all(text.count(mark) % 2 == 0 for mark in '"`')
        and text.count("*") % 2 == 0
    )
