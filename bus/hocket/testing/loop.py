"""An event loop whose time is virtual: it jumps to the next timer whenever nothing else can run."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

THREAD_WAIT_S = 2.0
"""How long the time stands still for a thread, in real seconds, until it brings its result."""

TURN_S = 1e-9
"""What each turn of the loop takes. A loop runs a timer a hair too early: were the time to stand still meanwhile,
whoever looks at the clock then and waits for the rest would do so for ever."""

WATCHED_BY_LOOP = 1
"""The loop itself watches one file, by which threads and signals wake it."""


class Stuck(AssertionError):
    """Every task waits for something that no timer and no other task will ever bring."""


class _JumpingSelector(selectors.SelectSelector):
    """Instead of sleeping until the next timer, moves the loop's time there."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.threads = 0
        """How many calls are under way in threads, which take no virtual time."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Poll; when nothing is ready, let the time pass at once."""
        if timeout is not None and timeout <= 0:
            self.now_s += TURN_S
            return []  # tasks are ready to run: what arrives from outside can wait until they have
        if timeout is None or self.threads or len(self.get_map()) > WATCHED_BY_LOOP:
            ready = super().select(THREAD_WAIT_S if timeout is None or self.threads else 0)
            if ready:
                return ready
        if timeout is None:
            raise Stuck("nothing is left to run and no timer is set")
        self.now_s += timeout + TURN_S  # past the timer, so that rounding cannot leave it in the future for ever
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs tasks in order at virtual time; hours cost nothing. Not for real input or output."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now_s

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        """Call a function in a thread, and let the time stand still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    async def shutdown_default_executor(self, *timeout: float | None) -> None:
        """Wait for the threads to end, for as long as the loop's own: so long the time stands still too."""
        self._jumping.threads += 1
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self._jumping.threads -= 1

    def _thread_ended(self, future: "asyncio.Future[Any]") -> None:
        self._jumping.threads -= 1


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a fresh virtual loop, and close the loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
