"""An agent: a name, a table of handlers, a private state type."""

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, ParamSpec, Union, overload

from pydantic import BaseModel
from typing_extensions import TypeVar

from hocket.aborting import spread
from hocket.account import Spends
from hocket.breaker import Breaker
from hocket.context import Context
from hocket.effect import Effect
from hocket.errors import NotFound, UsageError
from hocket.policy import Limits, OnExhausted, Retry
from hocket.rate import Rate
from hocket.schedule import CatchUp, Overlap, Rule, Schedule
from hocket.undoing import undoing
from hocket_schemas.event import Event
from hocket_schemas.runtime import SagaAborted, SagaCompensated, ScheduleDue
from hocket_schemas.undoing import UndoRequested

S = TypeVar("S", bound=BaseModel | None, default=None)
E = TypeVar("E", bound=Event)
P = ParamSpec("P")
R = TypeVar("R")

Result = Event | Sequence[Event] | None
"""What a handler gives back: an event, several, or none."""


@dataclass(frozen=True, slots=True)
class Handler:
    """One entry of an agent's table."""

    event: type[Event]
    function: Callable[..., Awaitable[Result]]
    takes_context: bool
    emits: frozenset[type[Event]]
    """What it may emit: its return annotation and what `on(…, emits=…)` adds."""

    waits: frozenset[type[Event]]
    """What it may wait for in the middle, besides the event that starts it."""

    retry: Retry
    timeout_s: float | None
    """Longest time for one attempt; None: no limit of its own."""

    on_exhausted: OnExhausted = OnExhausted.DEAD_LETTER


