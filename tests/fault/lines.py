"""Lines to the log's twin, each of which can be held up and struck; an observer notes what came through which."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from hocket.clock import LoopClock
from hocket.log.base import Seq, Write
from hocket.log.memory import Faults, MemoryLog, MemoryServer

LATE_S = 2.0
"""How much later than its sender gave up an append may still be stored."""

TAGS = {1.0: "request lost", 2.0: "answer lost", 3.0: "late append", 4.0: "consumer lost"}


class _Struck(Faults):
    """Faults that strike once each, when they are armed, and say so."""

    def arm(self, kind: str, struck: Callable[[str], None]) -> None:
        self.armed: Counter[str] = getattr(self, "armed", Counter())
        self.armed[kind] += 1
        self.struck = struck

    def disarm(self) -> None:
        self.armed = Counter()
        self.delay_s = 0.0
        self.deaf = False

    def strikes(self, chance: float) -> bool:
        kind = TAGS.get(chance, "")
        if getattr(self, "armed", {}).get(kind, 0) < 1:
            return False
        self.armed[kind] -= 1
        self.struck(kind)
        return True


class _Door:
    """What one line sees of the server, which notes through whom something came, however late."""

    def __init__(self, server: "Watched", line: int) -> None:
        self._server = server
        self._line = line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def store(self, writes: Sequence[Write]) -> Seq:
        last = self._server.store(writes)
        self._server.lines += [self._line] * len(writes)
        return last


class Line(MemoryLog):
    """A connection whose other end can be held up, as that of a process which was stopped."""

    def __init__(self, server: "Watched", number: int, seed: int) -> None:
        faults = _Struck(
            rng=random.Random(f"{seed} line {number}"),
            lose_request=1.0,
            lose_answer=2.0,
            late=3.0,
            late_s=LATE_S,
            lose_consumer=4.0,
        )
        super().__init__(_Door(server, number), faults)  # type: ignore[arg-type] - it is one but for its store
        self.number = number
        self.free = asyncio.Event()
        self.free.set()

    async def _travel(self) -> None:
        await super()._travel()
        if not self.free.is_set():
            await self.free.wait()
            await super()._travel()


class Watched(MemoryServer):
    """A server at which an observer notes who stored what."""

    def __init__(self, seed: int) -> None:
        super().__init__(clock=LoopClock())
        self.lines: list[int] = []
        self._seed = seed
        self._lines = 0

    def connect(self, faults: Faults | None = None) -> Line:
        line = Line(self, self._lines, self._seed)
        self._lines += 1
        return line
