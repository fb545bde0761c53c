"""What a handler sees of the world besides its event."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic

from pydantic import BaseModel
from typing_extensions import TypeVar

from hocket.clock import Clock, utc
from hocket.errors import UndeclaredEvent
from hocket.ids import derived
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Event

S = TypeVar("S", bound=BaseModel | None, default=None)
E = TypeVar("E", bound=Event)

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

    Everything done through it is committed with the event, in one append, or not at all.
    """

    envelope: Envelope
    """The event as it travelled: its id, source, time, and extensions."""

    key: str
    """The key whose events this actor handles in order."""

    saga: str
    """The saga that the event belongs to, its correlation id."""

    state: S
    """The actor's state. Change it in place or assign a new one; what it holds at the end is committed."""

    cause: str
    """The token of this handling; stable over crashes and retries."""

    clock: Clock
    allowed: frozenset[type[Event]]
    read_history: History
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

    async def history(self, event: type[E]) -> Sequence[E]:
        """The key's events of one type that are older than the one being handled, in log order.

        The log is the memory: what was said once need not be copied into state. Read again after a crash
        it gives the same, since what lies before an event no longer changes.
        """
        return await self.read_history(event)

    def now(self) -> datetime:
        """The time now, in UTC."""
        return utc(self.clock.now_s())

    def uuid(self) -> str:
        """An id that is the same when this handling is repeated: the n-th call gives the n-th id."""
        self._names += 1
        return derived(self.cause, str(self._names))