class Agent(Generic[S]):
    """Handlers under one name, and the state type of its actors.

    ```python
    counter = Agent("counter", state=Count)

    @counter.on(OrderPlaced)
    async def count(event: OrderPlaced, ctx: Context[Count]) -> OrderCounted:
        ctx.state.orders += 1
        return OrderCounted(orders=ctx.state.orders)
    ```

    The identity at run time is (agent, key), an *actor*: it handles one event at a time, in log order.
    A state type needs a default for every field: a key that was never seen starts with `State()`, and so does one
    that was silent for longer than `state_kept`, where that is given.
    """

    @overload
    def __init__(
        self: "Agent[None]", name: str, *, version: str = ..., limits: Limits | None = ..., heeds_cancels: bool = ...
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        *,
        state: type[S],
        state_kept: timedelta | None = ...,
        version: str = ...,
        limits: Limits | None = ...,
        heeds_cancels: bool = ...,
    ) -> None: ...
    def __init__(
        self,
        name: str,
        *,
        state: type[S] | None = None,
        state_kept: timedelta | None = None,
        version: str = "0",
        limits: Limits | None = None,
        heeds_cancels: bool = True,
    ) -> None:
        if not name or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
            raise UsageError(f"agent name {name!r} may hold ASCII letters, digits, '-' and '_' only")
        self.name = name
        self.state_type = state
        self.state_kept = state_kept
        """How long the log keeps the state of a key at which nothing changes; None: for ever."""

        self.version = version
        self.limits = limits or Limits()
        self.heeds_cancels = heeds_cancels
        """Whether its handlings end when their saga or key is cancelled. An agent that looks after sagas goes on."""

        self.handlers: dict[str, Handler] = {}
        self.schedules: dict[str, Schedule] = {}
        self.tick_handlers: dict[str, Handler] = {}
        """By the schedule's name."""

        self.effects: dict[str, Effect[Any, Any]] = {}
        self._aborted: Handler | None = None
        self._spread = _handler(SagaCompensated, spread, (), (), None, None)
        self._undo = _handler(UndoRequested, undoing(self.effects), (), (), None, None)

    def on(
        self,
        event: type[E],
        *,
        emits: Sequence[type[Event]] = (),
        waits: Sequence[type[Event]] = (),
        retry: Retry | None = None,
        timeout_s: float | None = None,
        on_exhausted: OnExhausted = OnExhausted.DEAD_LETTER,
    ) -> Callable[[Callable[..., Awaitable[Result]]], Callable[..., Awaitable[Result]]]:
        """Register the handler of an event type; used as a decorator.

        The handler takes the event and, if it wants one, the `Context`. What it may emit is read from its
        return annotation; `emits` adds what only `ctx.emit` sends, and `waits` names what `ctx.wait` may wait
        for. When no attempt succeeds, `on_exhausted` says what follows besides the dead letter.
        Raises UsageError for a second handler of one type, for a type that is both handled and waited for,
        and for a function that cannot be called that way.
        """

        def register(function: Callable[..., Awaitable[Result]]) -> Callable[..., Awaitable[Result]]:
            if not event.event_type:
                raise UsageError(f"{event.__qualname__} has no event type, so nothing can publish it")
            if event is ScheduleDue:
                raise UsageError(f"{event.__qualname__} is handled by what `every` declares, each schedule by its own")
            if event.event_type in self.handlers:
                raise UsageError(f"agent {self.name!r} already handles {event.event_type}")
            taken = {SagaCompensated.event_type} if self.hears_aborts else set()
            self._refuse_both({*self.handlers, event.event_type, *taken}, waits)
            if event.event_type in taken:
                raise UsageError(f"agent {self.name!r} has on_aborted, which hears {event.event_type} for it")
            self.handlers[event.event_type] = _handler(event, function, emits, waits, retry, timeout_s, on_exhausted)
            return function

        return register

    def every(
        self,
        cron: str,
        *,
        tz: str = "UTC",
        name: str | None = None,
        key: str | None = None,
        overlap: Overlap = "queue",
        catch_up: CatchUp = "latest",
        emits: Sequence[type[Event]] = (),
        waits: Sequence[type[Event]] = (),
        retry: Retry | None = None,
        timeout_s: float | None = None,
        on_exhausted: OnExhausted = OnExhausted.DEAD_LETTER,
    ) -> Callable[[Callable[..., Awaitable[Result]]], Callable[..., Awaitable[Result]]]:
        """Have a function called whenever a time comes, with a `ScheduleDue` event; used as a decorator.

        `cron` has five fields (minute, hour, day, month, weekday), or six with the second first, and is read by the
        clocks of `tz`. Each time is one event of this agent, however often its owner changes, with the actor `key`
        (`schedule-` and the name unless told otherwise); so everything that a handler may do can be done there.
        The schedule's name is the function's unless told otherwise, and it is what the log knows it by.

        While the tick before is still open, be it a run that waits, `overlap` has the next one `"queue"` like any
        event of its actor, or `"skip"`. Of times missed while nobody owned the agent `catch_up` makes one tick
        for the `"latest"`, one for each (`"all"`, but for no more than the last 100), or none (`"skip"`).
        Raises UsageError for what is no expression, zone or policy, and for a name that is taken.
        """
        rule = Rule(cron, tz)

        def register(function: Callable[..., Awaitable[Result]]) -> Callable[..., Awaitable[Result]]:
            known_as = name or function.__name__
            if known_as in self.schedules:
                raise UsageError(f"agent {self.name!r} already has a schedule {known_as!r}")
            self._refuse_both(self.handlers, waits)
            schedule = Schedule(known_as, rule, key or f"schedule-{known_as}", overlap, catch_up)
            self.tick_handlers[known_as] = _handler(ScheduleDue, function, emits, waits, retry, timeout_s, on_exhausted)
            self.schedules[known_as] = schedule
            return function

        return register

    def on_aborted(self, function: Callable[..., Awaitable[Result]]) -> Callable[..., Awaitable[Result]]:
        """Register what corrects an actor's state when a saga that changed it was undone; used as a decorator.

        It is called with a `SagaAborted` event and, if it wants it, the `Context`, once for each key whose state an
        event of that saga has changed, when the saga is compensated: what the state holds of it is no truth any more.
        Raises UsageError for an agent without state, and for one that handles `hocket.saga.compensated.v1` itself.
        """
        if self.state_type is None:
            raise UsageError(f"agent {self.name!r} has no state that an aborted saga could have changed")
        if SagaCompensated.event_type in self.consumes:
            raise UsageError(
                f"agent {self.name!r} hears {SagaCompensated.event_type} itself; on_aborted takes its place"
            )
        self._aborted = _handler(SagaAborted, function, (), (), None, None)
        return function

    def handler_for(self, event_type: str, data: Any) -> Handler | None:
        """What handles an event; None when nothing does. Raises NotFound for a tick of a schedule that is gone."""
        if event_type == UndoRequested.event_type:
            return self._undo
        if self._aborted is not None and event_type in (SagaAborted.event_type, SagaCompensated.event_type):
            return self._aborted if event_type == SagaAborted.event_type else self._spread
        if event_type != ScheduleDue.event_type:
            return self.handlers.get(event_type)
        name = data.get("schedule") if isinstance(data, dict) else None
        if name not in self.tick_handlers:
            raise NotFound(f"agent {self.name!r} has no schedule {name!r}")
        return self.tick_handlers[name]

    def effect(
        self,
        *,
        retry: Retry | None = None,
        idempotent: bool = False,
        pivot: bool = False,
        irreversible: bool = False,
        polls: bool = False,
        spends: Spends | None = None,
        timeout_s: float | None = None,
        breaker: Breaker | None = None,
        rate: Rate | None = None,
        on_exhausted: OnExhausted | None = None,
    ) -> Callable[[Callable[P, Awaitable[R]]], Effect[P, R]]:
        """Declare a step that touches the outside world; used as a decorator.

        A parameter named `key` gets the idempotency key: pass it on. `idempotent` says that the receiver takes
        a second call with the same key for the first. `retry` tries again while nothing is known to have
        happened: after NotDone, or when the effect can verify, or is idempotent. A call that takes longer than
        `timeout_s` has an unknown outcome. After a `pivot` a saga can only go forward: nothing is undone any more.
        So it is after what is `irreversible`, which is refused besides (NotCleared) until an approval or a pivot has
        come before it, in the run or in what led to it. `polls` lets one run call it with the same arguments as often
        as it likes; otherwise `Limits.repeats_max` takes that for a loop. `spends` says what one call uses up at most;
        in a saga with a budget so much is reserved before it.
        """

        def declare(function: Callable[P, Awaitable[R]]) -> Effect[P, R]:
            effect = Effect(
                function,
                retry=retry,
                idempotent=idempotent,
                pivot=pivot,
                irreversible=irreversible,
                polls=polls,
                spends=spends,
                timeout_s=timeout_s,
                breaker=breaker,
                rate=rate,
                on_exhausted=on_exhausted,
            )
            if effect.name in self.effects:
                raise UsageError(f"agent {self.name!r} already has an effect {effect.name!r}")
            self.effects[effect.name] = effect
            return effect

        return declare

    @property
    def waits(self) -> set[str]:
        """The event types that its handlers may wait for."""
        return {e.event_type for h in self._all_handlers for e in h.waits}

    @property
    def hears_aborts(self) -> bool:
        """Whether its actors want to know when a saga that they took part in was undone."""
        return self._aborted is not None

    @property
    def handled(self) -> frozenset[str]:
        """The event types that begin a handling; any other that it is delivered came for runs that wait."""
        own = {ScheduleDue.event_type, UndoRequested.event_type}
        if self.hears_aborts:
            own |= {SagaAborted.event_type, SagaCompensated.event_type}
        return frozenset(self.handlers) | own

    @property
    def hears(self) -> list[str]:
        """The event types that are delivered to it: what it consumes, and what the runtime lets it hear besides."""
        return [*self.consumes, *([SagaCompensated.event_type] if self.hears_aborts else [])]

    @property
    def consumes(self) -> list[str]:
        """The event types it handles or waits for, sorted."""
        return sorted({*self.handlers, *self.waits})

    @property
    def emits(self) -> list[str]:
        """The event types it may emit, sorted."""
        return sorted({e.event_type for h in self._all_handlers for e in h.emits})

    @property
    def _all_handlers(self) -> list[Handler]:
        aborted = [self._aborted] if self._aborted else []
        return [*self.handlers.values(), *self.tick_handlers.values(), *aborted]

    def _refuse_both(self, handled: Collection[str], waits: Sequence[type[Event]]) -> None:
        both = ({e.event_type for e in waits} | self.waits) & set(handled)
        if both:
            raise UsageError(f"agent {self.name!r} both handles and waits for {min(both)}; choose one")

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, consumes={self.consumes}, emits={self.emits})"


