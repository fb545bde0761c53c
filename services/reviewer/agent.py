"""The reviewer holds each sentence of a draft against its source, and judges whether it stands well."""

from collections.abc import Sequence

from hocket import Agent, Context
from hocket_schemas.briefs import (
    REVISIONS_MAX,
    BriefDrafted,
    BriefFailed,
    BriefReviewed,
    RevisionRequested,
    Section,
    Source,
    Unread,
)
from hocket_schemas.documents import DocumentRead, DocumentRefused, Passage

from .judging import objections_to, without

reviewer = Agent("reviewer", version="2")


@reviewer.on(BriefDrafted)
async def review(event: BriefDrafted, ctx: Context) -> RevisionRequested | BriefReviewed | BriefFailed:
    """Ask for a revision, at most twice; what is objected to after that is left out."""
    documents = await ctx.history(DocumentRead)
    objections = objections_to(event.sections, _passages(documents))
    if objections and event.version <= REVISIONS_MAX:
        return RevisionRequested(version=event.version, objections=objections)
    sections = without(event.sections, objections)
    if not sections:
        return BriefFailed(
            reason="No sentence of the documents stood up to review. "
            "Choose another topic, or add documents in whole sentences."
        )
    refused = await ctx.history(DocumentRefused)
    return BriefReviewed(
        version=event.version,
        title=event.title,
        sections=sections,
        sources=_sources(sections, documents),
        unread=[Unread(document=r.document, reason=r.reason) for r in sorted(refused, key=lambda r: r.document)],
        dropped=objections,
        model=event.model if any(s.words for section in sections for s in section.sentences) else "",
    )


def _passages(documents: Sequence[DocumentRead]) -> dict[str, list[Passage]]:
    passages: dict[str, list[Passage]] = {}
    for read in documents:
        passages.setdefault(read.document, []).extend(read.passages)
    return passages


def _sources(sections: Sequence[Section], documents: Sequence[DocumentRead]) -> list[Source]:
    digests = {read.document: read.digest for read in documents}
    quoted = {sentence.document for section in sections for sentence in section.sentences}
    return [Source(document=document, digest=digests[document]) for document in sorted(quoted)]
