"""Tells the runs that are open from those that have ended, when the log holds more heads than there should be.

A nats-server (2.15.1) that is killed before it has written its index reads its store anew, and finds what was
overwritten by something that has expired: heads of runs that have ended are back. The cursor says how many runs are
open, in the append that opens or ends one, so a takeover sees that at once, and asks for the ends only then.
"""

import logging
from collections.abc import Sequence
from contextlib import aclosing, suppress

from hocket.engine.runs import tombstone
from hocket.errors import LogError
from hocket.log.base import Expect, Log
from hocket.subjects import Names
from hocket.telemetry import note

AT_ONCE = 500
"""Most ends that one question is about, and most heads in one append: what an answer holds with room to spare."""


async def ended(log: Log, names: Names, known: str, heads: Sequence[str]) -> set[str]:
    """Those heads whose runs have ended. A question that nothing answers takes long, so one more, `known`, is asked."""
    over: set[str] = set()
    for first in range(0, len(heads), AT_ONCE):
        ends = {names.end(head): head for head in heads[first : first + AT_ONCE]}
        async with aclosing(log.scan([known, *ends])) as messages:
            over |= {ends[message.subject] async for message in messages if message.subject in ends}
    return over


async def overwrite(log: Log, fence: Expect, heads: Sequence[str]) -> None:
    """Overwrite heads of runs that have ended once more, under the fence of whoever has found them.

    Nobody waits for it: what it leaves is found again by the next takeover.
    """
    with suppress(LogError):
        for first in range(0, len(heads), AT_ONCE):
            head, *rest = map(tombstone, heads[first : first + AT_ONCE])
            await log.append([head._replace(expect=fence), *rest])
    if heads:
        note(logging.WARNING, "ended runs were back", fence=fence.subject, runs=len(heads))


__all__ = ["ended", "overwrite"]
