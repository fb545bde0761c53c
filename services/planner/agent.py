"""The planner waits until the library is read, then decides what the brief asks."""

import asyncio
from collections.abc import Sequence
from hashlib import sha256

from pydantic import BaseModel

from hocket import Agent, Context
from hocket_schemas.briefs import BriefFailed, BriefPlanned, BriefRequested, QuestionPosed
from hocket_schemas.documents import DocumentRead, DocumentRefused, LibraryListed

from .subjects import questions_of, title_of
from .survey import Survey


class Count(BaseModel):
    """How much of the library is settled; the texts stay in the log."""

    documents: int | None = None
    """How many there are; None until the list has come."""

    read: int = 0
    refused: int = 0
    first_refusal: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether every document has been read or refused."""
        return self.documents == self.read + self.refused


planner = Agent("planner", state=Count, version="1")

Plan = list[BriefPlanned | QuestionPosed] | BriefFailed | None


@planner.on(LibraryListed)
async def count_library(event: LibraryListed, ctx: Context[Count]) -> Plan:
    """Learn how many documents to wait for."""
    ctx.state.documents = event.documents
    return await _plan(ctx) if ctx.state.is_settled else None


@planner.on(DocumentRead)
async def count_read(event: DocumentRead, ctx: Context[Count]) -> Plan:
    """Count a document when its last part is there; plan after the last one."""
    if event.part < event.parts:
        return None
    ctx.state.read += 1
    return await _plan(ctx, event) if ctx.state.is_settled else None


@planner.on(DocumentRefused)
async def count_refused(event: DocumentRefused, ctx: Context[Count]) -> Plan:
    """Count a document that there is no use waiting for."""
    ctx.state.refused += 1
    ctx.state.first_refusal = ctx.state.first_refusal or f"{event.document} {event.reason}"
    return await _plan(ctx) if ctx.state.is_settled else None


async def _plan(ctx: Context[Count], *newest: DocumentRead) -> Plan:
    """Pose the questions; `newest` is the event being handled, which the history does not hold yet."""
    request = (await ctx.history(BriefRequested))[0]
    if ctx.state.read == 0:
        return BriefFailed(
            reason=f"None of the {ctx.state.refused} documents in {request.folder} could be read; "
            f"for one, {ctx.state.first_refusal}. Mend them, or choose another folder."
        )
    documents = sorted([*await ctx.history(DocumentRead), *newest], key=lambda read: (read.document, read.part))
    survey = Survey()
    for read in documents:
        survey.add(read)
        await asyncio.sleep(0)  # a large library takes seconds; the process has to be heard meanwhile
    questions = questions_of(survey, request.topic, request.questions_max)
    if not questions and survey.texts and request.topic.strip():
        return BriefFailed(
            reason=f"No word of the topic “{request.topic.strip()}” tells anything in the documents in "
            f"{request.folder}. Choose other words, or leave the topic away."
        )
    if not questions:
        return BriefFailed(reason=f"The documents in {request.folder} hold no prose to quote. Choose another folder.")
    title = title_of(request.title, request.topic, request.folder)
    library = _digest(documents)
    return [
        BriefPlanned(title=title, questions=questions, sentences_max=request.sentences_max),
        *(QuestionPosed(question=question, library=library) for question in questions),
    ]


def _digest(documents: Sequence[DocumentRead]) -> str:
    lines = dict.fromkeys(f"{read.digest} {read.document}\n" for read in documents)
    return sha256("".join(lines).encode()).hexdigest()
