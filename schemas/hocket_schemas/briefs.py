"""From a request to a published brief: the facts on the way, and the saga they make."""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from hocket_schemas.event import Event
from hocket_schemas.lineage import Origin
from hocket_schemas.sagas import Saga

REVISIONS_MAX = 2
"""How often the reviewer sends a draft back; what it still objects to then is left out."""

MODEL = "HOCKET_MODEL"
"""The environment variable that names a model: then a brief is in its words, else in those of the documents."""

DECISION = timedelta(minutes=25)
"""How long somebody may think about a reviewed brief: less than its saga's deadline."""

PROOF_TEXT_MAX = 16_384
"""The text of a longer brief is not part of what is shown for a decision, in characters."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BriefRequested(Event, type="brief.requested.v1"):
    """Somebody wants a brief about the documents in a folder. Starts the saga."""

    folder: str
    """Where the documents are, as an absolute path."""

    out: str
    """The Markdown file to write, as an absolute path; `index.json` is kept beside it."""

    topic: str = Field(default="", max_length=500)
    """What the brief is about; empty: whatever the documents say most about."""

    title: str = Field(default="", max_length=200)
    """Empty: the topic or, without one, the folder's name."""

    questions_max: int = Field(default=6, ge=1, le=20)
    sentences_max: int = Field(default=5, ge=1, le=20)
    """Most sentences in the answer to one question."""


class Question(_Value):
    """One thing that the brief answers; a section of it."""

    no: int
    """From 1, in the order of the brief."""

    subject: str
    """The section's heading."""

    text: str
    """The question as a sentence."""

    terms: list[str]
    """What an answer must speak of, in the form of `words.terms`."""

    context: list[str] = Field(default_factory=list)
    """What it had better speak of too: the terms of the topic."""


class QuestionPosed(Event, type="question.posed.v1"):
    """The plan wants this question answered."""

    question: Question
    library: str
    """A digest of all documents read: with the same one, the same passages are there to search."""


class BriefPlanned(Event, type="brief.planned.v1"):
    """The plan is made; one QuestionPosed follows for each question."""

    title: str
    questions: list[Question]
    sentences_max: int


class Evidence(_Value):
    """A passage that speaks to a question. Positions are those of `documents.Passage`."""

    document: str
    start: int
    line: int
    text: str
    heading: str = ""
    score: float
    """How well it fits, above 0; the best passage for the question has 1."""


class EvidenceFound(Event, type="evidence.found.v1"):
    """What the documents say to a question, best first; nothing found is an empty list."""

    question: int
    passages: list[Evidence]
    weights: dict[str, float]
    """How much each term of the question tells, rare terms more; they sum to 1."""


class Sentence(_Value):
    """One sentence of a brief and where it stands, verbatim by `words.plain`."""

    text: str
    document: str
    start: int
    end: int
    line_first: int
    line_last: int
    words: str = ""
    """What a model says in words of its own; the text is then the quote that this relies on. Empty: the text is it."""

    origin: Origin | None = None
    """Of a model's words: the call and the passage that they come from."""


class Section(_Value):
    """The answer to one question."""

    question: int
    subject: str
    sentences: list[Sentence]


class BriefDrafted(Event, type="brief.drafted.v1"):
    """A draft is ready for review."""

    version: int
    """1 for the first draft."""

    title: str
    sections: list[Section]
    model: str = ""
    """Who wrote what is in words of its own; empty: nothing is."""


class Objection(_Value):
    """Why a sentence should not be in the brief."""

    document: str
    start: int
    end: int
    reason: str
    question: int = 0
    """In the answer to which it stands; 0: in whichever."""


class RevisionRequested(Event, type="revision.requested.v1"):
    """The reviewer wants another draft without the sentences objected to."""

    version: int
    objections: list[Objection]


class Source(_Value):
    """A document that the brief quotes."""

    document: str
    digest: str


class Unread(_Value):
    """A document that could not be read."""

    document: str
    reason: str


class BriefReviewed(Event, type="brief.reviewed.v1"):
    """The brief as it will be published, once somebody has approved it."""

    version: int
    title: str
    sections: list[Section]
    sources: list[Source]
    """The documents quoted, sorted."""

    unread: list[Unread] = Field(default_factory=list)
    dropped: list[Objection] = Field(default_factory=list)
    """What was objected to in the last draft and has been left out."""

    model: str = ""
    """Who wrote what is in words of its own; empty: nothing is."""


class Heading(_Value):
    """A section as the one who decides sees it."""

    subject: str
    sentences: int


class Proof(_Value):
    """What somebody is shown who decides whether a brief is published: the details of its approval."""

    title: str
    """The only thing that a decision may edit: the sentences are the documents' own, or stand above a quote."""

    out: str
    """The file that would be written."""

    sentences: int
    documents: int
    """How many documents it quotes."""

    contents: list[Heading]
    digest: str
    """SHA-256 of the file that would be written, as 64 hexadecimal digits."""

    text: str | None
    """What would be written; None when it is longer than `PROOF_TEXT_MAX`."""

    dropped: int = 0
    """How many sentences of the last draft were objected to and left out."""

    unread: list[Unread] = Field(default_factory=list)


class BriefRejected(Event, type="brief.rejected.v1"):
    """Nobody wants the brief published as it is. Fails the saga."""

    version: int
    by: str
    """Who said no; empty: nobody decided in time."""

    reason: str = ""

    @property
    def sentence(self) -> str:
        """The same for the person who asked for the brief."""
        happened = f"{self.by} rejected the brief" if self.by else "nobody approved the brief"
        return f"{happened}: {self.reason}" if self.reason else f"{happened}."


class BriefPublished(Event, type="brief.published.v1"):
    """The brief is on disk. Completes the saga."""

    path: str
    digest: str
    """SHA-256 of the file, as 64 hexadecimal digits."""

    sentences: int
    documents: int
    """How many documents it quotes."""


class BriefFailed(Event, type="brief.failed.v1"):
    """There will be no brief. Fails the saga."""

    reason: str
    """One or two sentences for the person who asked: what is wrong, and what to do."""


BRIEF = Saga(
    "brief",
    starts=BriefRequested,
    done=BriefPublished,
    fails=[BriefFailed, BriefRejected],
    deadline=timedelta(minutes=30),
)
