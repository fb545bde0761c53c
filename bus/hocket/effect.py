"""An effect: a step that touches the outside world, and what is needed to do it once, or to undo it."""

import inspect
import typing
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, Generic, ParamSpec, TypeVar

import orjson

from hocket.account import Spends
from hocket.breaker import Breaker
from hocket.errors import UsageError
from hocket.policy import OnExhausted, Retry
from hocket.rate import Rate

P = ParamSpec("P")
R = TypeVar("R")

Function = TypeVar("Function", bound=Callable[..., Any])


class Effect(Generic[P, R]):
    """A declared effect; made by `Agent.effect`, called through `ctx.step`.

    Its intent is in the log before the call, its outcome after it. When a crash leaves the outcome unknown,
    `verify` finds out; without one, a receiver declared idempotent is called again with the same key; else
    the run is parked for a person. Nothing runs twice in silence.
    """

    def __init__(
        self,
        function: Callable[P, Awaitable[R]],
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
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise UsageError(f"{function.__qualname__} is no coroutine function; write `async def`")
        self.function = function
        self.name = function.__qualname__
        self.retry = retry
        self.idempotent = idempotent
        """Whether the receiver takes a second call with the same key for the first."""

        self.pivot = pivot
        """Whether the saga can only go forward after it."""

        self.irreversible = irreversible
        """Whether nothing can undo it: then an approval or a pivot has to come before it."""

        self.polls = polls
        """Whether one run may call it with the same arguments as often as it likes."""

        self.spends = spends
        """What one call uses up at most, of a budget that its saga may have."""

        self.timeout_s = timeout_s
        """Longest time for one call of it, of its `verify` or of its `undo`; None: no limit of its own."""

        self.breaker = breaker
        """What keeps it, its `verify` and its `undo` from being called while they fail; None: nothing does."""

        self.rate = rate
        """How often all of them together may be called; None: as often as one likes."""

        self.on_exhausted = on_exhausted
        """What follows when it has failed for good and the handler does not catch that; None: as the handler has it."""

        self.takes_key = takes_key(function)
        self.undo_function: Callable[..., Awaitable[None]] | None = None
        self.undoes_unseen = False
        """Whether the undo is called with None as well, where it is not known that there is anything to undo."""

        self.undo_retry = Retry()
        """How often an undo is tried before a person is asked."""

        self.verify_function: Callable[..., Awaitable[Any]] | None = None
        self.spent_function: Callable[[Any], Spends] | None = None

    @property
    def told(self) -> bool:
        """Whether its saga has to know when it is done."""
        return self.final or self.undo_function is not None

    @property
    def final(self) -> bool:
        """Whether there is no way back behind it."""
        return self.pivot or self.irreversible

    def undo(self, function: Function) -> Function:
        """Register what undoes it: takes the same arguments, and the outcome at the end. Used as a decorator.

        It may be called again after a crash, so undoing twice has to be harmless. If the outcome's annotation allows
        None, it is also called for a call that nobody saw the end of and that left no trace so far: where the
        receiver knows the idempotency key (a parameter `key`), that can refuse what is still on its way.
        """
        if self.irreversible:
            raise UsageError(f"{self.name} is declared irreversible, and has an undo; one of the two is wrong")
        self.undo_function = function
        self.undoes_unseen = takes_none_last(function)
        return function

    def verify(self, function: Function) -> Function:
        """Register what finds out whether it happened: takes the same arguments, returns the outcome or None."""
        self.verify_function = function
        return function

    def spent(self, function: Callable[[R], Spends]) -> Callable[[R], Spends]:
        """Register what tells from an outcome what was really used up; what was reserved beyond that is given back."""
        self.spent_function = function
        return function

    async def __call__(self, *arguments: P.args, **keywords: P.kwargs) -> R:
        """Call the function itself, outside of any run: for tests of the function."""
        return await self.function(*arguments, **keywords)

    def __repr__(self) -> str:
        return f"Effect({self.name!r})"


class NotDone(Exception):
    """Raised by an effect's function that knows that nothing happened outside: it may be called again."""


def takes_key(function: Callable[..., Any]) -> bool:
    """Whether a function wants the idempotency key."""
    return "key" in inspect.signature(function).parameters


def takes_none_last(function: Callable[..., Any]) -> bool:
    """Whether the last positional parameter, beside the key, is annotated with a type that None belongs to."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds and p.name != "key"]
    try:
        hints = typing.get_type_hints(function)
    except NameError:
        return False  # it names what is defined further down
    return bool(names) and type(None) in typing.get_args(hints.get(names[-1]))


def key_of(saga: str, agent: str, name: str, arguments: Any) -> str:
    """The idempotency key: the same over retries, crashes and owners, since it is made of what stays the same.

    160 bits of BLAKE2b over saga, agent, effect and canonical arguments. `arguments` is JSON.
    """
    canonical = orjson.dumps([saga, agent, name, arguments], option=orjson.OPT_SORT_KEYS)
    return blake2b(canonical, digest_size=20).hexdigest()
