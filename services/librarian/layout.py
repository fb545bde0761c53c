"""How plain text, Markdown and reStructuredText are laid out: which lines make a paragraph or a heading.

One reading serves all three, since people mix them. It errs on the side of leaving something out: a missed
paragraph costs a brief little, a line of a table in the midst of a sentence costs it much.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_HASHES = re.compile(r"#{1,6}\s+(?=\S)")
_UNDERLINE = re.compile(r"\s*([=\-~^\"*`+#_])\1{2,}\s*$")
_FOOTNOTES = re.compile(r"-\[ .+ \]-\s*$")
_TABLE = re.compile(r"\s*(?:\||\+[-=+]|=+(?:\s+=+)+\s*$|:?-{3,}:?\s*\|)")
_QUOTED = re.compile(r"\s*>")
_FIELD = re.compile(r"\s*:[A-Za-z][\w -]*:(?:\s|$)")
_LINK = re.compile(r"\s*\[[^\]]+\]:\s")
_TAG = re.compile(r"\s*</?[A-Za-z!][^>]*>\s*$")
_DIRECTIVE = re.compile(r"\s*\.\.(?:\s|$)")
_DIRECTIVE_WITHOUT_PROSE = re.compile(
    r"\s*\.\.\s*(?:code|code-block|sourcecode|parsed-literal|doctest|test\w+|math|literalinclude|productionlist"
    r"|toctree|image|figure|table|csv-table|list-table|raw|highlight|index|contents|currentmodule|module|_[^:]+:)"
)
_MARKER = re.compile(r"\s*(?:[-*+•‣\u2013]|\d{1,3}[.)]|[a-z][.)]|#\.|\(\w{1,3}\)|\[[\w#*]{1,4}\])\s+(?=\S)")
_NAME = re.compile(r"(?:\d[\d.)]*\s+)?[^\W\d_][\w ,/&'\u2019“”\"-]{1,60}\s*$")
_NUMBERED = re.compile(r"\d[\d.)]*\s")

_NAME_WORDS_MAX = 8


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of text that belongs together: a paragraph, a list item or a heading."""

    start: int
    end: int
    heading: bool = False
    term: str = ""
    """What a definition list says that it is about; more telling than the heading."""


@dataclass(slots=True)
class _Open:
    """The block being read."""

    start: int
    indent: int
    marked: bool
    """Whether it began behind a list marker; then following lines may be indented as they like."""

    lines: list[str]
    end: int


@dataclass(slots=True)
class _Reading:
    """Where the reading stands."""

    block: _Open | None = None
    fence: str = ""
    is_quoting: bool = False
    """Whether a quotation or an interpreter session goes on; it ends with a blank line."""

    literal_indent: int | None = None
    """Lines indented deeper than this belong to a literal block; None outside of one."""

    term: str = ""
    term_indent: int = 0
    done: list[Block] = field(default_factory=list)


def blocks_of(text: str, *, front_matter: bool = False) -> Iterator[Block]:
    """The paragraphs, list items and headings of a text, in order; all else is left out."""
    reading = _Reading()
    at = _after_front_matter(text) if front_matter else 0
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        _read_line(reading, at, text[at:end])
        yield from reading.done
        reading.done.clear()
        at = end + 1
    _close(reading, followed_by_blank=True)
    yield from reading.done


