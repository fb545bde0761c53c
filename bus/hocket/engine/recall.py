"""Reads back what runs need to go on: one question for all that ask while the one before is under way."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from hocket.errors import Unavailable
from hocket.log.base import Expect, Log, Message
from hocket.subjects import found_by

ASKED_MAX = 128
"""Most who share a question."""

FOUND_AIM = 500
"""How many messages a question should find: what one answer holds with room to spare, and little enough to wait for."""


@dataclass(slots=True, eq=False)
class _Asked:
    filters: Sequence[str]
    answer: asyncio.Future[list[Message]]
    found: list[Message] = field(default_factory=list)


class Recall:
    """Single subjects and whole journals, read from the log for one tenure.

    Every question is for the tenure's claim too. Whatever knows the claim knows all that an earlier owner has written;
    and a question that nothing answers takes a log many questions more, to find out that nothing is there.
    """

    def __init__(self, log: Log, claim: Expect) -> None:
        self._log = log
        self._claim = claim
        self._asked: deque[_Asked] = deque()
        self._work = asyncio.Event()
        self._share = ASKED_MAX

    async def read(self, *filters: str) -> list[Message]:
        """What is stored under these, in log order. A filter is a subject, one whose last token is `*`, or what
        `Names.emitted` gives.

        Waits for as long as the tenure lasts: a log that does not answer, or answers with what was before the claim,
        ends it.
        """
        asked = _Asked(filters, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        self._work.set()
        return await asked.answer

    async def serve(self) -> None:
        """Ask, and ask again with all that came meanwhile; the owner of the tenure cancels it."""
        while True:
            while not self._asked:
                self._work.clear()
                await self._work.wait()
            await self._ask([self._asked.popleft() for _ in range(min(self._share, len(self._asked)))])

    async def _ask(self, group: Sequence[_Asked]) -> None:
        claim, claimed = self._claim, False
        wanted: dict[str, list[_Asked]] = {claim.subject: []}
        for asked in group:
            for pattern in asked.filters:
                wanted.setdefault(pattern, []).append(asked)
        count = 0
        async with aclosing(self._log.scan(list(wanted))) as messages:
            async for message in messages:
                count += 1
                claimed = claimed or (message.subject == claim.subject and message.seq >= claim.seq)
                for pattern in found_by(message.subject):
                    for asked in wanted.get(pattern, ()):
                        asked.found.append(message)
        if not claimed:
            raise Unavailable(f"the log answers with what was before the claim {claim.seq}")
        for asked in group:
            if not asked.answer.done():
                asked.answer.set_result(asked.found)
        self._share = max(1, min(ASKED_MAX, FOUND_AIM * len(group) // max(1, count)))
