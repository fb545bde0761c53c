"""What handling one event changes, and the claim under which it may be written."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hocket.engine.cursor import Cursor
from hocket.engine.tally import Tally
from hocket.log.base import APPEND_MESSAGES_MAX, Expect, Seq, Write
from hocket.subjects import Names

LOT_MAX = APPEND_MESSAGES_MAX - 20
"""So many records go ahead at once: even, since what ends a run is two, and with room for the cursor and the fence."""


class Tenure:
    """One claim's time as owner of (agent, shard): its fencing token and its cursor.

    It ends once, by the first thing that goes wrong; everything in memory that hangs on it is void then.
    """

    def __init__(
        self, agent: str, names: Names, token: Seq, doubt: int, cursor: Cursor, runs: Iterable[str] = ()
    ) -> None:
        self.agent = agent
        self.names = names
        self.token = token
        self.doubt = doubt
        """Events below this sequence are suspects: an earlier owner may have answered them."""

        self.cursor = cursor
        self.tally = Tally(names.runs(agent), runs)
        self.fence = Expect(names.owner(agent), token)
        self.unwritten = 0
        """How many events are finished that no cursor in the log, or on its way there, says so of."""

        self.lagging_since_s = 0.0
        """When the first of them was finished."""

        self.followed = asyncio.Event()
        """Whether somebody stands by who would follow at once; set as well when nobody is to be waited for."""

        self.followed.set()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._ended.done()

    def end(self, cause: BaseException) -> None:
        """End it; only the first cause counts."""
        if not self._ended.done():
            self._ended.set_exception(cause)
            self._ended.exception()  # seen: a tenure that nobody waits for any more is no leak

    async def ended(self) -> None:
        """Wait for the end and raise its cause."""
        await asyncio.shield(self._ended)

    def finish(self, seqs: Sequence[int], now_s: float) -> None:
        """Count events as done before the log's cursor says so; it follows within `cursor_lag_s`."""
        self.cursor.finish(seqs)
        if not self.unwritten:
            self.lagging_since_s = now_s
        self.unwritten += len(seqs)


@dataclass(slots=True, eq=False)
class Cell:
    """One actor's state in memory, as of its last handled event, committed or about to be."""

    subject: str
    seq: int
    """Of the record it was loaded from or last committed as; 0: there is none."""

    data: bytes
    value: Any
    """The typed state; rebuilt from `data` when a handler failed half way through changing it."""

    kept: timedelta | None = None
    """How long the log keeps the record when nothing changes any more; None: for ever."""

    pending: int = 0
    """How many of its transitions are not settled; until then memory knows more than the log."""


@dataclass(slots=True, eq=False)
class Transition:
    """Everything that handling one event changes: committed together or not at all."""

    tenure: Tenure
    finishes: Seq | None
    """The event; None when it left the cursor's window before, as a run."""

    events: list[Write] = field(default_factory=list)
    cell: Cell | None = None
    """The actor whose state changed."""

    state: bytes = b""
    records: list[Write] = field(default_factory=list)
    """Run heads, tombstones, dead letters."""

    ahead: list[Write] = field(default_factory=list)
    """Records that go with it if they are few, and before it if they are too many for one append: whoever handles the
    event again after a crash in between writes what is left of them.
    """

    contested: frozenset[str] = frozenset()
    """What others write as well, each with its condition: a refusal says that somebody was faster."""

    single: bool = False
    """Whether it is one event on its cause's own key, one dead letter or one journal entry: a plain publish carries it,
    for a fraction of what a batch costs."""

    settled: Callable[[bool], None] | None = None
    """Called with True when it is stored, with False when it is contested and somebody was faster.

    Not called when the tenure ends first: then recovery decides.
    """

    def lots(self) -> Iterator["Transition"]:
        """What is to be put for it, in order: itself, and before it what goes ahead."""
        ahead, self.ahead = self.ahead, []
        if len(ahead) <= LOT_MAX - len(self.events) - len(self.records):
            self.records += ahead
        else:
            for first in range(0, len(ahead), LOT_MAX):
                yield Transition(self.tenure, None, records=ahead[first : first + LOT_MAX])
        yield self
