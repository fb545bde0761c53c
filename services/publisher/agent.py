"""The publisher writes the brief that was reviewed, once somebody has approved it."""

from pydantic import BaseModel

from hocket import Agent, Context
from hocket_schemas.briefs import (
    BriefApproved,
    BriefFailed,
    BriefPublished,
    BriefRejected,
    BriefRequested,
    BriefReviewed,
)

from .files import CannotWrite, digest_of, publish
from .rendering import render


class Proof(BaseModel):
    """The brief that waits, or the decision that came before it."""

    reviewed: BriefReviewed | None = None
    decision: BriefApproved | BriefRejected | None = None
    is_decided: bool = False


publisher = Agent("publisher", state=Proof, version="1")

Outcome = BriefPublished | BriefFailed | None


@publisher.on(BriefReviewed)
async def take_review(event: BriefReviewed, ctx: Context[Proof]) -> Outcome:
    """Keep the brief until it is approved."""
    ctx.state.reviewed = event
    return await _decide(ctx)


@publisher.on(BriefApproved)
async def approve(event: BriefApproved, ctx: Context[Proof]) -> Outcome:
    """Publish the version that was approved. The first decision on it stands."""
    return await _take(event, ctx)


@publisher.on(BriefRejected)
async def reject(event: BriefRejected, ctx: Context[Proof]) -> Outcome:
    """Give the brief up."""
    return await _take(event, ctx)


async def _take(decision: BriefApproved | BriefRejected, ctx: Context[Proof]) -> Outcome:
    reviewed = ctx.state.reviewed
    # A decision is about what was shown: one about another version is void.
    if reviewed is None or reviewed.version == decision.version:
        ctx.state.decision = ctx.state.decision or decision
    return await _decide(ctx)


async def _decide(ctx: Context[Proof]) -> Outcome:
    reviewed, decision = ctx.state.reviewed, ctx.state.decision
    if ctx.state.is_decided or reviewed is None or decision is None:
        return None
    if decision.version != reviewed.version:
        ctx.state.decision = None
        return None
    ctx.state.is_decided = True
    if isinstance(decision, BriefRejected):
        reason = f": {decision.reason}" if decision.reason else "."
        return BriefFailed(reason=f"{decision.by} rejected the brief{reason}")
    request = (await ctx.history(BriefRequested))[0]
    return _publish(request.out, reviewed)


def _publish(out: str, reviewed: BriefReviewed) -> BriefPublished | BriefFailed:
    """Write the file and the index. Doing it again changes nothing, so a crash in between is harmless."""
    data = render(reviewed).encode()
    try:
        publish(out, data, reviewed)
    except CannotWrite as error:
        return BriefFailed(reason=str(error))
    return BriefPublished(
        path=out,
        digest=digest_of(data),
        sentences=sum(len(section.sentences) for section in reviewed.sections),
        documents=len(reviewed.sources),
    )
