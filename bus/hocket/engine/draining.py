"""How an owner that has been asked to stop comes to the end of what it has in hand."""

import asyncio
from collections.abc import Sequence

from hocket.engine.dispatch import Dispatcher
from hocket.engine.opening import Opening

LAST_S = 0.1
"""What those get that were begun meanwhile, once the others have had their time."""


async def drained(dispatcher: Dispatcher, inflow: Sequence[asyncio.Task[None]], drain_s: float, *, spent: bool) -> bool:
    """End the inflow and let what is in hand finish, for `drain_s` seconds at most; return whether all of it has.

    `spent`: the process holds too much memory, and what is in hand may never finish. Then the inflow goes on for as
    long as that gets its time, so that no other key waits for whoever is to blame.
    """
    late: frozenset[object] = frozenset()
    if spent:
        late = frozenset(dispatcher.running)
        if await dispatcher.comes_to(lambda: late.isdisjoint(dispatcher.running), drain_s):
            late = frozenset()
    for task in inflow:
        task.cancel()
    if not late:
        return await dispatcher.comes_to(lambda: dispatcher.quiet, drain_s)
    await dispatcher.comes_to(lambda: late.issuperset(dispatcher.running), LAST_S)
    return False


def suspend(dispatcher: Dispatcher, opening: Opening) -> None:
    """Stop the handlers that still run; as runs they go on from their journals under the next owner."""
    for work in list(dispatcher.running):
        if work.run is None and work.received is not None:
            opening.open(work, work.received)
    dispatcher.cancel()


__all__ = ["drained", "suspend"]
