"""A brief read back and held against the documents: whether every sentence stands where it says.

It shares no code with the crew that wrote the brief, so that a mistake there shows here.

The form: after the title, each line is blank, a heading, or a sentence with its citation at the end,
`[document:line]` or `[document:first-last]`. "Sources" lists each document with the SHA-256 of its bytes;
"Not read", if there is one, lists the documents that were refused.

What a model says in words of its own is a line without citation, and the next line is the quote that it relies on,
after `> `. The quote is checked like any other; whether the words follow from it is not.

A sentence is right when it equals the text on the lines it cites, from a word's beginning to a word's end,
a run of whitespace counting as one space. Of an HTML page the markup is taken out first, and whitespace,
which means nothing there, is not compared.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath

_CITATION = re.compile(r"(.+):([1-9]\d*)(?:-([1-9]\d*))?")
_SOURCE = re.compile(r"- (.+) sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a brief that does not hold."""

    line: int
    """Of the brief; 0 when it concerns the whole."""

    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


@dataclass(frozen=True, slots=True)
class Quote:
    """One sentence of a brief and where it claims to stand."""

    line: int
    """Of the brief."""

    text: str
    document: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Brief:
    """A brief as read back."""

    title: str
    headings: Sequence[str]
    quotes: Sequence[Quote]
    told: Sequence[str]
    """What stands above a quote in a model's words."""

    digests: dict[str, str]
    """Document to the SHA-256 that it had when it was read."""

    problems: Sequence[Problem]
    """What does not follow the form."""


def parse(text: str) -> Brief:
    """Read a brief; what does not follow the form is among its problems."""
    lines = text.split("\n")
    sources_at = max((i for i, line in enumerate(lines) if line == "## Sources"), default=len(lines))
    digests = {m[1]: m[2] for line in lines[sources_at:] if (m := _SOURCE.fullmatch(line))}
    title = lines[0].removeprefix("# ") if lines[0].startswith("# ") else ""
    headings: list[str] = []
    quotes: list[Quote] = []
    told: list[str] = []
    problems = [] if title else [Problem(1, "the brief has no title")]
    if not digests:
        problems.append(Problem(0, "the brief lists no sources"))
    for number, line in enumerate(lines[1:sources_at], 2):
        if line.startswith("## "):
            headings.append(line[3:])
        elif quote := _quote(number, line.removeprefix("> "), digests):
            quotes.append(quote)
        elif line.strip() and lines[number].startswith("> "):
            told.append(line)
        elif line.strip():
            problems.append(Problem(number, f"no citation of a listed source: {_short(line)}"))
    if not quotes:
        problems.append(Problem(0, "the brief holds no sentence"))
    return Brief(title, headings, quotes, told, digests, problems)


def verify(brief_path: Path, folder: Path) -> list[Problem]:
    """Everything in a brief that does not hold against the documents as they are now; empty if all does."""
    try:
        brief = parse(brief_path.read_bytes().decode())
    except (OSError, UnicodeDecodeError) as error:
        return [Problem(0, f"{brief_path} cannot be read: {error}")]
    problems = list(brief.problems)
    texts: dict[str, list[str]] = {}
    for document, digest in brief.digests.items():
        if not _is_inside(document):
            problems.append(Problem(0, f"source {document} lies outside of the folder"))
            continue
        try:
            data = (folder / document).read_bytes()
            texts[document] = _lines_of(document, data.decode())
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem(0, f"source {document} cannot be read: {error}"))
            continue
        if sha256(data).hexdigest() != digest:
            problems.append(Problem(0, f"source {document} has changed since it was read"))
    for quote in brief.quotes:
        if quote.document in texts and (wrong := _mismatch(quote, texts[quote.document])):
            problems.append(Problem(quote.line, f"{wrong}: {_short(quote.text)}"))
    return problems


def _quote(number: int, line: str, digests: dict[str, str]) -> Quote | None:
    # A document's name may hold " [" itself, so the longest citation of a listed source is the one meant.
    at = line.find(" [") if line.endswith("]") else -1
    while at >= 0:
        cited = _CITATION.fullmatch(line[at + 2 : -1])
        if cited and cited[1] in digests:
            return Quote(number, line[:at], cited[1], int(cited[2]), int(cited[3] or cited[2]))
        at = line.find(" [", at + 1)
    return None


def _mismatch(quote: Quote, lines: Sequence[str]) -> str | None:
    """Why a quote does not hold, if it does not."""
    where = f"{quote.document}:{quote.first}-{quote.last}"
    if not quote.first <= quote.last <= len(lines):
        return f"{where} are no lines of the document"
    is_page = _is_page(quote.document)
    if not _says(lines[quote.first - 1 : quote.last], quote.text, is_page):
        return f"{where} says something else"
    if quote.first < quote.last and (
        _says(lines[quote.first : quote.last], quote.text, is_page)
        or _says(lines[quote.first - 1 : quote.last - 1], quote.text, is_page)
    ):
        return f"{where} are more lines than it stands on"
    return None


def _says(lines: Sequence[str], text: str, is_page: bool) -> bool:
    joined = "\n".join(lines)
    if is_page:
        return "".join(text.split()) in "".join(joined.split())
    pattern = rf"(?<!\w){re.escape(' '.join(text.split()))}(?!\w)"
    return re.search(pattern, " ".join(joined.split())) is not None


def _lines_of(document: str, text: str) -> list[str]:
    if _is_page(document):
        page = _Page()
        page.feed(text)
        page.close()
        text = "".join(page.pieces)
    return text.split("\n")


def _is_page(document: str) -> bool:
    return document.lower().endswith((".html", ".htm"))


def _is_inside(document: str) -> bool:
    path = PurePosixPath(document)
    return not path.is_absolute() and ".." not in path.parts


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"


class _Page(HTMLParser):
    """The text of a page, each piece on the line where it stands in the source."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.pieces: list[str] = []
        self._line = 1

    def handle_data(self, data: str) -> None:
        line = self.getpos()[0]
        self.pieces.append("\n" * (line - self._line) + data)
        self._line = line + data.count("\n")

    def handle_entityref(self, name: str) -> None:
        self._put_character(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._put_character(f"&#{name};")

    def _put_character(self, reference: str) -> None:
        self.handle_data(unescape(reference).replace("\n", " "))
