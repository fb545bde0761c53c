"""The librarian finds the documents in a folder and reads them, one event per file."""

from hashlib import sha256

from pydantic import BaseModel

from hocket import Agent, Context
from hocket_schemas.briefs import BriefFailed, BriefRequested
from hocket_schemas.documents import DocumentListed, DocumentRead, DocumentRefused, LibraryListed

from .reading import parts_of, passages_of
from .shelf import NoLibrary, Unreadable, decode, search, take


class Desk(BaseModel):
    """What the librarian remembers of a brief."""

    listed: bool = False


librarian = Agent("librarian", state=Desk, version="1")


@librarian.on(BriefRequested)
async def list_library(
    event: BriefRequested, ctx: Context[Desk]
) -> list[LibraryListed | DocumentListed | DocumentRefused] | BriefFailed | None:
    """Say which documents there are, so that each is read on its own. A second request changes nothing."""
    if ctx.state.listed:
        return None
    ctx.state.listed = True
    try:
        shelf = search(event.folder, leave_out=event.out)
    except NoLibrary as error:
        return BriefFailed(reason=str(error))
    return [
        LibraryListed(documents=len(shelf.documents) + len(shelf.refused), ignored=shelf.ignored),
        *(DocumentRefused(document=document, reason=reason) for document, reason in shelf.refused),
        *(DocumentListed(document=document, folder=event.folder) for document in shelf.documents),
    ]


@librarian.on(DocumentListed)
async def read_document(event: DocumentListed) -> list[DocumentRead] | DocumentRefused:
    """Read one document into passages; what cannot be read is refused, and the rest goes on."""
    try:
        data = take(event.folder, event.document)
        text = decode(data)
    except Unreadable as error:
        return DocumentRefused(document=event.document, reason=str(error))
    digest = sha256(data).hexdigest()
    parts = parts_of(passages_of(event.document, text))
    return [
        DocumentRead(document=event.document, digest=digest, passages=part, part=no, parts=len(parts))
        for no, part in enumerate(parts, 1)
    ]
