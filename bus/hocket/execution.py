"""One execution of a handler: what it does durably, side by side, and the waits at which it ends."""

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

_AROUND: ContextVar[tuple[object, ...]] = ContextVar("_AROUND", default=())
"""The durable calls that the running code is part of."""


class Suspend(BaseException):
    """Ends an execution of a handler at a wait; the run goes on later, from its journal."""

    def __init__(
        self,
        until_s: float | None = None,
        *,
        replayed: bool,
        waits: tuple[str, ...] = (),
        approval: Any = None,
        parked: str | None = None,
        held: bool = False,
    ) -> None:
        self.until_s = until_s
        self.replayed = replayed
        """Whether the journal knew the wait already: then everything before it is committed."""

        self.waits = waits
        """The event types that may end it."""

        self.approval = approval
        """What people are asked, as JSON."""

        self.parked = parked
        """Why a person has to look at it."""

        self.held = held
        """Whether somebody wants it to go no further for now: it is no wait, and begins again from the journal."""

    def beside(self, other: "Suspend | None") -> "Suspend":
        """Two waits side by side as one, which is over when either may be."""
        if other is None:
            return Suspend(
                self.until_s,
                replayed=self.replayed,
                waits=self.waits,
                approval=self.approval,
                parked=self.parked,
                held=self.held,
            )
        times = [each.until_s for each in (other, self) if each.until_s is not None]
        return Suspend(
            min(times, default=None),
            replayed=other.replayed and self.replayed,
            waits=tuple(dict.fromkeys((*other.waits, *self.waits))),
            approval=other.approval or self.approval,
            parked=other.parked or self.parked,
            held=other.held or self.held,
        )


async def go_no_further() -> Any:
    """Take the place of a durable call that may not be made for now."""
    raise Suspend(replayed=True, held=True)


@dataclass(slots=True, eq=False)
class Execution:
    """What one execution of a handler has done durably, and is doing just now."""

    counts: dict[str, int] = field(default_factory=dict)
    """How often it has asked for each name."""

    repeats: dict[tuple[str, str], int] = field(default_factory=dict)
    """How often it has asked for each name with the same arguments."""

    changed: dict[tuple[str, int], None] = field(default_factory=dict)
    """What it asked for with other arguments than the journal knows."""

    taken: set[int] = field(default_factory=set)
    """Sequences of the answers that its waits took."""

    calls: dict[object, "asyncio.Task[Any] | None"] = field(default_factory=dict)
    """What is being done, and the task that it is done in."""

    resting: set["asyncio.Task[Any] | None"] = field(default_factory=set)
    """Tasks that have come to a wait, while others have not."""

    rest: Suspend | None = None
    """What it waits for in the end: all the waits that it has come to."""

    over: bool = False
    """Whether it has come to its end at a wait. On the way out it passes by `finally`, where nothing more is done."""

    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def do(self, call: Coroutine[Any, Any, T]) -> T:
        """Do something durable as part of it. A wait lets all that is done beside it come to its end.

        What is done around it, such as a step that waits in the middle, cannot end before it and is not waited for.
        """
        if self.over and self.rest is not None:
            call.close()
            raise self.rest.beside(None)
        around, mine, task = _AROUND.get(), object(), asyncio.current_task()
        self.calls[mine] = task
        token = _AROUND.set((*around, mine))
        try:
            return await call
        except Suspend as wait:
            self.rest = wait.beside(self.rest)  # a new one: it holds on to no frame
            self._end(mine)
            self.resting.add(task)
            await asyncio.sleep(0)  # so that what was put beside it has begun
            while any(one not in around for one in self.calls):
                self._ended.clear()
                await self._ended.wait()
            self.over = True
            raise
        finally:
            _AROUND.reset(token)
            self._end(mine)
            self.resting.discard(task)

    async def settle(self) -> None:
        """Leave nothing behind at its end: the next one would do beside it what it still does."""
        own = asyncio.current_task()
        left = {task for task in (*self.calls.values(), *self.resting) if task is not None and task is not own}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    def _end(self, call: object) -> None:
        self.calls.pop(call, None)
        self._ended.set()