def _read_line(reading: _Reading, at: int, line: str) -> None:
    stripped = line.strip("\ufeff \t\r\f\v")
    if reading.fence:
        if stripped.startswith(reading.fence):
            reading.fence = ""
        return
    if not stripped:
        _close(reading, followed_by_blank=True)
        reading.is_quoting = False
        return
    if reading.is_quoting:
        return
    indent = len(line) - len(line.lstrip())
    if reading.literal_indent is not None:
        if indent > reading.literal_indent:
            return
        reading.literal_indent = None
    if _read_structure(reading, at, line, indent):
        return
    if marker := _MARKER.match(line):
        _close(reading)
        kept = line if _NUMBERED.match(line) else line[marker.end() :]
        _open(reading, at + marker.end(), marker.end(), kept, at + len(line), marked=True)
    elif reading.block is None:
        _open(reading, at + indent, indent, line[indent:], at + len(line))
    elif reading.block.marked or indent == reading.block.indent:
        reading.block.lines.append(line)
        reading.block.end = at + len(line)
    else:
        # Wrapped text keeps its indent; deeper lines right below a name define it.
        if indent > reading.block.indent and len(reading.block.lines) == 1:
            _take_as_term(reading)
        _close(reading)
        _open(reading, at + indent, indent, line[indent:], at + len(line))


def _read_structure(reading: _Reading, at: int, line: str, indent: int) -> bool:
    """Deal with a line that is no text; False if it is."""
    if fence := _FENCE.match(line):
        _close(reading)
        reading.fence = fence[1][:3]
    elif hashes := _HASHES.match(line):
        _close(reading)
        _head(reading, at + hashes.end(), at + len(line.rstrip().rstrip("#")))
    elif _UNDERLINE.match(line):
        block = reading.block
        if block is not None and len(block.lines) == 1 and not block.marked:
            reading.block = None
            _head(reading, block.start, block.end)
        else:
            _close(reading)
    elif _FOOTNOTES.match(line):
        _close(reading)
        _head(reading, at + 3, at + line.rindex("]"))
    elif _DIRECTIVE.match(line):
        _close(reading)
        if _DIRECTIVE_WITHOUT_PROSE.match(line):
            reading.literal_indent = indent
    elif _QUOTED.match(line):
        _close(reading)
        reading.is_quoting = True
    elif any(pattern.match(line) for pattern in (_TABLE, _FIELD, _LINK, _TAG)):
        _close(reading)
    else:
        return False
    return True


def _open(reading: _Reading, start: int, indent: int, line: str, end: int, *, marked: bool = False) -> None:
    if reading.term and indent <= reading.term_indent:
        reading.term = ""
    reading.block = _Open(start, indent, marked, [line], end)


def _close(reading: _Reading, *, followed_by_blank: bool = False) -> None:
    block, reading.block = reading.block, None
    if block is None:
        return
    last = block.lines[-1].rstrip()
    if last.endswith("::"):
        reading.literal_indent = block.indent
    # "4. Ownership" on a line of its own is a heading too, but an item with a full stop is none.
    may_head = block.indent == 0 or _NUMBERED.match(block.lines[0])
    if followed_by_blank and may_head and len(block.lines) == 1 and _is_title(last):
        _head(reading, block.start, block.end)
    else:
        reading.done.append(Block(block.start, block.end, term=reading.term))


def _head(reading: _Reading, start: int, end: int) -> None:
    reading.term = ""
    reading.done.append(Block(start, end, heading=True))


def _take_as_term(reading: _Reading) -> None:
    block = reading.block
    if block is not None and _NAME.match(block.lines[0]) and len(block.lines[0].split()) <= _NAME_WORDS_MAX:
        reading.term, reading.term_indent = block.lines[0].strip(), block.indent
        reading.block = None


def _is_title(line: str) -> bool:
    """Whether a line that stands alone is a heading: a few words, numbered or written large."""
    words = line.split()
    if not _NAME.match(line) or len(words) > _NAME_WORDS_MAX or line.endswith((",", "-")):
        return False
    return bool(_NUMBERED.match(line)) or all(word[0].isupper() for word in words if len(word) > 3)


def _after_front_matter(text: str) -> int:
    """Where the text begins behind a block of metadata between two lines `---`."""
    match = re.match(r"\ufeff?---[ \t]*\r?\n(?:.*\n)*?(?:---|\.\.\.)[ \t]*(?:\r?\n|$)", text)
    return match.end() if match else 0
