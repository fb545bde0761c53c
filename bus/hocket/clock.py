"""Where the time comes from."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

SLOWED = 0.5
"""How fast a clock that is ahead goes until it is right. It never stands still: a wait would have no end meanwhile."""

DRIFT = 1e-4
"""By what share of the time that passes two machines' clocks run apart, at most: quartz keeps a fifth of that."""

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

    So workers whose machines disagree about the time agree about what is due. No answer tells exactly what time it is,
    only between which moments: what is shown is the earliest that it can be, and `after` counts from the latest. Hence
    what one process sets and another one waits for is never early. From the first correction on it never goes back:
    where it was ahead it goes more slowly until it is right. Before that it shows what its own clock shows.
    """

    def __init__(self, own: Clock | None = None) -> None:
        self._own = own or SteadyClock()
        self._least_s = self._most_s = 0.0
        """How far the server is ahead of our own clock, at least and at most."""

        self._heard_s: float | None = None
        """When that was last made sure of, by our own clock; None: never."""

        self._shown: tuple[float, float] | None = None
        """When it was last read, by our own clock, and what it showed; None: nothing was heard yet."""

    def now_s(self) -> float:
        """Seconds since the Unix epoch."""
        own_s = self._own.now_s()
        now_s = own_s + self._least_s
        if self._shown is not None:
            then_s, shown_s = self._shown
            now_s = max(now_s, shown_s + max(0.0, own_s - then_s) * SLOWED)
            self._shown = (own_s, now_s)
        return now_s

    def after(self, delay_s: float) -> float:
        """When so much time will have passed, whoever waits for it: in seconds since the Unix epoch."""
        return max(self.now_s(), self._own.now_s() + self._most_s) + delay_s

    @property
    def known_to_s(self) -> float:
        """Within how many seconds the server's time is known."""
        return self._most_s - self._least_s

    def own_s(self) -> float:
        """Our own clock: by this `hear` is told when something was asked, and when the answer came."""
        return self._own.now_s()

    def hear(self, server_s: float, *, asked_s: float, answered_s: float) -> None:
        """Correct it by what the server's clock showed at some moment between the question and the answer.

        What is known becomes narrower by an answer that came soon, and stays by one that took long. One that proves it
        wrong takes its place: somebody has set a clock, or a machine has slept.
        """
        least_s = _alike(server_s - answered_s, self._least_s)
        most_s = _alike(server_s - asked_s, self._most_s)
        if self._heard_s is not None:
            apart_s = DRIFT * max(0.0, answered_s - self._heard_s)
            known_least_s, known_most_s = self._least_s - apart_s, self._most_s + apart_s
            if known_least_s - ROUNDED_S <= most_s and least_s <= known_most_s + ROUNDED_S:
                least_s, most_s = max(least_s, known_least_s), min(most_s, known_most_s)
        self._least_s, self._most_s, self._heard_s = least_s, max(least_s, most_s), answered_s
        if self._shown is None:
            own_s = self._own.now_s()
            self._shown = (own_s, own_s + self._least_s)


def _alike(one_s: float, other_s: float) -> float:
    """The one, or the other if they are apart by rounding only."""
    return other_s if abs(one_s - other_s) <= ROUNDED_S else one_s


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
