"""Facts about the documents that a brief is written from."""

from pydantic import BaseModel, ConfigDict, Field

from hocket_schemas.event import Event


class Passage(BaseModel):
    """A paragraph or list item of a document, verbatim.

    Positions count characters of the document's text: the file as decoded from UTF-8 or, of an HTML page,
    what is left when the markup is taken out. Either way line breaks are kept, so that line n of the text
    is line n of the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int = Field(ge=0)
    end: int = Field(ge=0)
    """The position after the last character, so that `end - start` is the length of `text`."""

    line: int = Field(ge=1)
    """The line of the file on which the passage starts; the first is 1."""

    text: str
    heading: str = ""
    """The nearest heading above, in plain form; empty if there is none."""


class LibraryListed(Event, type="library.listed.v1"):
    """A folder was searched; one DocumentListed follows for each document in it."""

    documents: int
    """How many DocumentListed and DocumentRefused together settle the library."""

    ignored: int = 0
    """Files left alone because they are hidden or are no text by their suffix."""


class DocumentListed(Event, type="document.listed.v1"):
    """A file that looks like a document was found."""

    document: str
    """Its path relative to the folder, with forward slashes: the document's id."""

    folder: str


class DocumentRead(Event, type="document.read.v1"):
    """A document's passages, in order; a large document comes in several parts."""

    document: str
    digest: str
    """SHA-256 of the file's bytes, as 64 hexadecimal digits."""

    passages: list[Passage]
    part: int = 1
    parts: int = 1


class DocumentRefused(Event, type="document.refused.v1"):
    """A file cannot be read as a document; the brief is written without it."""

    document: str
    reason: str
    """Completes the sentence "It …", such as "is not UTF-8 text"."""
