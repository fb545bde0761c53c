"""Tells the runs that are open from those that have ended, when the log holds more heads than there should be.

A nats-server (2.15.1) that is killed before it has written its index reads its store anew, and finds what was
overwritten by something that has expired: heads of runs that have ended are back. The cursor says how many runs are
open, in the append that opens or ends one, so a takeover sees that at once, and asks for the ends only then.
"""

import logging
from collections.abc import Sequence
from contextlib import aclosing

from hocket.engine.commit import Committer
from hocket.engine.runs import tombstone
from hocket.engine.transition import Tenure, Transition
from hocket.log.base import Log
from hocket.subjects import Names
from hocket.telemetry import note

ASKED_AT_ONCE = 500
"""Most ends that one question is about: what an answer holds with room to spare."""

WRITTEN_AT_ONCE = 100
"""Most heads that are overwritten in one append: others wait for it."""


async def ended(log: Log, names: Names, known: str, heads: Sequence[str]) -> set[str]:
    """Those heads whose runs have ended. A question that nothing answers takes long, so one more, `known`, is asked."""
    over: set[str] = set()
    for first in range(0, len(heads), ASKED_AT_ONCE):
        ends = {names.end(head): head for head in heads[first : first + ASKED_AT_ONCE]}
        async with aclosing(log.scan([known, *ends])) as messages:
            over |= {ends[message.subject] async for message in messages if message.subject in ends}
    return over


async def overwrite(committer: Committer, tenure: Tenure, heads: Sequence[str]) -> None:
    """Overwrite heads of runs that have ended once more, beside whatever else the tenure commits.

    Nobody waits for it: what it leaves is found again by the next takeover.
    """
    for first in range(0, len(heads), WRITTEN_AT_ONCE):
        some = heads[first : first + WRITTEN_AT_ONCE]
        await committer.fate_of(Transition(tenure, None, records=[*map(tombstone, some)]))
    if heads:
        note(logging.WARNING, "ended runs were back", agent=tenure.agent, runs=len(heads))


__all__ = ["ended", "overwrite"]
