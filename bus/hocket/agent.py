"""An agent: a name, a table of handlers, a private state type."""

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Union, overload

from pydantic import BaseModel
from typing_extensions import TypeVar

from hocket.context import Context
from hocket.effect import Effect
from hocket.errors import UsageError
from hocket.policy import Limits, Retry
from hocket_schemas.event import Event

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
    A state type needs a default for every field: a key that was never seen starts with `State()`.
    """

    @overload
    def __init__(self: "Agent[None]", name: str, *, version: str = ..., limits: Limits | None = ...) -> None: ...
    @overload
    def __init__(self, name: str, *, state: type[S], version: str = ..., limits: Limits | None = ...) -> None: ...
    def __init__(
        self, name: str, *, state: type[S] | None = None, version: str = "0", limits: Limits | None = None
    ) -> None:
        if not name or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
            raise UsageError(f"agent name {name!r} may hold ASCII letters, digits, '-' and '_' only")
        self.name = name
        self.state_type = state
        self.version = version
        self.limits = limits or Limits()
        self.handlers: dict[str, Handler] = {}
        self.effects: dict[str, Effect[Any, Any]] = {}

    def on(
        self,
        event: type[E],
        *,
        emits: Sequence[type[Event]] = (),
        waits: Sequence[type[Event]] = (),
        retry: Retry | None = None,
        timeout_s: float | None = None,
    ) -> Callable[[Callable[..., Awaitable[Result]]], Callable[..., Awaitable[Result]]]:
        """Register the handler of an event type; used as a decorator.

        The handler takes the event and, if it wants one, the `Context`. What it may emit is read from its
        return annotation; `emits` adds what only `ctx.emit` sends, and `waits` names what `ctx.wait` may wait
        for. Raises UsageError for a second handler of one type, for a type that is both handled and waited for,
        and for a function that cannot be called that way.
        """

        def register(function: Callable[..., Awaitable[Result]]) -> Callable[..., Awaitable[Result]]:
            if not event.event_type:
                raise UsageError(f"{event.__qualname__} has no event type, so nothing can publish it")
            if event.event_type in self.handlers:
                raise UsageError(f"agent {self.name!r} already handles {event.event_type}")
            both = {e.event_type for e in waits} & {*self.handlers, event.event_type} | {event.event_type} & self.waits
            if both:
                raise UsageError(f"agent {self.name!r} both handles and waits for {min(both)}; choose one")
            self.handlers[event.event_type] = Handler(
                event=event,
                function=function,
                takes_context=_takes_context(function),
                emits=frozenset(emits) | _returned_events(function),
                waits=frozenset(waits),
                retry=retry or Retry(),
                timeout_s=timeout_s,
            )
            return function

        return register

    def effect(
        self, *, retry: Retry | None = None, idempotent: bool = False
    ) -> Callable[[Callable[P, Awaitable[R]]], Effect[P, R]]:
        """Declare a step that touches the outside world; used as a decorator.

        A parameter named `key` gets the idempotency key: pass it on. `idempotent` says that the receiver takes
        a second call with the same key for the first. `retry` tries again while nothing is known to have
        happened: after NotDone, or when the effect can verify, or is idempotent.
        """

        def declare(function: Callable[P, Awaitable[R]]) -> Effect[P, R]:
            effect = Effect(function, retry=retry, idempotent=idempotent)
            if effect.name in self.effects:
                raise UsageError(f"agent {self.name!r} already has an effect {effect.name!r}")
            self.effects[effect.name] = effect
            return effect

        return declare

    @property
    def waits(self) -> set[str]:
        """The event types that its handlers may wait for."""
        return {e.event_type for h in self.handlers.values() for e in h.waits}

    @property
    def consumes(self) -> list[str]:
        """The event types it handles or waits for, sorted."""
        return sorted({*self.handlers, *self.waits})

    @property
    def emits(self) -> list[str]:
        """The event types it may emit, sorted."""
        return sorted({e.event_type for h in self.handlers.values() for e in h.emits})

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, consumes={self.consumes}, emits={self.emits})"


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
