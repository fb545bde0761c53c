"""One saga as the coordinator knows it, and what follows from each thing that is heard of it.

Compensation is the backward recovery of Garcia-Molina and Salem, "Sagas" (1987): what was done is undone in reverse
order, each by an action of its own. There is no list of steps: effects are learned from the log as they happen.
"""

from typing import Any, Literal

from pydantic import BaseModel

from hocket_schemas.cancels import CancelRequested, RunCancelled
from hocket_schemas.event import Event
from hocket_schemas.runtime import SagaCancelled, SagaCompensated, SagaCompleted, SagaExpired, SagaFailed, SagaStuck
from hocket_schemas.sagas import Saga
from hocket_schemas.undoing import EffectDone, EffectUndone, UndoDecided, UndoFailed, UndoRequested

COORDINATOR = "coordinator"

Phase = Literal["open", "running", "completed", "aborting", "compensated", "stuck"]
"""`open`: no event came that starts a policy. Whatever is aborted ends compensated, or stuck before a person."""


EffectState = Literal["done", "asked", "undone", "failed", "skipped"]

_DECIDED: dict[str, EffectState] = {"retry": "done", "skip": "skipped", "resolve": "undone"}


class Effect(BaseModel):
    """An effect that the saga has had, and what became of it."""

    name: str
    key: str
    agent: str
    arguments: Any = None
    result: Any = None
    large: bool = False
    undoable: bool = True
    pivot: bool = False
    unknown: bool = False
    """Whether nobody saw how its call ended."""

    state: EffectState = "done"
    asked: int = 0
    """How often it was asked for its undo."""

    error: str = ""


class Asked(BaseModel):
    """A command that the coordinator has to send."""

    to: str
    event: UndoRequested


