"""The agents of a campaign. What they do shows in the log, in their states, and in the ledger of the world outside."""

import os
import time
from datetime import timedelta

import orjson
from pydantic import BaseModel
from tests.fault.campaign.events import (
    Appended,
    Applied,
    Asked,
    Begun,
    Booked,
    Mirrored,
    NorthDue,
    Refused,
    Rung,
    Settled,
    SouthDue,
)
from tests.fault.campaign.outside import ask

from hocket import Agent, Context
from hocket.effect import NotDone
from hocket.errors import StepFailed
from hocket.lifeline import own_name
from hocket.policy import Limits, Retry

KEPT = timedelta(minutes=15)
LIMITS = Limits(journal_kept=KEPT, dead_kept=KEPT)
APPROVAL_S = 90.0
CALL_S = 4.0


class NoneLeft(NotDone):
    """It cannot be had, now or later."""


RETRY = Retry(attempts_max=6, first_s=0.3, factor=2.0, longest_s=3.0, never=(NoneLeft,))


class Entries(BaseModel):
    """Who was applied, in the order of application."""

    ids: list[str] = []


counter = Agent("counter", state=Entries, state_kept=KEPT, limits=LIMITS)
mirror = Agent("mirror", state=Entries, state_kept=KEPT, limits=LIMITS)
waiter = Agent("waiter", limits=LIMITS)
north = Agent("north", limits=LIMITS)
south = Agent("south", limits=LIMITS)


@counter.on(Appended)
async def append(event: Appended, ctx: Context[Entries]) -> Applied:
    """Put it at the end of the list."""
    ctx.state.ids.append(ctx.envelope.id)
    return Applied(of=ctx.envelope.id, place=len(ctx.state.ids), by=str(own_name()))


@mirror.on(Applied)
async def note(event: Applied, ctx: Context[Entries]) -> Mirrored:
    """Keep a list of one's own."""
    ctx.state.ids.append(event.of)
    return Mirrored(of=event.of, place=len(ctx.state.ids), by=str(own_name()))


def true_s() -> float:
    """The time by the clock that no fault sets, and that the engine never reads."""
    return time.clock_gettime(time.CLOCK_REALTIME)


async def moment() -> float:
    """The time, remembered."""
    return true_s()


@waiter.on(Begun, emits=[Rung, Settled])
async def wait(event: Begun, ctx: Context) -> Settled:
    """Sleep, say so, and ask people."""
    asked_s = await ctx.step(moment)
    await ctx.sleep(event.delay_s)
    ctx.emit(Rung(of=ctx.envelope.id, asked_s=asked_s, rung_s=true_s()))
    decision = await ctx.approve("Go on?", details={"run": ctx.envelope.id}, timeout=APPROVAL_S)
    return Settled(of=ctx.envelope.id, option=decision.option, by=list(decision.by))


async def reach(what: str, key: str, saga: str, n: int) -> str | None:
    """Tell the world outside. Raises NotDone when it says that it has done nothing."""
    said = await ask(os.environ["CAMPAIGN_OUTSIDE"], {"do": what, "key": key, "saga": saga, "n": n}, timeout_s=CALL_S)
    if said.get("refused"):
        raise NotDone(said["refused"])
    if said.get("failed"):
        raise OSError(said["failed"])
    found: str | None = said.get("ref")
    return found


@north.effect(retry=RETRY, timeout_s=CALL_S)
async def book_north(saga: str, n: int, refused_at: int | None, *, key: str) -> str:
    """Of an unknown outcome the north can be asked."""
    if refused_at == n:
        raise NoneLeft("none left")
    return str(await reach("book", key, saga, n))


@book_north.undo
async def cancel_north(saga: str, n: int, refused_at: int | None, ref: str | None, *, key: str) -> None:
    """Take it back."""
    await reach("cancel", key, saga, n)


@book_north.verify
async def find_north(saga: str, n: int, refused_at: int | None, *, key: str) -> str | None:
    """Look whether it is there."""
    return await reach("find", key, saga, n)


@south.effect(retry=RETRY, timeout_s=CALL_S, idempotent=True)
async def book_south(saga: str, n: int, refused_at: int | None, *, key: str) -> str:
    """The south takes a second call for the first."""
    if refused_at == n:
        raise NoneLeft("none left")
    return str(await reach("book", key, saga, n))


@book_south.undo
async def cancel_south(saga: str, n: int, refused_at: int | None, ref: str | None, *, key: str) -> None:
    """Take it back."""
    await reach("cancel", key, saga, n)


book_north.undo_retry = book_south.undo_retry = Retry(attempts_max=3, first_s=0.3)

DUE = (NorthDue, SouthDue)


def after(event: NorthDue | SouthDue) -> NorthDue | SouthDue | Booked:
    """What follows when it is booked."""
    n = event.n + 1
    if n == event.positions:
        return Booked()
    return DUE[n % 2](n=n, positions=event.positions, refused_at=event.refused_at)


@north.on(Asked)
async def begin(event: Asked, ctx: Context) -> NorthDue:
    """The first thing is due."""
    if event.undo_fails_at is not None:
        await ctx.step(reach, "jam", f"{ctx.saga}/jam", ctx.saga, event.undo_fails_at)
    return NorthDue(n=0, positions=event.positions, refused_at=event.refused_at)


@north.on(NorthDue, emits=[SouthDue, Booked, Refused])
async def go_north(event: NorthDue, ctx: Context) -> None:
    """Book, and pass on."""
    try:
        await ctx.step(book_north, ctx.saga, event.n, event.refused_at)
    except StepFailed:
        ctx.emit(Refused())
    else:
        ctx.emit(after(event))


@south.on(SouthDue, emits=[NorthDue, Booked, Refused])
async def go_south(event: SouthDue, ctx: Context) -> None:
    """Book, and pass on."""
    try:
        await ctx.step(book_south, ctx.saga, event.n, event.refused_at)
    except StepFailed:
        ctx.emit(Refused())
    else:
        ctx.emit(after(event))


AGENTS = {agent.name: agent for agent in (counter, mirror, waiter, north, south)}


def manifest(name: str) -> str:
    """What its service says of it."""
    agent = AGENTS[name]
    lists = {"consumes": sorted(agent.handlers), "waits": sorted(agent.waits), "emits": agent.emits}
    return "\n".join(
        [f'name = "{name}"', *(f"{field} = {orjson.dumps(said).decode()}" for field, said in lists.items())]
    )
