"""The copy of a domain as it was at one moment, taken while the crew works.

A log whose records are overwritten cannot simply be read from its beginning to its end: a record that is replaced
meanwhile would be missing. So two readers go through each shard. One follows what is stored from now on, and keeps it
aside; the other reads what is there already. What the second misses was replaced, and the first has what replaced it.
The copy ends at a moment at which the first had seen all: then it is the shard as of that sequence, and nothing else.
For several shards it is one moment for all, so no effect is copied without its cause.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

import orjson

from hocket.clock import Clock, SystemClock, rfc3339
from hocket.errors import NeverQuiet, Unavailable
from hocket.log.base import Message, Whole
from hocket.storage.line import Stored, body_of, stored, stored_of
from hocket.storage.writing import Writing, writable

QUIET_WAIT_S = 60.0
"""How long to look for a moment at which nothing is being stored."""

LOOK_S = 0.001
"""How long to wait between looks for it: in turn 0 to 3 times this, so as not to keep step with a writer."""

STILL_S = 0.25
"""After so long without a change no append is under way whose first messages are stored already."""

BEHIND_MESSAGES_MAX = 10_000
FORGOTTEN_NS = 1_000_000_000
"""What follows the log must not be further behind: what it misses may have been stored and forgotten unseen, since a
message may be given as little as a second."""

TOLD_EVERY = 1000
BREATH_MESSAGES = 100
"""After so many messages, some milliseconds, everybody else in the process has a turn."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a copy has come."""

    shard: int
    seq: int
    of: int
    """The shard's last sequence when the copy began."""

    messages: int


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy that was taken."""

    path: str
    domain: str
    taken: str
    """The moment that the copy shows, RFC 3339."""

    ends: tuple[int, ...]
    """Of each shard the sequence up to which the copy goes."""

    messages: int
    bytes: int
    digest: str
    """To be noted elsewhere: by it `hocket verify` tells this copy from one that somebody has made up."""


async def back_up(
    logs: Sequence[Whole],
    path: Path,
    *,
    server: str = "",
    clock: Clock | None = None,
    quiet_wait_s: float = QUIET_WAIT_S,
    told: Callable[[Progress], None] = lambda progress: None,
) -> Backup:
    """Copy all shards of a domain into a file, compressed when its name ends in `.gz`.

    Raises NeverQuiet, FileUnwritable and Unavailable; then there is no file.
    """
    clock = clock or SystemClock()
    header = {"domain": logs[0].domain, "shards": len(logs), "server": server, "began": rfc3339(clock.now_s())}
    with Writing(path, {**header, "kind": "backup"}) as writing, tempfile.TemporaryDirectory(dir=path.parent) as aside:
        tails = [_Tail(log, await log.end(), Path(aside) / str(log.shard)) for log in logs]
        try:
            async with _plainly(), asyncio.TaskGroup() as group:
                following = [group.create_task(tail.follow()) for tail in tails]
                for tail in tails:
                    await _copy_what_is_there(tail, writing, told)
                ends = await _moment(tails, quiet_wait_s)
                taken = rfc3339(clock.now_s())
                for task in following:
                    task.cancel()
            for tail, end in zip(tails, ends, strict=True):
                for each in tail.up_to(end):
                    writing.add(each)
        finally:
            for tail in tails:
                tail.close()
        writing.finish({"taken": taken, "ends": ends, "firsts": [tail.first for tail in tails]})
    return Backup(str(path), logs[0].domain, taken, tuple(ends), writing.messages, writing.bytes, writing.digest)


@asynccontextmanager
async def _plainly() -> AsyncIterator[None]:
    """Raise what went wrong first by itself, not in a group."""
    try:
        yield
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


async def _copy_what_is_there(tail: "_Tail", writing: Writing, told: Callable[[Progress], None]) -> None:
    log, shard = tail.log, tail.log.shard
    async with aclosing(log.everything()) as messages:
        async for message in messages:
            if message.seq > tail.began:
                break
            tail.first = tail.first or message.seq
            writing.add(stored(shard, message))
            if writing.messages % TOLD_EVERY == 0:
                told(Progress(shard, message.seq, tail.began, writing.messages))
            if writing.messages % BREATH_MESSAGES == 0:
                await asyncio.sleep(0)  # neither the tails nor a crew in this process must fall behind
    told(Progress(shard, tail.began, tail.began, writing.messages))


async def _moment(tails: "Sequence[_Tail]", wait_s: float) -> list[int]:
    """The sequences of a moment at which all that was stored had been seen, on all shards."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + wait_s
    positions, since_s = [tail.position for tail in tails], loop.time()
    for look in count():
        if (now := [tail.position for tail in tails]) != positions:
            positions, since_s = now, loop.time()
        still = loop.time() - since_s >= STILL_S
        # Asked twice: between the two rounds of answers there is a moment at which each shard ended there.
        if (
            (still or all(tail.whole for tail in tails))
            and await _ends(tails) == positions
            and (len(tails) == 1 or await _ends(tails) == positions)
        ):
            return positions
        if loop.time() > until_s:
            raise NeverQuiet(f"in {wait_s:g} s there was no moment at which nothing was being stored")
        await asyncio.sleep(LOOK_S * (look % 4))
    raise AssertionError("there is always one more look")


async def _ends(tails: "Sequence[_Tail]") -> list[int]:
    return [int(end) for end in await asyncio.gather(*(tail.log.end() for tail in tails))]


class _Tail:
    """What is stored in a shard since the copy began, kept aside in a file until it is known where the copy ends."""

    def __init__(self, log: Whole, began: int, path: Path) -> None:
        self.log = log
        self.began = began
        self.position = began
        self.first = 0
        """The smallest sequence that is copied; 0: none yet."""

        self.whole = False
        """Whether an append is known to end at the position."""

        self._last_ns = 0
        self._path = path
        with writable(path):
            self._file: IO[bytes] = path.open("w+b")

    async def follow(self) -> None:
        """Keep what is stored, until cancelled. Raises Unavailable when some of it may have been missed for good."""
        async with aclosing(self.log.everything(start=self.began + 1, follow=True)) as messages:
            async for message in messages:
                self._require_in_touch(message)
                kept = stored(self.log.shard, message)
                with writable(self._path):
                    self._file.write(orjson.dumps(body_of(kept)) + b"\n")
                self.whole = kept.whole
                self.position = int(message.seq)
                self._last_ns = message.time_ns

    def _require_in_touch(self, message: Message) -> None:
        gap = message.seq != self.position + 1 and self._last_ns and message.time_ns - self._last_ns > FORGOTTEN_NS
        if gap or message.pending > BEHIND_MESSAGES_MAX:
            raise Unavailable(f"the copy of shard {self.log.shard} has lost touch after {self.position}; try again")

    def up_to(self, end: int) -> Iterator[Stored]:
        """What was kept, up to a sequence."""
        with writable(self._path):
            self._file.seek(0)  # which writes what is still in memory
        for line in self._file:
            kept = stored_of(orjson.loads(line))
            if kept.message.seq > end:
                return
            self.first = self.first or int(kept.message.seq)
            yield kept

    def close(self) -> None:
        """Forget what was kept."""
        with suppress(OSError):  # of what could not be written
            self._file.close()


__all__ = ["Backup", "Progress", "back_up"]
