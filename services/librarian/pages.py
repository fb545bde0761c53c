"""An HTML page as text: the markup taken out, every line where it was."""

from html import unescape
from html.parser import HTMLParser

from .layout import Block

HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})

_SKIPPED = frozenset(
    {"button", "footer", "head", "nav", "noscript", "script", "select", "style", "svg", "template", "title"}
)
"""Elements whose text is no part of what the page says."""

_CODE = frozenset({"listing", "pre", "samp", "textarea", "xmp"})

_INLINE_NAMES = """
a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark q s small span strike strong sub sup
time tt u var wbr
"""

_INLINE = frozenset(_INLINE_NAMES.split())
"""Elements that a sentence goes on through. Every other tag ends the block."""


def text_of(page: str) -> tuple[str, list[Block]]:
    """The page's text with line n on line n of the source, and its blocks of prose and headings."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    reader.end_block()
    return "".join(reader.out), reader.blocks


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.out: list[str] = []
        self.blocks: list[Block] = []
        self._length = 0
        self._line = 1
        self._block_start = 0
        self._piece = 0
        self._skipped: list[str] = []
        self._code = 0
        self._heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _INLINE:
            return
        self.end_block()
        if tag in _SKIPPED:
            self._skipped.append(tag)
        elif tag in _CODE:
            self._code += 1
        elif tag in HEADINGS:
            self._heading = True
        elif tag == "body":
            self._skipped.clear()  # a head that was never closed

    def handle_endtag(self, tag: str) -> None:
        if tag in _INLINE:
            return
        self.end_block()
        if tag in self._skipped:
            del self._skipped[self._skipped.index(tag) :]
        elif tag in _CODE:
            self._code = max(0, self._code - 1)
        elif tag in HEADINGS:
            self._heading = False

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _INLINE:
            self.end_block()

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self._put(data)

    def handle_entityref(self, name: str) -> None:
        if not self._skipped:
            self._put(_character(f"&{name};"))

    def handle_charref(self, name: str) -> None:
        if not self._skipped:
            self._put(_character(f"&#{name};"))

    def end_block(self) -> None:
        """Close the block that is open, and set the next one apart from it."""
        start, end = self._block_start, self._length
        if not self._skipped and not self._code and "".join(self.out[self._piece :]).strip():
            self.blocks.append(Block(start, end, self._heading))
        if end > start:
            self._append(" ")
        self._block_start, self._piece = self._length, len(self.out)

    def _put(self, piece: str) -> None:
        # Line breaks inside tags, comments and skipped elements were not copied: make up for them here.
        missing = self.getpos()[0] - self._line
        self._append("\n" * missing + piece)

    def _append(self, piece: str) -> None:
        self.out.append(piece)
        self._length += len(piece)
        self._line += piece.count("\n")


def _character(reference: str) -> str:
    """What a character reference stands for; one to a line break must not shift the lines."""
    return unescape(reference).replace("\n", " ")
