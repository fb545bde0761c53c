"""Starts an event loop for a process: uvloop's where it is installed; and says how its memory is looked after."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

GARBAGE_AFTER = (5000, 20, 20)
"""How many objects are made before those that refer to each other in a circle are looked for; the engine leaves none.

Looking takes time with all that is there, and a thousand waiting runs are there for long.
"""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a program's one coroutine to its end."""
    gc.freeze()  # what is imported stays
    gc.set_threshold(*GARBAGE_AFTER)
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)
