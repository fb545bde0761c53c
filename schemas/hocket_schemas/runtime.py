"""Facts that the runtime itself states: how a saga ended, and that a schedule came due."""

from datetime import timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from hocket_schemas.event import Event


class SagaCompleted(Event, type="hocket.saga.completed.v1"):
    """The event that completes a saga came in time."""

    name: str
    """Of its policy."""

    saga: str
    """Its id, the correlation id of all its events."""

    ended_by: str
    """The id of the event that completed it."""


class SagaFailed(Event, type="hocket.saga.failed.v1"):
    """An event came that its policy names as a failure."""

    name: str
    saga: str
    ended_by: str
    """The id of the event that failed it."""

    failure: str
    """The type of that event."""


class SagaExpired(Event, type="hocket.saga.expired.v1"):
    """The deadline passed and the saga had not ended."""

    name: str
    saga: str
    deadline_s: float = Field(gt=0)
    """How long it had, counted from its starting event, in seconds."""

    missing: list[str] = Field(min_length=1)
    """The types of the events that it was still waiting for."""


class SagaCancelled(Event, type="hocket.saga.cancelled.v1"):
    """Somebody wanted the saga to end."""

    name: str
    """Of its policy; empty: none is known."""

    saga: str
    by: str
    reason: str = ""


class SagaCompensated(Event, type="hocket.saga.compensated.v1"):
    """What the saga had done outside is undone. Said again when an effect came late and was undone too."""

    name: str
    saga: str
    reason: str
    """Why it was aborted."""

    undone: list[str] = Field(default_factory=list)
    """The effects, in the order in which they were undone."""

    skipped: list[str] = Field(default_factory=list)
    """The effects that a person decided to leave done."""


class SagaAborted(Event, type="hocket.saga.aborted.v1", retention=timedelta(days=400)):
    """A saga that an actor's state has taken part in was aborted, and what it did outside is undone.

    Travels as a command of an agent to itself, once for each of its keys (`agent.on_aborted`).
    """

    name: str
    saga: str
    reason: str
    undone: list[str] = Field(default_factory=list)
    skipped: list[str] = Field(default_factory=list)


class SagaStuck(Event, type="hocket.saga.stuck.v1"):
    """The saga can neither go on nor be undone by itself; a person decides."""

    name: str
    saga: str
    reason: str
    effect: str = ""
    """The effect that could not be undone, or the pivot that must not be."""

    effect_key: str = ""
    agent: str = ""


class HandlingExhausted(Event, type="hocket.handling.exhausted.v1"):
    """An agent has given an event up, and wants more to follow than its dead letter."""

    agent: str
    event: str
    """Its id, and the dead letter's."""

    what: str
    """Its type."""

    error: str
    then: Literal["fail_saga", "escalate"]
    """`fail_saga`: its saga is to fail. `escalate`: somebody is to look at it."""


class ScheduleDue(Event, type="hocket.schedule.due.v1", retention=timedelta(days=400)):
    """A time has come that an agent's schedule names. Travels as a command to that agent."""

    schedule: str
    """Its name, by which the agent finds the function for it."""

    due: AwareDatetime
    """The time that came, to the second; the event may be handled later."""

    missed: int = Field(default=0, ge=0)
    """So many earlier times have no event of their own, since nobody was there; this one stands for them."""

    skipped: int = Field(default=0, ge=0)
    """So many times since the event before were passed over, as the schedule wants it: nothing stands for them."""
