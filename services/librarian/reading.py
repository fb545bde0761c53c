"""From a document's text to its passages: paragraphs and list items, each with where it stands."""

import re
from collections.abc import Iterable, Iterator

from hocket_schemas.documents import Passage
from hocket_schemas.words import plain

from .layout import Block, blocks_of
from .pages import text_of

PASSAGE_CHARS_MAX = 2000
"""A longer paragraph is cut, after a sentence if it has any."""

PASSAGE_WORDS_MIN = 4

PART_BYTES_MAX = 150_000
"""Most bytes of passages in one event, roughly: far below what an event may have."""

_LETTERS_SHARE_MIN = 0.7
_CODE = re.compile(
    r"::=|>>>|(?:^|\n)\s*(?:def|class|import|from|return|if|for|while|#include|\$|#!)\s[^\n]*[^.,\s][ \r]*(?:\n|$)"
    r"|[{};][ \r]*(?:\n|$)"
)
_SENTENCE_END = re.compile(r"[.!?…][\"'\u201d\u2019)\]*_`]*(?=\s|$)|[\u3002\uff01\uff1f]")


def passages_of(document: str, text: str) -> list[Passage]:
    """Every passage of prose in a document; what looks like code, a table or a directive is left out."""
    if document.lower().endswith((".html", ".htm")):
        text, blocks = text_of(text)
    else:
        blocks = list(blocks_of(text, front_matter=document.lower().endswith((".md", ".markdown"))))
    return list(_passages(text, blocks))


def parts_of(passages: list[Passage]) -> list[list[Passage]]:
    """The passages in portions that each fit an event; at least one portion, which may be empty."""
    parts: list[list[Passage]] = [[]]
    size = 0
    for passage in passages:
        bytes_more = len(passage.text.encode()) + len(passage.heading.encode()) + 100
        if parts[-1] and size + bytes_more > PART_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(passage)
        size += bytes_more
    return parts


def _passages(text: str, blocks: Iterable[Block]) -> Iterator[Passage]:
    line, counted = 1, 0
    heading = ""
    for block in blocks:
        if block.heading:
            heading = plain(text[block.start : block.end])[:200]
            continue
        for start, end in _cut(text, *_trimmed(text, block.start, block.end)):
            passage = text[start:end]
            if not is_prose(passage):
                continue
            line += text.count("\n", counted, start)
            counted = start
            yield Passage(start=start, end=end, line=line, text=passage, heading=block.term or heading)


def is_prose(passage: str) -> bool:
    """Whether a passage holds a sentence, rather than code, a formula, or a line of a list of names."""
    if _SENTENCE_END.search(passage) is None or _CODE.search(passage) is not None:
        return False
    letters = sum(c.isalpha() or c == " " or c == "\n" for c in passage)
    return letters >= _LETTERS_SHARE_MIN * len(passage) and len(passage.split()) >= PASSAGE_WORDS_MIN


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The same stretch without whitespace, or a byte order mark, at its ends."""
    stretch = text[start:end]
    start += len(stretch) - len(stretch.lstrip("\ufeff \t\r\n\f\v\xa0"))
    return start, max(start, start + len(text[start:end].rstrip()))


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > PASSAGE_CHARS_MAX:
        stretch = text[start : start + PASSAGE_CHARS_MAX]
        ends = [match.end() for match in _SENTENCE_END.finditer(stretch)]
        # The last end may be no end: the stretch stops there, whatever follows in the text.
        cut = max((at for at in ends if at < len(stretch)), default=0) or stretch.rfind(" ") + 1 or len(stretch)
        yield _trimmed(text, start, start + cut)
        start, end = _trimmed(text, start + cut, end)
    if end > start:
        yield start, end
