"""Tasks that work beside a block of code and end with it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


def pass_on_cancellation() -> None:
    """Raise the cancellation that something on the way has swallowed.

    Before Python 3.13 a task group raises its children's errors in place of it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@asynccontextmanager
async def beside(*coroutines: Coroutine[Any, Any, Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Run coroutines while the block runs; cancel those that are left when it ends.

    An error of the block passes as it is, not wrapped in a group. The first error of a task cancels the block
    and is raised in its place.
    """
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
            try:
                yield tasks
            except BaseException as error:
                failure = error
                raise
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as errors:
        if failure is not None and not isinstance(failure, asyncio.CancelledError):
            raise failure from failure.__cause__
        if len(errors.exceptions) == 1:
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        raise
