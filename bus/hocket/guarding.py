"""A call of an effect behind its rate and its breaker: it waits, is let through, and says how it ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Final

from hocket.doors import Caller, Permit
from hocket.effect import Effect
from hocket.errors import CircuitOpen, HocketError, NotCalled, StepTimeout
from hocket.execution import Suspend
from hocket.process import Process
from hocket.run import Run

AT_ONCE_S: Final = 2.0
"""A wait that is no longer is waited out in place; a longer one ends the execution, which begins again after it."""

STRAGGLE: Final = 0.1
"""Each wait is stretched by a random share of itself up to this, so that not all who wait come back at once."""


def guarded(
    run: Run, process: Process, declared: Effect[Any, Any], *, patient: bool
) -> AbstractAsyncContextManager[Permit | None]:
    """What is called in the block is let through first, and its end is told to the breaker.

    Where it is not let through: a call that is `patient` waits, durably if that takes long, and so does any that is
    only too frequent. Otherwise, and in the cleanup of a handler, which cannot wait, CircuitOpen or RateExceeded is
    raised. Nothing has been called then.
    """
    if declared.breaker is None and declared.rate is None:
        return nullcontext()
    return _guarded(run, process, declared, patient=patient)


@asynccontextmanager
async def _guarded(
    run: Run, process: Process, declared: Effect[Any, Any], *, patient: bool
) -> AsyncIterator[Permit | None]:
    permit = await _let_through(run, process, declared, patient=patient)
    try:
        yield permit
    except Exception as failure:
        # Other errors of hocket's own say something of us, and nothing of the other side.
        if permit is not None and (isinstance(failure, StepTimeout) or not isinstance(failure, HocketError)):
            known = (*permit.breaker.ignores, *(declared.retry.never if declared.retry else ()))
            await run.memory.doors.settle(permit, None if isinstance(failure, known) else failure)
        raise
    else:
        if permit is not None:
            await run.memory.doors.settle(permit, None)


def in_time(permit: Permit | None, process: Process) -> None:
    """Begin again if a call that was let through was held up for too long: another may have been by now."""
    if permit is not None and process.clock.now_s() > permit.until_s:
        raise Suspend(process.clock.now_s(), replayed=True, held=True)


async def _let_through(run: Run, process: Process, declared: Effect[Any, Any], *, patient: bool) -> Permit | None:
    """Wait for as long as it takes. A call that comes too often gives way before it counts as made."""
    doors, caller = run.memory.doors, Caller(run.memory.agent, declared.name, run.memory.key)
    while True:
        try:
            if declared.rate is not None:
                if declared.breaker is not None:
                    await doors.look(declared.breaker, caller)
                await doors.take(declared.rate, caller)
            permit = None if declared.breaker is None else await doors.admit(declared.breaker, caller)
            if permit is None or process.clock.now_s() <= permit.until_s:
                return permit
        except NotCalled as refusal:
            if run.cancelled or (isinstance(refusal, CircuitOpen) and not patient):
                raise
            wait_s = refusal.retry_after_s * (1 + process.rng.random() * STRAGGLE)
            if wait_s > AT_ONCE_S:
                raise Suspend(process.clock.now_s() + wait_s, replayed=True, held=True) from None
            await asyncio.sleep(wait_s)


__all__ = ["AT_ONCE_S", "guarded", "in_time"]
