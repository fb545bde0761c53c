"""The Markdown of a brief: the same bytes for the same content, without times, ids or absolute paths."""

from collections.abc import Iterator

from hocket_schemas.briefs import BriefReviewed, Section, Sentence

SAME_PARAGRAPH_GAP = 12
"""Sentences at most so many characters apart in their source stay one paragraph."""


def render(brief: BriefReviewed) -> str:
    """The whole file.

    One line per sentence, its citation `[document:line]` or `[document:first-last]` at the end; sentences
    that follow each other in their source make a paragraph. A model's words stand above the quote that they
    rely on, and that after `> `. The sources close it, each with the SHA-256 of the file that was read.
    `hocket.demo.brief` reads this form back and checks it.
    """
    return "\n".join(_lines(brief)) + "\n"


def _lines(brief: BriefReviewed) -> Iterator[str]:
    yield f"# {brief.title}"
    for section in brief.sections:
        yield ""
        yield f"## {section.subject}"
        yield from _sentences(section)
    yield from ("", "## Sources", "")
    for source in brief.sources:
        yield f"- {source.document} sha256:{source.digest}"
    if brief.unread:
        yield from ("", "## Not read", "")
        for unread in brief.unread:
            yield f"- {unread.document}: {unread.reason}"
    if brief.model:
        yield from ("", "## Written with a model", "")
        yield f"- {brief.model}: what stands above a quote is in its words, and was held against that by rules alone"


def _sentences(section: Section) -> Iterator[str]:
    before: Sentence | None = None
    for sentence in section.sentences:
        if sentence.words or before is None or not _is_next(before, sentence):
            yield ""
        lines = f"{sentence.line_first}"
        if sentence.line_last > sentence.line_first:
            lines += f"-{sentence.line_last}"
        if sentence.words:
            yield sentence.words
        yield f"{'> ' if sentence.words else ''}{sentence.text} [{sentence.document}:{lines}]"
        before = sentence


def _is_next(before: Sentence, sentence: Sentence) -> bool:
    return before.document == sentence.document and 0 <= sentence.start - before.end <= SAME_PARAGRAPH_GAP