class Record(BaseModel):
    """What is known of one saga. Each method takes one fact, and returns what is to be said about it."""

    saga: str = ""
    name: str = ""
    """Of its policy."""

    started_by: str = ""
    """The id of the event that started it."""

    phase: Phase = "open"
    reason: str = ""
    """Why it was aborted."""

    effects: list[Effect] = []
    """In log order."""

    undone: list[str] = []
    """The names of those that are undone, in the order in which that was heard."""

    @property
    def ended(self) -> bool:
        """Whether nothing is expected any more; a late effect may still come."""
        return self.phase in ("completed", "compensated")

    def starts(self, policy: Saga, event_id: str) -> bool:
        """The event that starts a policy came; False: the saga is followed since another."""
        if self.phase == "open" and not self.started_by:
            self.name, self.phase, self.started_by = policy.name, "running", event_id
        return self.started_by == event_id

    def done(self, policy: Saga, event_id: str) -> list[Event | Asked]:
        """The event that completes the policy came."""
        if self.phase != "running" or policy.name != self.name:
            return []
        self.phase, self.effects = "completed", []
        return [SagaCompleted(name=self.name, saga=self.saga, ended_by=event_id)]

    def fails(self, policy: Saga, event_id: str, event_type: str) -> list[Event | Asked]:
        """An event came that the policy names as a failure."""
        if self.phase != "running" or policy.name != self.name:
            return []
        said = SagaFailed(name=self.name, saga=self.saga, ended_by=event_id, failure=event_type)
        return [said, *self._abort(f"failed by {event_type}")]

    def expires(self, policy: Saga) -> list[Event | Asked]:
        """The deadline has passed."""
        if self.phase != "running" or policy.name != self.name:
            return []
        missing = [wanted.event_type for wanted in (policy.done, *policy.fails)]
        deadline_s = policy.deadline.total_seconds()
        said = SagaExpired(name=self.name, saga=self.saga, deadline_s=deadline_s, missing=missing)
        return [said, *self._abort(f"not done within {policy.deadline}")]

    def cancelled(self, request: CancelRequested) -> list[Event | Asked]:
        """Somebody wants it to end; the coordinator's own request is no news."""
        if self.phase not in ("open", "running"):
            return []
        said = SagaCancelled(name=self.name, saga=self.saga, by=request.by, reason=request.reason)
        why = f"cancelled by {request.by}" + (f": {request.reason}" if request.reason else "")
        return [said, *self._abort(why, asked=True)]

    def effect_done(self, fact: EffectDone) -> list[Event | Asked]:
        """An effect happened. A late one reopens what was thought to be compensated."""
        known = self._effect(fact.effect_key)
        if self.phase == "completed" or (known is not None and not known.unknown):
            return []
        if known is not None:  # the outcome came after all
            known.arguments, known.result, known.unknown = fact.arguments, fact.result, False
            known.large = fact.large
            if known.state != "undone":
                return []
            known.state = "done"
        else:
            self.effects.append(
                Effect(
                    name=fact.effect,
                    key=fact.effect_key,
                    agent=fact.agent,
                    arguments=fact.arguments,
                    result=fact.result,
                    large=fact.large,
                    undoable=fact.undoable,
                    pivot=fact.pivot,
                )
            )
        return self._reopened()

    def run_cancelled(self, fact: RunCancelled) -> list[Event | Asked]:
        """A run of it was ended: what it left half done has to be looked into."""
        if self.phase == "completed":
            return []
        found = [e for e in fact.effects if e.status == "unknown" and e.undoable and self._effect(e.key) is None]
        self.effects += [
            Effect(name=e.name, key=e.key, agent=fact.agent, arguments=e.arguments, unknown=True) for e in found
        ]
        return self._reopened() if found else []

    def effect_undone(self, fact: EffectUndone) -> list[Event | Asked]:
        """An agent has undone what it was asked to."""
        effect = self._effect(fact.effect_key)
        if effect is None or effect.state not in ("asked", "failed"):
            return []
        effect.state = "undone"
        if fact.happened:
            self.undone.append(effect.name)
        return self._reopened()

    def undo_failed(self, fact: UndoFailed) -> list[Event | Asked]:
        """An agent could not undo it, however often it tried."""
        effect = self._effect(fact.effect_key)
        if effect is None or effect.state != "asked":
            return []
        effect.state, effect.error = "failed", fact.error
        return self._stuck(effect, f"{effect.name} could not be undone: {fact.error}")

    def decided(self, fact: UndoDecided) -> list[Event | Asked]:
        """A person has decided about what is stuck."""
        if self.phase != "stuck":
            return []
        for effect in self.effects:
            if effect.state == "failed" and fact.effect_key in (None, effect.key):
                effect.error = ""
                effect.state = _DECIDED[fact.decision]
                if fact.decision == "resolve":
                    self.undone.append(effect.name)
        return self._reopened()

    def _abort(self, reason: str, *, asked: bool = False) -> list[Event | Asked]:
        """Have everybody stop, and begin to undo. `asked`: everybody was asked to stop already."""
        self.reason = reason
        pivot = next((effect for effect in self.effects if effect.pivot), None)
        if pivot is not None:
            return self._stuck(pivot, f"{reason}, but {pivot.name} was done, and after it there is only forward")
        self.phase = "aborting"
        stop: list[Event | Asked] = [] if asked else [CancelRequested(saga=self.saga, reason=reason, by=COORDINATOR)]
        return [*stop, *self._next()]

    def _reopened(self) -> list[Event | Asked]:
        """Go on undoing, if it is aborted and nothing that a person has to decide is in the way."""
        if self.phase in ("open", "running") or any(effect.state == "failed" for effect in self.effects):
            return []
        if any(effect.pivot and effect.state == "done" and not effect.undoable for effect in self.effects):
            return []
        self.phase = "aborting"
        return self._next()

    def _next(self) -> list[Event | Asked]:
        """The next effect to be undone, one at a time, the newest first; or the end."""
        if any(effect.state == "asked" for effect in self.effects):
            return []
        for effect in reversed(self.effects):
            if effect.state == "done" and effect.undoable:
                effect.state, effect.asked = "asked", effect.asked + 1
                return [Asked(to=effect.agent, event=_request(effect))]
        self.phase = "compensated"
        skipped = [effect.name for effect in self.effects if effect.state == "skipped"]
        said = SagaCompensated(
            name=self.name, saga=self.saga, reason=self.reason, undone=list(self.undone), skipped=skipped
        )
        return [said]

    def _stuck(self, effect: Effect, reason: str) -> list[Event | Asked]:
        self.phase = "stuck"
        said = SagaStuck(
            name=self.name,
            saga=self.saga,
            reason=reason,
            effect=effect.name,
            effect_key=effect.key,
            agent=effect.agent,
        )
        return [said]

    def _effect(self, key: str) -> Effect | None:
        return next((effect for effect in self.effects if effect.key == key), None)


def _request(effect: Effect) -> UndoRequested:
    return UndoRequested(
        effect=effect.name,
        effect_key=effect.key,
        arguments=effect.arguments,
        result=effect.result,
        large=effect.large,
        unknown=effect.unknown,
        attempt=effect.asked,
    )
