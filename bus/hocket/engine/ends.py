"""Tells the runs that are open from those that have ended, when the log holds more heads than there should be.

A nats-server (2.15.1) that is killed before it has written its index reads its store anew, and finds what was
overwritten by something that has expired: heads of runs that have ended are back. The cursor says how many runs are
open, in the append that opens or ends one, so a takeover sees that at once, and asks for the ends only then.
"""

import logging
from collections.abc import Sequence
from contextlib import aclosing

from hocket.engine.runs import Head, tombstone
from hocket.log.base import Expect, Log
from hocket.subjects import Names
from hocket.telemetry import note

ASKED_MAX = 500
"""Most ends that one question is about: what one answer holds with room to spare."""


async def still_open(log: Log, names: Names, fence: Expect, runs: Sequence[tuple[str, Head]]) -> list[tuple[str, Head]]:
    """Those of the runs that have not ended; the heads of the others are overwritten again, under the fence."""
    still: list[tuple[str, Head]] = []
    for first in range(0, len(runs), ASKED_MAX):
        some = runs[first : first + ASKED_MAX]
        ends = {names.end(run): run for run, _ in some}
        # The claim is there for sure: a question that nothing answers takes the log much longer.
        async with aclosing(log.scan([fence.subject, *ends])) as messages:
            over = {ends[message.subject] async for message in messages if message.subject in ends}
        if over:
            note(logging.WARNING, "ended runs were back", domain=names.domain, shard=names.shard, runs=len(over))
            head, *rest = map(tombstone, sorted(over))
            await log.append([head._replace(expect=fence), *rest])
        still += [(run, head) for run, head in some if run not in over]
    return still


__all__ = ["still_open"]
