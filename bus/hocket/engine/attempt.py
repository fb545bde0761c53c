"""One call of a handler: within its time, and with nothing of it left behind."""

import asyncio
from typing import Any

from hocket.agent import Handler
from hocket.context import Context
from hocket.errors import HandlerTimeout
from hocket.execution import Suspend
from hocket_schemas.event import Event


async def call(handler: Handler, event: Event, context: Context[Any]) -> Any:
    """Call a handler and return what it gives back. Raises HandlerTimeout, Suspend at a wait, and what it raises."""
    handling = handler.function(event, context) if handler.takes_context else handler.function(event)
    try:
        if handler.timeout_s is None:
            return await handling
        async with asyncio.timeout(handler.timeout_s) as limit:
            return await handling
    except TimeoutError as cause:
        if handler.timeout_s is None or not limit.expired():
            raise  # its own
        # The cause knows where the handler stood.
        raise HandlerTimeout(f"attempt {context.attempt} took longer than {handler.timeout_s} s") from cause
    except BaseExceptionGroup as group:
        waits, failures = group.split(Suspend)
        if waits is None:
            raise
        if failures is not None:
            raise failures from None
        raise _first(waits) from None  # they are come to one after the other
    finally:
        context.over = True
        await context.run.settle()
        task = context.run.task
        if task is not None and task.cancelling() > context.run.cancellations:
            await asyncio.sleep(0)  # what the handler has done to its own task comes through here, at the latest


def _first(group: BaseExceptionGroup[Suspend]) -> Suspend:
    """One of a group of groups."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


__all__ = ["call"]
