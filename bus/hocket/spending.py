"""Reserving what a call may use up before it is made, and settling it when it is known: each once, whatever dies."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from hocket.account import Amounts, Refusal, Spends, counted, overdue
from hocket.clock import rfc3339
from hocket.errors import BudgetExceeded
from hocket.process import Process
from hocket.run import SPEND, Entry, Run
from hocket_schemas.budgets import Unit

STEP: Amounts = {"steps": 1}
EFFECT: Amounts = {"steps": 1, "tool_calls": 1}


async def reserve(
    run: Run, process: Process, name: str, occurrence: int, counts: Amounts, spends: Spends | None
) -> None:
    """Reserve what the call of that name and occurrence counts as and may use up, unless an earlier execution has.

    A saga without a budget has nothing to do here, and what cleans up is not held up. Raises BudgetExceeded, now and
    whenever the handler comes here again.
    """
    if not run.purse or run.cancelled:
        return
    place = (f"{SPEND} {name}", occurrence)
    known = (await run.loaded()).get(place)
    if known is None:
        now_s = process.clock.now_s()
        limited = counted(run.purse, {**counts, **spends.amounts()} if spends else counts)
        if not limited and not overdue(run.purse, int(now_s * 1000)):
            return
        of = {"of": spends.label} if spends and spends.label else {}
        known = await run.draw(Entry(*place, SPEND, rfc3339(now_s), result={"amounts": limited, **of}), limited)
    _raise_if_refused(known)


async def spend(run: Run, process: Process, spends: Spends) -> None:
    """Draw what the handler names. Raises BudgetExceeded."""
    if not run.purse:
        return
    occurrence, known = await run.recall(SPEND)
    if known is None:
        now_s = process.clock.now_s()
        limited = counted(run.purse, spends.amounts())
        known = await run.draw(Entry(SPEND, occurrence, SPEND, rfc3339(now_s), result={"amounts": limited}), limited)
    _raise_if_refused(known)


async def settle(
    run: Run, process: Process, name: str, occurrence: int, used: Callable[[Any], Spends], outcome: Any
) -> None:
    """Give back what was reserved for a call and not used up, or draw what it took beyond that."""
    if not run.purse or run.cancelled:
        return
    entries = await run.loaded()
    place = (f"settle {name}", occurrence)
    reserved = entries.get((f"{SPEND} {name}", occurrence))
    if reserved is None or place in entries:
        return
    before: dict[Unit, int] = reserved.result["amounts"]
    after = counted(run.purse, used(outcome).amounts())
    units: set[Unit] = ({*before, *after}) & {"tokens", "cost"}
    difference = {unit: after.get(unit, 0) - before.get(unit, 0) for unit in units}
    if any(difference.values()):
        at = rfc3339(process.clock.now_s())
        result = {**reserved.result, "amounts": difference}
        await run.draw(Entry(*place, SPEND, at, result=result), difference, forced=True)


def label_of(entry: Entry) -> str:
    """What a draw is listed as: what was called."""
    of: str = (entry.result or {}).get("of", "")
    return of or entry.name.removeprefix(f"{SPEND} ").removeprefix("settle ")


def refused(entry: Entry, refusal: Refusal) -> Entry:
    """What the journal keeps instead of a reservation."""
    return Entry(
        entry.name,
        entry.occurrence,
        entry.kind,
        entry.at,
        result={**asdict(refusal), "spent": dict(refusal.spent)},
        error=(BudgetExceeded.__name__, str(refusal)),
    )


def _raise_if_refused(entry: Entry) -> None:
    if entry.error is not None:
        told = entry.result
        raise BudgetExceeded(
            entry.error[1],
            limit=told["limit"],
            saga=told["saga"],
            most=told["most"],
            count=told["count"],
            spent=told["spent"],
        )
