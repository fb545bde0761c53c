"""What people ask of agents while they work: read at the start, and heard ahead of what waits before it.

In a long log requests are far apart, and each costs a server the reading of a block: four thousand took it five
seconds. So whoever stands by reads them then, and a takeover only what has come since. And an owner that has come past
many of them writes down in a few records what they are about, which all that follow read instead.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from hocket.engine.cancels import REQUESTED, Cancel, cancel_of, recalled
from hocket.engine.commit import Committer
from hocket.engine.holds import WORDS
from hocket.engine.transition import Tenure, Transition
from hocket.errors import MalformedEvent
from hocket.log.base import Log, Message, Seq, Write
from hocket.subjects import Names, type_of
from hocket_schemas.cancels import CANCEL_KEPT

TYPES = (REQUESTED, *WORDS)

DIGEST_MIN = 100
"""From so many on that no digest tells of, a new one does."""

DIGEST_MAX = 2000
"""Most requests that one digest tells of: some 100 bytes each."""

NOTHING = Seq(0)


def patterns(names: Names) -> list[str]:
    """Where such requests are."""
    return [names.events_of_type(event_type) for event_type in TYPES]


class Digest(NamedTuple):
    """What the requests to cancel in a stretch of the log are about, in one record. Who asked and why is in the log."""

    after: Seq
    upto: Seq
    """It tells of all that are later than the one and not later than the other."""

    cancels: list[Cancel]

    def to_json(self) -> bytes:
        """The record's body."""
        told = [(each.seq, each.id, *each.scope, each.until_s) for each in self.cancels]
        return orjson.dumps({"after": self.after, "upto": self.upto, "cancels": told})

    @classmethod
    def from_json(cls, body: bytes) -> "Digest":
        """Read a record's body. Raises MalformedEvent when it is none."""
        try:
            told: dict[str, Any] = orjson.loads(body)
            cancels = [recalled(*each) for each in told["cancels"]]
            return cls(Seq(told["after"]), Seq(told["upto"]), cancels)
        except (ValueError, TypeError, KeyError) as error:
            raise MalformedEvent(f"not a digest of requests: {body[:80]!r}") from error


@dataclass(slots=True)
class _Known:
    """What was read of one log."""

    upto: Seq = NOTHING
    cancels: list[Cancel] = field(default_factory=list)
    words: list[Message] = field(default_factory=list)
    digested: int = 0
    """How many of the requests to cancel the digests tell of."""

    number: int = 0
    """Of the digest that has room for more, or of the next one."""

    after: Seq = NOTHING
    """Where in the log that begins."""

    first: int = 0
    """With which request."""


class Requests:
    """Those that the log holds, as far as this process has read them; none of them ever changes."""

    def __init__(self, log: Log, names: Names, agent: str) -> None:
        self._log = log
        self._names = names
        self._agent = agent
        self._known = _Known()

    @property
    def cancels(self) -> Sequence[Cancel]:
        """What is to be cancelled, in log order."""
        return self._known.cancels

    @property
    def words(self) -> Sequence[Message]:
        """What was said of holds, in log order."""
        return self._known.words

    async def read(self, until: Seq) -> None:
        """Know all of them up to a sequence. What a failure cuts short is read again the next time."""
        known = self._known if until >= self._known.upto else _Known()  # else this log is another one
        if not known.upto:
            known = await self._recalled(until)
        cancels, words = await self._between(known.upto, until, patterns(self._names))
        known.cancels += cancels
        known.words += words
        known.upto = until
        self._known = known

    async def digest(self, committer: Committer, tenure: Tenure) -> None:
        """Write down what those are about that the tenure has come past when it begins, if they are many.

        Nobody waits for it: what it leaves is read by the next owner, who does it then.
        """
        known = self._known
        passed = bisect_right(known.cancels, tenure.cursor.floor, key=lambda each: each.seq)
        while passed - known.digested >= DIGEST_MIN:
            last = min(passed, known.first + DIGEST_MAX)
            digest = Digest(known.after, known.cancels[last - 1].seq, known.cancels[known.first : last])
            subject = self._names.digest(self._agent, known.number)
            write = Write(subject, digest.to_json(), ttl=CANCEL_KEPT)
            await committer.fate_of(Transition(tenure, None, records=[write]))
            known.digested = last
            if last - known.first == DIGEST_MAX:
                known.number, known.after, known.first = known.number + 1, digest.upto, last

    async def _recalled(self, until: Seq) -> _Known:
        """What the digests tell, and what is missing between them."""
        known, found = _Known(), list[tuple[int, Digest]]()
        async with aclosing(self._log.scan([self._names.digests(self._agent)])) as messages:
            async for message in messages:
                with suppress(MalformedEvent):  # then it is missing
                    if message.seq <= until:
                        found.append((int(message.subject.rpartition(".")[2]), Digest.from_json(message.data)))
        for number, digest in sorted(found, key=itemgetter(0)):
            if digest.after < known.upto:
                continue  # it was overwritten, and a killed server has brought it back
            if digest.after > known.upto:
                known.cancels += (await self._between(known.upto, digest.after, patterns(self._names)[:1]))[0]
            known.number, known.after, known.first = number, digest.after, len(known.cancels)
            known.cancels += digest.cancels
            known.digested, known.upto = len(known.cancels), digest.upto
            if len(digest.cancels) == DIGEST_MAX:
                known.number, known.after, known.first = number + 1, digest.upto, known.digested
        if known.upto:
            _, known.words = await self._between(NOTHING, known.upto, patterns(self._names)[1:])
        return known

    async def _between(self, after: Seq, until: Seq, filters: Sequence[str]) -> tuple[list[Cancel], list[Message]]:
        """Requests to cancel, and words about holds, that are later than the one and not later than the other."""
        cancels: list[Cancel] = []
        words: list[Message] = []
        async with aclosing(self._log.scan(filters, start=after + 1)) as messages:
            async for message in messages:
                if message.seq > until:
                    break
                if type_of(message.subject) != REQUESTED:
                    words.append(message)
                    continue
                with suppress(MalformedEvent):  # it becomes a dead letter when it is delivered
                    cancels.append(cancel_of(message))
        return cancels, words


async def listen(log: Log, tenure: Tenure, hear: Callable[[Message], None]) -> None:
    """Hear requests as they are stored, for as long as the tenure lasts."""
    async with aclosing(log.scan(patterns(tenure.names), start=tenure.token + 1, follow=True)) as messages:
        async for message in messages:
            with suppress(MalformedEvent):  # it becomes a dead letter when it is delivered
                hear(message)


__all__ = ["DIGEST_MAX", "DIGEST_MIN", "TYPES", "Digest", "Requests", "listen", "patterns"]
