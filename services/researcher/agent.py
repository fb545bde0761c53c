"""The researcher finds the passages that speak to a question, one question at a time."""

import asyncio

from hocket import Agent, Context
from hocket_schemas.briefs import EvidenceFound, QuestionPosed
from hocket_schemas.documents import DocumentRead

from .ranking import Index, rank, weights_of

PASSAGES_MAX = 24
"""Most passages for one question; a writer needs some to choose from, and more when some are rejected."""

INDEXES_MAX = 4
"""Most libraries whose index is kept in memory."""

_indexes: dict[tuple[str, str], Index] = {}

researcher = Agent("researcher", version="1")


@researcher.on(QuestionPosed)
async def find_evidence(event: QuestionPosed, ctx: Context) -> EvidenceFound:
    """Rank the library's passages for the question."""
    index = await _index(event, ctx)
    weights = weights_of(index, event.question)
    passages = rank(index, weights, PASSAGES_MAX)
    return EvidenceFound(question=event.question.no, passages=passages, weights=weights)


async def _index(event: QuestionPosed, ctx: Context) -> Index:
    """The library's index. What was read no longer changes, so it is built once for all questions."""
    key = (ctx.key, event.library)
    if key not in _indexes:
        index = Index()
        for read in sorted(await ctx.history(DocumentRead), key=lambda read: (read.document, read.part)):
            index.add(read)
            await asyncio.sleep(0)  # a large library takes seconds; the process has to be heard meanwhile
        while len(_indexes) >= INDEXES_MAX:
            _indexes.pop(next(iter(_indexes)))
        _indexes[key] = index
    return _indexes[key]
