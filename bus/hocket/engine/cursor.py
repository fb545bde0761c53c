"""How far one agent has come on one shard: arithmetic on sequences, no input or output."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import orjson

from hocket.errors import MalformedEvent
from hocket.log.base import Seq


class Tried(NamedTuple):
    """An event that may have ended the process that handled it. Most events never become one."""

    seq: int
    ends: int
    """How often a process has ended while it handled the event and had written that down before."""

    begun: bool
    """Whether it was being handled when this was written."""

    entries: int = 0
    """How long its journal was when it was last tried again."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The cursor as it stands in the log: every event of mine up to `upto` is finished, but for `open`."""

    upto: int = 0
    open: tuple[int, ...] = ()
    """Ascending."""

    tried: tuple[Tried, ...] = ()
    """What is known of attempts that ended with their process, at events that are not finished and at open runs."""

    runs: int | None = None
    """How many runs are open; None: nobody has counted them."""

    @property
    def floor(self) -> int:
        """Everything up to here is finished: reading starts at the next."""
        return self.open[0] - 1 if self.open else self.upto

    def taken_over(self, runs: Collection[int], *, unclean: bool) -> "Mark":
        """The same as its next owner reads it, who has found the open runs of these events.

        Only the end of a process counts (`unclean`): neither that of a tenure within it, nor leaving in good order.
        """
        left = (each for each in self.tried if each.seq > self.upto or each.seq in self.open or each.seq in runs)
        counted = (each._replace(ends=each.ends + (each.begun and unclean), begun=False) for each in left)
        return replace(self, tried=tuple(each for each in counted if each.ends))

    def to_json(self) -> bytes:
        """The record's body."""
        fields: dict[str, object] = {"upto": self.upto, "open": self.open}
        if self.tried:
            fields["tried"] = [list(each) for each in self.tried]
        if self.runs is not None:
            fields["runs"] = self.runs
        return orjson.dumps(fields)

    @classmethod
    def from_json(cls, body: bytes) -> "Mark":
        """Read a record's body. Raises MalformedEvent when it is no cursor."""
        try:
            fields = orjson.loads(body)
            tried = tuple(Tried(*each) for each in fields.get("tried", ()))
            runs = fields.get("runs")
            open_ = tuple(int(seq) for seq in fields["open"])
            return cls(int(fields["upto"]), open_, tried, None if runs is None else int(runs))
        except (ValueError, KeyError, TypeError) as error:
            raise MalformedEvent(f"not a cursor record: {body[:80]!r}") from error


class Cursor:
    """The live cursor: what was begun and what is finished since the mark that it started from.

    Events must be begun in log order. What an earlier owner left open is open until it is delivered again;
    when a later event comes first, it has aged out of the log, and counts as finished.
    """

    def __init__(self, mark: Mark) -> None:
        self._start = mark.upto
        self._upto = mark.upto
        self._open = dict.fromkeys(mark.open, 0)
        """By the size of each that was delivered, in bytes."""

        self.bytes = 0
        """How much that is in sum."""

        self._awaited = dict.fromkeys(mark.open)
        self.tried = {each.seq: each for each in mark.tried}

    def begin(self, seq: Seq, size: int = 0) -> bool:
        """Take a delivered event of so many bytes; False when it is finished already and must be skipped."""
        while self._awaited:
            awaited = next(iter(self._awaited))
            if awaited > seq:
                break
            del self._awaited[awaited]
            if awaited == seq:
                return self._hold(seq, size)
            self._open.pop(awaited, None)
        return seq > self._start and self._hold(seq, size)

    def _hold(self, seq: Seq, size: int) -> bool:
        self._open[seq] = size
        self.bytes += size
        return True

    def finish(self, seqs: Collection[int]) -> None:
        """These events are done: committed, or without anything to commit."""
        for seq in seqs:
            self.bytes -= self._open.pop(seq, 0)
            self._upto = max(self._upto, seq)

    def finished(self, seq: Seq) -> bool:
        """Whether an event of mine is done; one that was not delivered yet is not."""
        return seq <= self._upto and seq not in self._open

    def mark(self, finishing: Collection[int] = ()) -> Mark:
        """The cursor as a commit should record it that also finishes these events."""
        upto = max(self._upto, max(finishing, default=0))
        still_open: list[int] = []
        for seq in self._open:
            if seq > upto:
                break
            if seq not in finishing:
                still_open.append(seq)
        return Mark(upto, tuple(still_open), tuple(self.tried.values()) if self.tried else ())

    @property
    def floor(self) -> Seq:
        """Everything delivered up to here is finished."""
        first = next(iter(self._open), None)
        return Seq(first - 1 if first is not None else self._upto)

    @property
    def in_hand(self) -> int:
        """How many events are begun, or left open by an earlier owner, and not finished."""
        return len(self._open)
