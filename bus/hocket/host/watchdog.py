"""Notices that the event loop of this process has stopped turning, and finds out who holds it up.

One thread and one number: the loop counts its turns, the thread looks whether the number moves. Who it was is
read off the loop's stack, and only then, so a handler costs nothing more for being watched. Code that holds the
interpreter's lock (a C extension, a regular expression gone wild) stops the thread as well: then the block is
noticed by the supervisor, and nobody can be named.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from hocket.agent import Handler
from hocket.clock import Clock, SystemClock, rfc3339
from hocket.context import Context
from hocket.telemetry import note

BLOCKED_S = 5.0
"""A loop that has not turned for so long is blocked."""

LOOKS = 10
"""Looks until then. They are counted instead of reading a clock: a process that was stopped has not been blocked."""

STACK_FRAMES_MAX = 12


@dataclass(frozen=True, slots=True)
class Block:
    """A time in which the loop did not turn, and who held it up. Empty texts: it was no handler."""

    agent: str
    handler: str
    id: str
    """Of the event that was being handled."""

    where: str
    """The line of the handler's own module, else of whatever ran: `agent.py:12 in greet`."""

    at: str
    """When the loop turned for the last time before."""

    for_s: float
    """How long it took; while it lasts, so far."""


class Watchdog:
    """What is known of one loop."""

    def __init__(self, blocked_s: float, beat: Callable[[], None], tell: Callable[[Block], None], clock: Clock) -> None:
        self.last: Block | None = None
        """The newest block that is over."""

        self.times = 0
        """How often it was blocked."""

        self._look_s = blocked_s / LOOKS
        self._beat = beat
        self._tell = tell
        self._clock = clock
        self._turns = 0
        self._turned_s = time.monotonic()
        self._thread_id = threading.get_ident()
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_soon(self._turn)
        self._over = threading.Event()

    def vitals(self) -> Mapping[str, Any]:
        """For the heartbeat: how often the loop was blocked, and by whom last."""
        return {"blocks": self.times, "blocked": asdict(self.last) if self.last else None}

    def watch(self) -> None:
        """Look until told to end; the life of the thread."""
        seen, since_s, looks = self._turns, self._turned_s, 0
        block: Block | None = None
        while not self._over.wait(self._look_s):
            if self._turns != seen:
                if block is not None:
                    self.last = replace(block, for_s=round(self._turned_s - since_s, 2))
                    block = None
                    note(logging.WARNING, "event loop turns again", agent=self.last.agent, for_s=self.last.for_s)
                seen, since_s, looks = self._turns, self._turned_s, 0
                continue
            looks += 1
            if looks == LOOKS:
                self.times += 1
                block, stack = self._find(since_s)
                note(logging.ERROR, "event loop blocked", **asdict(block), stack=stack)
                self._tell(block)

    def end(self) -> None:
        """Stop looking."""
        self._next.cancel()
        self._over.set()

    def _turn(self) -> None:
        self._turns += 1
        self._turned_s = time.monotonic()
        self._beat()
        self._next = self._loop.call_later(self._look_s / 2, self._turn)

    def _find(self, since_s: float) -> tuple[Block, str]:
        """Who holds the loop up now, and the stack, the innermost call last."""
        for_s = time.monotonic() - since_s
        frames = list(_inner_first(sys._current_frames().get(self._thread_id)))
        context, handler = _found(frames, Context), _found(frames, Handler)
        own = handler.function.__code__.co_filename if handler else ""
        line = next((frame for frame in frames if frame.f_code.co_filename == own), frames[0] if frames else None)
        block = Block(
            agent=context.agent if context else "",
            handler=handler.function.__qualname__ if handler else "",
            id=context.envelope.id if context else "",
            where=_place(line) if line else "",
            at=rfc3339(self._clock.now_s() - for_s),
            for_s=round(for_s, 2),
        )
        shown = [(frame, frame.f_lineno) for frame in frames[:STACK_FRAMES_MAX]]
        return block, "".join(traceback.StackSummary.extract(iter(reversed(shown))).format())


@contextmanager
def watching(
    *,
    blocked_s: float = BLOCKED_S,
    beat: Callable[[], None] = lambda: None,
    tell: Callable[[Block], None] = lambda block: None,
    clock: Clock | None = None,
) -> Iterator[Watchdog]:
    """Watch the running loop for as long as the block lasts.

    `beat` is called by the loop, ten times and more within `blocked_s`, as long as it turns. `tell` is called by
    another thread with each block, while it lasts.
    """
    watchdog = Watchdog(blocked_s, beat, tell, clock or SystemClock())
    thread = threading.Thread(target=watchdog.watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield watchdog
    finally:
        watchdog.end()
        thread.join(blocked_s)


def _inner_first(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _found(frames: list[FrameType], wanted: type[Any]) -> Any:
    """The innermost local value of exactly this type: whoever runs a handler holds what it was called with."""
    for frame in frames:
        for value in list(frame.f_locals.values()):
            if type(value) is wanted:
                return value
    return None


def _place(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"


__all__ = ["BLOCKED_S", "Block", "Watchdog", "watching"]