def _handler(
    event: type[Event],
    function: Callable[..., Awaitable[Result]],
    emits: Sequence[type[Event]],
    waits: Sequence[type[Event]],
    retry: Retry | None,
    timeout_s: float | None,
    on_exhausted: OnExhausted = OnExhausted.DEAD_LETTER,
) -> Handler:
    return Handler(
        event=event,
        function=function,
        takes_context=_takes_context(function),
        emits=frozenset(emits) | _returned_events(function),
        waits=frozenset(waits),
        retry=retry or Retry(),
        timeout_s=timeout_s,
        on_exhausted=on_exhausted,
    )


def _takes_context(function: Callable[..., Any]) -> bool:
    """Whether the handler wants the context: it takes one or two positional arguments."""
    if not inspect.iscoroutinefunction(function):
        raise UsageError(f"{function.__qualname__} is no coroutine function; write `async def`")
    taken = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if not 1 <= len(taken) <= 2:
        raise UsageError(f"{function.__qualname__} takes {len(taken)} arguments, wants (event) or (event, ctx)")
    return len(taken) == 2


def _returned_events(function: Callable[..., Any]) -> frozenset[type[Event]]:
    """The event classes that a return annotation names, through unions, lists and None."""
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        raise UsageError(f"{function.__qualname__}: an annotation cannot be resolved: {error}") from error
    return frozenset(_events_in(hints.get("return", None)))


def _events_in(annotation: Any) -> list[type[Event]]:
    if isinstance(annotation, type) and issubclass(annotation, Event):
        return [annotation]
    origin = typing.get_origin(annotation)
    if origin in (Union, types.UnionType) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return [event for argument in typing.get_args(annotation) for event in _events_in(argument)]
    return []


__all__ = ["Agent", "Context", "Handler", "Result"]
