"""What a saga has had done, be it by an agent or by a saga of its own, and what became of each."""

from typing import Any, Literal

from pydantic import BaseModel

from hocket_schemas.cancels import EffectStatus
from hocket_schemas.children import AbortRequested, ChildEnded, ChildStarted
from hocket_schemas.event import Event
from hocket_schemas.sagas import Link
from hocket_schemas.undoing import EffectDone, UndoRequested

COORDINATOR = "coordinator"

EffectState = Literal["done", "sought", "asked", "undone", "void", "failed", "skipped", "over"]
"""`sought`: its agent was asked to find out whether it happened, and to undo it then. `void`: it had not happened.
`failed`: a person decides about it. `over`: of a child that nothing is to be done about any more."""

DECIDED: dict[str, EffectState] = {"retry": "done", "skip": "skipped", "resolve": "undone"}


class Effect(BaseModel):
    """An effect that the saga has had, or a child that it has started, and what became of it."""

    name: str
    key: str
    agent: str
    arguments: Any = None
    result: Any = None
    large: bool = False
    undoable: bool = True
    pivot: bool = False
    """Whether the saga can only go forward from it, until a person decides otherwise."""

    unknown: bool = False
    """Whether nobody saw how its call ended."""

    state: EffectState = "done"
    asked: int = 0
    """How often it was asked for its undo."""

    due_s: float = 0.0
    """Until when the answer has to be there, in seconds since the Unix epoch."""

    error: str = ""
    """Why a person has to decide."""

    link: Link | None = None
    """Of a child, whose id is the key: what the two have to do with each other. None: it is an effect."""

    trouble: str = ""
    """Of a child: why it is stuck."""

    @property
    def asking(self) -> bool:
        """Whether an answer is to come."""
        return self.state in ("sought", "asked")

    @property
    def due(self) -> bool:
        """Whether its agent owes an answer by a certain time. A child tells by itself when it is stuck."""
        return self.asking and self.link is None

    @property
    def standing(self) -> bool:
        """Whether it has to be undone when the saga is aborted."""
        return self.state == "done" and self.link in (None, "cascade")

    @property
    def lasting(self) -> bool:
        """Whether it is a child that the saga's end waits for."""
        return self.state == "done" and self.link == "wait"

    @property
    def holds(self) -> bool:
        """Whether there is no way back behind it."""
        return self.pivot and self.state == "done" and not self.unknown


class Asked(BaseModel):
    """A command that the coordinator has to send."""

    to: str
    event: UndoRequested


class Sent(BaseModel):
    """What one saga has to tell another one, its child or its parent."""

    saga: str
    event: AbortRequested | ChildEnded


Said = Event | Asked | Sent


def effect_of(fact: EffectDone) -> Effect:
    """An effect that happened."""
    return Effect(
        name=fact.effect,
        key=fact.effect_key,
        agent=fact.agent,
        arguments=fact.arguments,
        result=fact.result,
        large=fact.large,
        undoable=fact.undoable,
        pivot=fact.pivot,
    )


def unknown_of(status: EffectStatus, agent: str) -> Effect:
    """An effect that nobody saw the end of."""
    return Effect(
        name=status.name,
        key=status.key,
        agent=agent,
        arguments=status.arguments,
        undoable=status.undoable,
        pivot=status.pivot,
        unknown=True,
    )


def child_of(fact: ChildStarted, link: Link) -> Effect:
    """A saga that was started."""
    state: EffectState = "over" if link == "detach" else "done"
    return Effect(name=f"saga {fact.child}", key=fact.child, agent=COORDINATOR, link=link, state=state)


def request(effect: Effect, saga: str, reason: str) -> Asked | Sent:
    """Ask for its undo, on behalf of a saga that is aborted for a reason; once more."""
    effect.state, effect.asked = "sought" if effect.unknown else "asked", effect.asked + 1
    if effect.link is not None:
        return Sent(saga=effect.key, event=AbortRequested(parent=saga, reason=reason, attempt=effect.asked))
    wanted = UndoRequested(
        effect=effect.name,
        effect_key=effect.key,
        arguments=effect.arguments,
        result=effect.result,
        large=effect.large,
        unknown=effect.unknown,
        attempt=effect.asked,
    )
    return Asked(to=effect.agent, event=wanted)
