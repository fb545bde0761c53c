"""The writer waits for all evidence, drafts the brief, and drafts again when sentences are objected to."""

import os
from collections.abc import Sequence

from pydantic import BaseModel

from hocket import Agent, Context
from hocket_schemas.briefs import (
    MODEL,
    BriefDrafted,
    BriefFailed,
    BriefPlanned,
    EvidenceFound,
    Objection,
    RevisionRequested,
)

from .drafting import draft


class Manuscript(BaseModel):
    """How far the writing is; the evidence stays in the log."""

    plan: BriefPlanned | None = None
    found: int = 0
    """How many questions have their evidence."""

    version: int = 0
    objections: list[Objection] = []


if os.environ.get(MODEL):  # what talks to models takes a second to import: at start, and not while an event waits
    from . import asking  # noqa: F401 - it is there when it is needed

writer = Agent("writer", state=Manuscript, version="3")


@writer.on(BriefPlanned)
async def take_plan(event: BriefPlanned, ctx: Context[Manuscript]) -> BriefDrafted | BriefFailed | None:
    """Learn which questions there are."""
    ctx.state.plan = event
    return await _draft(ctx, await ctx.history(EvidenceFound))


@writer.on(EvidenceFound)
async def take_evidence(event: EvidenceFound, ctx: Context[Manuscript]) -> BriefDrafted | BriefFailed | None:
    """Write the first draft when the last evidence is there."""
    ctx.state.found += 1
    return await _draft(ctx, [*await ctx.history(EvidenceFound), event])


@writer.on(RevisionRequested)
async def revise(event: RevisionRequested, ctx: Context[Manuscript]) -> BriefDrafted | BriefFailed | None:
    """Write another draft without the sentences objected to. A request about an old draft is void."""
    if event.version != ctx.state.version:
        return None
    ctx.state.objections = [*ctx.state.objections, *event.objections]
    return await _draft(ctx, await ctx.history(EvidenceFound), event.objections)


async def _draft(
    ctx: Context[Manuscript], evidence: Sequence[EvidenceFound], newest: Sequence[Objection] = ()
) -> BriefDrafted | BriefFailed | None:
    plan = ctx.state.plan
    if plan is None or ctx.state.found < len(plan.questions):
        return None
    found = {each.question: each for each in evidence}
    if os.environ.get(MODEL):
        from .asking import write  # here, since only this needs what talks to models

        drafts = await ctx.history(BriefDrafted)
        before = drafts[-1].sections if ctx.state.version else []
        sections, model = await write(ctx, plan.questions, found, before, newest, plan.sentences_max)
    else:
        rejected = sorted({(o.document, o.start, o.end) for o in ctx.state.objections})
        sections, model = await ctx.step(draft, plan.questions, found, rejected, plan.sentences_max), ""
    if not sections:
        return BriefFailed(
            reason="The documents hold no sentence that answers the questions. "
            "Choose another topic, or add documents in whole sentences."
        )
    ctx.state.version += 1
    return BriefDrafted(version=ctx.state.version, title=plan.title, sections=sections, model=model)
