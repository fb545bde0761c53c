"""Keeps the clock of a process right, by the server's."""

import asyncio
from contextlib import suppress

from hocket.clock import ServerClock
from hocket.errors import LogError
from hocket.log.base import Log

LOOK_S = 5.0
"""How often the server is asked. A machine that slept, or whose oscillator is off, is wrong for no longer."""

SOON_S = 0.5
KNOWN_TO_S = 0.05
"""So soon it is asked again while its time is not known that well: the answer to a claim may have taken long."""


async def right(clock: ServerClock, log: Log) -> None:
    """Ask the server for its time every `LOOK_S`, or sooner, for as long as the process works.

    The first correction is not ours: an owner has made it when it claimed, before it decided anything.
    """
    while True:
        await asyncio.sleep(LOOK_S if clock.known_to_s <= KNOWN_TO_S else SOON_S)
        with suppress(LogError):  # the log is away, or does not say; meanwhile the clock goes on by itself
            await correct(clock, log)


async def correct(clock: ServerClock, log: Log) -> None:
    """Ask the server for its time once. Raises LogError."""
    asked_s = clock.own_s()
    server_s = await log.time_s()
    clock.hear(server_s, asked_s=asked_s, answered_s=clock.own_s())


__all__ = ["LOOK_S", "correct", "right"]
