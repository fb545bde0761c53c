"""The publisher asks a person about the brief that was reviewed and, if it is approved, writes it."""

import asyncio

from hocket import Agent, Context
from hocket_schemas.briefs import DECISION, BriefFailed, BriefPublished, BriefRejected, BriefRequested, BriefReviewed

from . import files
from .files import CannotWrite, Entry, Written
from .proofs import NotEditable, proof_of, rejection, title_of
from .rendering import render

QUESTION = "Publish this brief?"

publisher = Agent("publisher", version="2")


@publisher.on(BriefReviewed)
async def publish(event: BriefReviewed, ctx: Context) -> BriefPublished | BriefRejected | BriefFailed:
    """Show somebody exactly what would be written; then write it, and list it in the index beside it."""
    out = (await ctx.history(BriefRequested))[0].out
    text = await ctx.step(render, event)
    proof = proof_of(event, out, text)
    decision = await ctx.approve(QUESTION, details=proof, timeout=DECISION)
    if not decision.approved:
        return rejection(event, decision)
    try:
        title = title_of(decision, proof)
        if title != event.title:
            event = event.model_copy(update={"title": title})
            text = await ctx.step(render, event)
        before = await ctx.step(files.look, out)
        written = await ctx.step(write_brief, out, text, before.text)
        await ctx.step(list_brief, out, files.entry_of(out, written.digest, event), before.entry)
    except NotEditable as error:
        return BriefRejected(version=event.version, by=", ".join(decision.by), reason=str(error))
    except CannotWrite as error:
        return BriefFailed(reason=str(error))
    sentences = sum(len(section.sentences) for section in event.sections)
    return BriefPublished(path=out, digest=written.digest, sentences=sentences, documents=len(event.sources))


@publisher.effect()
async def write_brief(out: str, text: str, before: str | None) -> Written:
    """Put the brief in its place. `before` is what was there, for the day when it is undone."""
    return await asyncio.to_thread(files.write, out, text)


@write_brief.verify
async def find_brief(out: str, text: str, before: str | None) -> Written | None:
    """The file, if it is there and holds the text."""
    return await asyncio.to_thread(files.find, out, text)


@write_brief.undo
async def take_brief_back(out: str, text: str, before: str | None, written: Written) -> None:
    """Leave what was there before, unless somebody has changed the file since."""
    await asyncio.to_thread(files.take_back, out, written.digest, before)


@publisher.effect()
async def list_brief(out: str, entry: Entry, before: Entry | None) -> str:
    """Enter the brief in the index, and return the index's path."""
    return await asyncio.to_thread(files.enter, out, entry)


@list_brief.verify
async def find_entry(out: str, entry: Entry, before: Entry | None) -> str | None:
    """The index, if it lists the brief."""
    return await asyncio.to_thread(files.find_entry, out, entry)


@list_brief.undo
async def take_entry_back(out: str, entry: Entry, before: Entry | None, index: str) -> None:
    """Leave the entry that was there before, unless somebody has published to the same place since."""
    await asyncio.to_thread(files.take_entry_back, out, entry, before)
