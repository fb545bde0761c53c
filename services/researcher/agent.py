"""The researcher finds the passages that speak to a question, one question at a time."""

import asyncio

from hocket import Agent, Context
from hocket_schemas.briefs import EvidenceFound, Question, QuestionPosed
from hocket_schemas.documents import DocumentRead

from .ranking import Index, rank, weights_of

PASSAGES_MAX = 24
"""Most passages for one question; a writer needs some to choose from, and more when some are rejected."""

INDEXES_MAX = 4
"""Most libraries whose index is kept in memory."""

_indexes: dict[tuple[str, str], Index] = {}

researcher = Agent("researcher", version="2")


@researcher.on(QuestionPosed)
async def find_evidence(event: QuestionPosed, ctx: Context) -> EvidenceFound:
    """Answer a question from the library; what was found is remembered, so it is searched for once."""
    return await ctx.step(search, event.question, Library(event.library, ctx))


class Library:
    """The documents of one brief, read and indexed when they are first searched."""

    def __init__(self, digest: str, ctx: Context) -> None:
        self._place = (ctx.key, digest)
        self._history = ctx.history

    async def index(self) -> Index:
        """The index of all passages. What was read no longer changes, so it is built once for all questions."""
        if self._place not in _indexes:
            index = Index()
            for read in sorted(await self._history(DocumentRead), key=lambda read: (read.document, read.part)):
                index.add(read)
                await asyncio.sleep(0)  # a large library takes seconds; the process has to be heard meanwhile
            while len(_indexes) >= INDEXES_MAX:
                _indexes.pop(next(iter(_indexes)))
            _indexes[self._place] = index
        return _indexes[self._place]


async def search(question: Question, library: Library) -> EvidenceFound:
    """Rank the library's passages for a question."""
    index = await library.index()
    weights = weights_of(index, question)
    return EvidenceFound(question=question.no, passages=rank(index, weights, PASSAGES_MAX), weights=weights)
