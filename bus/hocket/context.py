"""What a handler sees of the world besides its event."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, ParamSpec

from pydantic import BaseModel
from typing_extensions import TypeVar

from hocket.clock import rfc3339, utc
from hocket.errors import UndeclaredEvent
from hocket.ids import derived
from hocket.policy import Retry
from hocket.process import Process
from hocket.run import SLEEP, STEP, Entry, Run, Suspend, call, digest_of, failure_of, typed
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Event

S = TypeVar("S", bound=BaseModel | None, default=None)
E = TypeVar("E", bound=Event)
P = ParamSpec("P")
R = TypeVar("R")

History = Callable[[type[Event]], Awaitable[Sequence[Any]]]
"""Reads the key's earlier events of a type, in log order."""


@dataclass(slots=True)
class Emission:
    """An event that a handling wants published, with what it overrides of its cause."""

    event: Event
    key: str | None = None
    saga: str | None = None


@dataclass(slots=True)
class Context(Generic[S]):
    """The event's surroundings, the actor's state, and the ways to act.

    Everything done through it is committed with the event, in one append, or not at all; what `step` and
    `sleep` remember is committed as it happens, and read from the journal when the handler runs again.
    """

    envelope: Envelope
    """The event as it travelled: its id, source, time, and extensions."""

    key: str
    """The key whose events this actor handles in order."""

    saga: str
    """The saga that the event belongs to, its correlation id."""

    state: S
    """The actor's state. Change it in place or assign a new one; what it holds at the end is committed.

    After a wait it is read afresh: other events of the key were handled in between.
    """

    cause: str
    """The token of this handling; stable over crashes and retries."""

    process: Process
    allowed: frozenset[type[Event]]
    read_history: History
    run: Run
    fresh_state: Callable[[], S]
    attempt: int = 1
    """Which try this is, from 1."""

    emitted: list[Emission] = field(default_factory=list)
    _names: int = 0

    def emit(self, event: Event, *, key: str | None = None, saga: str | None = None) -> None:
        """Publish an event when this handling is committed.

        It inherits the key and the saga of its cause unless told otherwise. Raises UndeclaredEvent when
        neither the return annotation nor `emits` names its type.
        """
        if type(event) not in self.allowed:
            raise UndeclaredEvent(
                f"{type(event).__qualname__} is not declared as emitted by this handler; "
                "add it to the return annotation or to on(…, emits=[…]), and to agent.toml"
            )
        self.emitted.append(Emission(event, key, saga))

    async def step(self, function: Callable[P, Awaitable[R] | R], *arguments: P.args, **keywords: P.kwargs) -> R:
        """Call a function and remember what it returned: after a crash it is read from the journal, not called.

        A function that is not async runs in a thread. The result comes back as the return annotation says, the
        first time too, so that it never depends on a crash. A failure is not remembered: it is the handler's, and
        the handler's retry calls again. `step_with` gives the step a name and a retry policy of its own.
        """
        return await self._step(function, arguments, keywords, function.__qualname__, None)

    async def step_with(
        self,
        function: Callable[..., Awaitable[R] | R],
        *arguments: Any,
        step_name: str | None = None,
        step_retry: Retry | None = None,
        **keywords: Any,
    ) -> R:
        """The same as `step`, with a name other than the function's, or with a retry policy of its own.

        When that policy is exhausted the failure is final: it is remembered, and raised as StepFailed now and
        whenever the handler runs again.
        """
        return await self._step(function, arguments, keywords, step_name or function.__qualname__, step_retry)

    async def sleep(self, delay: timedelta | float) -> None:
        """Let time pass, from milliseconds to months, durably: the run's memory is released meanwhile.

        Seconds or a timedelta. Never ends early. The actor takes its next events meanwhile; what was changed
        and emitted before is committed with the sleep, and `state` is read afresh after it.
        """
        delay_s = delay.total_seconds() if isinstance(delay, timedelta) else delay
        occurrence, known = await self.run.recall(SLEEP)
        now_s = self.process.clock.now_s()
        begins = known is None
        if known is None:
            known = Entry(SLEEP, occurrence, SLEEP, rfc3339(now_s), result=now_s + delay_s)
            self.run.note(known)
        if known.result > now_s:
            raise Suspend(known.result, replayed=not begins)
        self.state = self.fresh_state()

    async def history(self, event: type[E]) -> Sequence[E]:
        """The key's events of one type that are older than the one being handled, in log order.

        The log is the memory: what was said once need not be copied into state. Read again after a crash
        it gives the same, since what lies before an event no longer changes.
        """
        return await self.read_history(event)

    def now(self) -> datetime:
        """The time now, in UTC."""
        return utc(self.process.clock.now_s())

    def uuid(self) -> str:
        """An id that is the same when this handling is repeated: the n-th call gives the n-th id."""
        self._names += 1
        return derived(self.cause, str(self._names))

    async def _step(
        self,
        function: Callable[..., Awaitable[R] | R],
        arguments: Sequence[Any],
        keywords: dict[str, Any],
        name: str,
        retry: Retry | None,
    ) -> R:
        """Answer from the journal, or perform and remember."""
        occurrence, known = await self.run.recall(name)
        if known is None:
            known = await self._perform(name, occurrence, function, arguments, keywords, retry)
            await self.run.remember(known)
        if known.error is not None:
            raise failure_of(known)
        result: R = typed(function, known.result)
        return result

    async def _perform(
        self,
        name: str,
        occurrence: int,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        keywords: dict[str, Any],
        retry: Retry | None,
    ) -> Entry:
        """Call until it succeeds or its failure is final. Raises what it raised if there is no policy."""
        loop = asyncio.get_running_loop()
        began_s, attempts = loop.time(), 0
        digest = digest_of(arguments, keywords)
        while True:
            attempts += 1
            result, error = None, None
            try:
                result = await call(function, arguments, keywords)
            except Exception as cause:
                if retry is None:
                    raise
                wait_s = retry.wait_s(attempts, cause, self.process.rng)
                if wait_s is not None:
                    await asyncio.sleep(wait_s)
                    continue
                error = (type(cause).__name__, str(cause))
            at = rfc3339(self.process.clock.now_s())
            return Entry(name, occurrence, STEP, at, digest, loop.time() - began_s, result, error)
