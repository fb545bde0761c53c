"""Where the time comes from."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

SLOWED = 0.5
"""How fast a clock that is ahead goes until it is right. It never stands still: a wait would have no end meanwhile."""

ROUNDED_S = 1e-6
"""Seconds since the epoch are rounded to about this on their way, so that clocks which differ by less are alike."""


class Clock(Protocol):
    """Wall time. Order never depends on it: order is the log's."""

    def now_s(self) -> float:
        """Seconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_s(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()


class SteadyClock:
    """The machine's clock as it stood when this one was made; who sets the machine's afterwards does not set this."""

    def __init__(self) -> None:
        self._origin_s = time.time() - time.monotonic()

    def now_s(self) -> float:
        """Seconds since the Unix epoch."""
        return self._origin_s + time.monotonic()


class ServerClock:
    """The server's time as one process reckons it: on by its own clock, corrected by what the server is heard to say.

    So workers whose machines disagree about the time agree about what is due. From the first correction on it never
    goes back: where it was ahead it goes more slowly until it is right. Before that it shows what its own clock shows.
    """

    def __init__(self, own: Clock | None = None) -> None:
        self._own = own or SteadyClock()
        self._ahead_s = 0.0
        """How far the server is ahead of our own clock."""

        self._shown: tuple[float, float] | None = None
        """When it was last read, by our own clock, and what it showed; None: nothing was heard yet."""

    def now_s(self) -> float:
        """Seconds since the Unix epoch."""
        own_s = self._own.now_s()
        now_s = own_s + self._ahead_s
        if self._shown is not None:
            then_s, shown_s = self._shown
            now_s = max(now_s, shown_s + max(0.0, own_s - then_s) * SLOWED)
            self._shown = (own_s, now_s)
        return now_s

    def own_s(self) -> float:
        """Our own clock: by this `hear` is told when something was asked, and when the answer came."""
        return self._own.now_s()

    def hear(self, server_s: float, *, asked_s: float, answered_s: float) -> None:
        """Correct it by what the server's clock showed at some moment between the question and the answer.

        What the answer does not prove wrong stays as it is, so that answers which take long do no harm. What it does
        becomes the earliest that the server can show by now: a timer comes rather too late than too early.
        """
        least_s, most_s = server_s - answered_s, server_s - asked_s
        if not least_s - ROUNDED_S <= self._ahead_s <= most_s + ROUNDED_S:
            self._ahead_s = least_s
        if self._shown is None:
            own_s = self._own.now_s()
            self._shown = (own_s, own_s + self._ahead_s)


class LoopClock:
    """The running event loop's time from a fixed moment on: virtual when the loop is."""

    def __init__(self, epoch_s: float = 1_767_225_600.0, offset_s: float = 0.0) -> None:
        self._origin_s = epoch_s + offset_s

    def now_s(self) -> float:
        """Seconds since the Unix epoch."""
        return self._origin_s + asyncio.get_running_loop().time()

    def advance(self, by_s: float) -> None:
        """Set the clock, forward or back; the loop's own time goes on as before."""
        self._origin_s += by_s


def utc(at_s: float) -> datetime:
    """The moment `at_s` seconds after the Unix epoch."""
    return datetime.fromtimestamp(at_s, UTC)


def rfc3339(at_s: float) -> str:
    """The same in CloudEvents' notation, to the millisecond: `2026-01-01T00:00:00.000Z`."""
    whole_s = int(at_s)
    return f"{_to_the_second(whole_s)}.{int((at_s - whole_s) * 1000):03d}Z"


_LAST: tuple[int, str] = (-1, "")


def _to_the_second(whole_s: int) -> str:
    global _LAST
    if _LAST[0] != whole_s:
        _LAST = (whole_s, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole_s)))
    return _LAST[1]
