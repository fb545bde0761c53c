"""What the agents of a domain know, read from the log and asked as of any moment."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, finalize

from hocket.client import Bus, Receipt
from hocket.context import Context
from hocket.errors import Unavailable, UsageError
from hocket.log.base import Log, Message
from hocket.memory import answer
from hocket.memory.index import TYPES, Index
from hocket.memory.question import AsOf, Position, Question, Recalled
from hocket.subjects import Names

M = TypeVar("M", bound=AsOf)

TAKEN_MAX = 500
"""So many events are added to the rows in one transaction."""

INCLUDED_S = 10.0
"""How long to wait for a position that the log does not know yet."""

LOOK_S = 0.05


class _Found(NamedTuple):
    """What a handler's journal keeps of a question: not what the facts say, so that forgetting reaches that too."""

    as_of: AsOf
    ids: list[str]


@dataclass(slots=True)
class _Open:
    """The rows of one connection to a domain."""

    index: Index
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    compared: bool = False
    """Whether the rows are known to be of this log, and not of another that had the same name."""


class Memory:
    """All that agents have remembered, as a projection: it can be thrown away, and is made again from the log.

    ```python
    memory = Memory()

    @concierge.on(TripWished, emits=[Remembered])
    async def plan(event: TripWished, ctx: Context) -> None:
        known = await memory.recall(ctx, event.wish, about=event.traveller)
        remember(ctx, "prefers the window seat", about=event.traveller)
    ```

    A question first reads what has come to the log since the last one, so it knows all that was committed before it.
    With a `path` the rows are kept in a file, which several processes may share and which may be deleted at any time;
    otherwise in memory, for as long as the connection lasts.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = Path(path) if path is not None else None
        self._open: WeakKeyDictionary[Log, _Open] = WeakKeyDictionary()

    async def recall(
        self,
        ctx: Context[Any],
        words: str = "",
        *,
        about: str = "",
        kind: str = "",
        as_of: AsOf | None = None,
        includes: Receipt | Position | None = None,
        most: int = 10,
    ) -> list[Recalled]:
        """The facts that answer a question of a handler, as a step: when it runs again it gets the same.

        `words`, `about`, `kind` and `most` are as in `Question`; without words the newest come first. `as_of` asks for
        a moment of the past, and `includes` for an answer that knows what was stored up to there. The journal keeps
        which facts were found, and as of when; what was forgotten since is missing when the handler runs again.
        """
        logs = ctx.process.logs
        if not logs:
            raise UsageError("nobody has said which log this process works on; recall in a crew, or ask through a bus")
        question = Question(words, about, kind, ctx.agent, most)

        looked = False

        async def look(question: Question) -> _Found:
            nonlocal looked
            looked = True
            position = await self._caught_up(logs, includes)
            moment = position if as_of is None else _in_domain(as_of, logs)
            return _Found(moment, answer.standing(self._of(logs).index, question, moment))

        found = await ctx.step_with(look, question, step_name="recall")
        if not looked:
            await self._caught_up(logs, found.as_of if isinstance(found.as_of, tuple) else None)
        return answer.facts(self._of(logs).index, found.ids, found.as_of)

    async def ask(
        self,
        bus: Bus,
        question: Question,
        *,
        as_of: AsOf | None = None,
        includes: Receipt | Position | None = None,
    ) -> list[Recalled]:
        """The facts that answer a question from outside; `as_of` and `includes` are as in `recall`.

        Raises Unavailable when the log does not come to know what is to be included.
        """
        position = await self._caught_up(bus.logs, includes)
        moment = position if as_of is None else _in_domain(as_of, bus.logs)
        index = self._of(bus.logs).index
        return answer.facts(index, answer.standing(index, question, moment), moment)

    async def position(self, bus: Bus) -> Position:
        """Read on to the log's end, and say where that is: a moment to ask for later."""
        return await self._caught_up(bus.logs, None)

    async def rebuild(self, bus: Bus) -> Position:
        """Throw the rows away and make them again from the log."""
        opened = self._of(bus.logs)
        async with opened.reading:
            opened.index.clear()
        return await self._caught_up(bus.logs, None)

    async def digest(self, bus: Bus) -> str:
        """SHA-256 over all rows at the log's end: the same for any two projections of one log."""
        await self._caught_up(bus.logs, None)
        return self._of(bus.logs).index.digest()

    async def _caught_up(self, logs: Sequence[Log], includes: Receipt | Position | None) -> Position:
        wanted = [0] * len(logs)
        if isinstance(includes, Receipt):
            wanted[includes.shard] = includes.seq
        elif includes is not None:
            wanted = list(_in_domain(includes, logs))
        opened = self._of(logs)
        async with opened.reading:
            if not opened.compared:
                await _compare(opened.index, logs)
                opened.compared = True
            while not all([await _read(opened.index, log, n, wanted[n]) for n, log in enumerate(logs)]):
                pass  # the rows were thrown away, those of the shards before as well
            return opened.index.position

    def _of(self, logs: Sequence[Log]) -> _Open:
        opened = self._open.get(logs[0])
        if opened is None:
            opened = self._open[logs[0]] = _Open(Index(self.path, len(logs)))
            finalize(logs[0], opened.index.close)
        return opened


def _in_domain(moment: M, logs: Sequence[Log]) -> M:
    """A moment that can be asked for here. Raises UsageError for a position of another domain."""
    if isinstance(moment, tuple) and len(moment) != len(logs):
        raise UsageError(f"a position in a domain of {len(logs)} shards has so many numbers, not {moment}")
    return moment


async def _read(index: Index, log: Log, shard: int, wanted: int) -> bool:
    """Read on to the log's end, at least to a sequence. False: the rows were of another log, and all are gone."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + INCLUDED_S
    while True:
        end = await log.end()
        if end < wanted:
            if loop.time() > until_s:
                raise Unavailable(f"the log ends at {end}, and {wanted} is to be included")
            await asyncio.sleep(LOOK_S)
        elif index.position[shard] > end:
            index.clear()  # of a log that was brought back from a copy
            return False
        elif index.position[shard] == end or await _read_to(index, log, shard, end):
            return True


async def _compare(index: Index, logs: Sequence[Log]) -> None:
    """Make rows anew that do not follow from these logs: the newest message that they know is there, or newer."""
    for log, (subject, seq) in zip(logs, index.newest, strict=True):
        message = await log.last(subject) if subject else None
        if subject and (message is None or message.seq < seq):
            index.clear()
            return


async def _read_to(index: Index, log: Log, shard: int, end: int) -> bool:
    """Add what comes after the rows' position. False: others write to the same file, and were quicker."""
    names = Names(log.domain, shard)
    since = index.position[shard]
    messages: list[Message] = []
    filters = [names.events_of_type(event_type) for event_type in TYPES]
    async with aclosing(log.scan(filters, start=since + 1)) as found:
        async for message in found:
            messages.append(message)
            if len(messages) == TAKEN_MAX:
                if not index.take(shard, messages, since=since, upto=message.seq):
                    return False
                since = message.seq
                messages = []
    last = messages[-1].seq if messages else since
    return index.take(shard, messages, since=since, upto=max(end, last))


__all__ = ["Memory"]
