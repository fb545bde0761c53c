"""Where the time comes from."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


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
