"""One saga as the coordinator knows it, and what follows from each thing that is heard of it.

Compensation is the backward recovery of Garcia-Molina and Salem, "Sagas" (1987): what was done is undone in reverse
order, each by an action of its own. There is no list of steps: effects are learned from the log as they happen.
"""

from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel

from hocket_schemas.cancels import CancelRequested, RunCancelled
from hocket_schemas.event import Event
from hocket_schemas.limits import LimitExceeded
from hocket_schemas.runtime import (
    HandlingExhausted,
    SagaCancelled,
    SagaCompensated,
    SagaCompleted,
    SagaExpired,
    SagaFailed,
    SagaStuck,
)
from hocket_schemas.sagas import Saga
from hocket_schemas.undoing import EffectDone, EffectUndone, UndoDecided, UndoFailed, UndoRequested

COORDINATOR = "coordinator"

UNDO_WITHIN_S = 600.0
"""How long an agent may take to answer where no policy says otherwise."""

Phase = Literal["open", "running", "completed", "aborting", "compensated", "stuck"]
"""`open`: no event came that starts a policy. Whatever is aborted ends compensated, or stuck before a person."""


EffectState = Literal["done", "sought", "asked", "undone", "void", "failed", "skipped"]
"""`sought`: its agent was asked to find out whether it happened, and to undo it then. `void`: it had not happened.
`failed`: a person decides about it."""

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

    @property
    def awaited(self) -> bool:
        """Whether its agent owes an answer."""
        return self.state in ("sought", "asked")

    @property
    def holds(self) -> bool:
        """Whether there is no way back behind it."""
        return self.pivot and self.state == "done" and not self.unknown


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

    parent: str = ""
    """The saga that started it; empty: none did."""

    phase: Phase = "open"
    reason: str = ""
    """Why it was aborted."""

    told: bool = False
    """Whether everybody was asked to stop."""

    effects: list[Effect] = []
    """In log order."""

    undo_within_s: float = UNDO_WITHIN_S
    watched: bool = False
    """Whether somebody looks after the requests that are not answered yet."""

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
            self.undo_within_s = policy.undo_within.total_seconds()
        return self.started_by == event_id

    def done(self, policy: Saga, event_id: str) -> list[Event | Asked]:
        """The event that completes the policy came. In time, or past a pivot that it was stuck at: it went forward."""
        if not (self.phase == "running" or self._forward) or policy.name != self.name:
            return []
        self.phase, self.effects = "completed", []
        return [SagaCompleted(name=self.name, saga=self.saga, ended_by=event_id)]

    def fails(self, policy: Saga, event_id: str, event_type: str) -> list[Event | Asked]:
        """An event came that the policy names as a failure."""
        if self.phase != "running" or policy.name != self.name:
            return []
        said = SagaFailed(name=self.name, saga=self.saga, ended_by=event_id, failure=event_type)
        return [said, *self._abort(f"failed by {event_type}")]

    def over_budget(self, fact: LimitExceeded, event_id: str) -> list[Event | Asked]:
        """A call would have gone beyond its budget."""
        if self.phase not in ("open", "running") or fact.account != self.saga:
            return []
        said = SagaFailed(name=self.name, saga=self.saga, ended_by=event_id, failure=fact.event_type)
        return [said, *self._abort(f"{fact.agent} would have gone beyond its budget of {fact.most:g} {fact.limit}")]

    def exhausted(self, fact: HandlingExhausted, event_id: str) -> list[Event | Asked]:
        """An agent has given up an event of it, and may want it to fail by that."""
        if fact.then != "fail_saga" or self.phase != "running":
            return []
        said = SagaFailed(name=self.name, saga=self.saga, ended_by=event_id, failure=fact.event_type)
        return [said, *self._abort(f"{fact.agent} could not handle {fact.what}: {fact.error}")]

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
        self.told = True
        return [said, *self._abort(why)]

    def effect_done(self, fact: EffectDone) -> list[Event | Asked]:
        """An effect happened. A late one reopens what was thought to be compensated."""
        if self.phase == "completed" or not (fact.undoable or fact.pivot):
            return []
        known = self._effect(fact.effect_key)
        if known is not None:
            return self._known_after_all(known, fact)
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
        return self._go_on()

    def _known_after_all(self, effect: Effect, fact: EffectDone) -> list[Event | Asked]:
        """The outcome of an effect came that nobody had seen the end of; anything else of it is no news."""
        if not effect.unknown:
            return []
        effect.arguments, effect.result, effect.large = fact.arguments, fact.result, fact.large
        effect.unknown, effect.pivot = False, fact.pivot
        if effect.state not in ("done", "void", "failed"):
            return []
        effect.state, effect.error = "done", ""
        return self._go_on()

    def run_cancelled(self, fact: RunCancelled) -> list[Event | Asked]:
        """A run of it was ended: what it left half done has to be looked into."""
        if self.phase == "completed":
            return []
        found = [e for e in fact.effects if e.status == "unknown" and (e.undoable or e.pivot)]
        new = [e for e in found if self._effect(e.key) is None]
        self.effects += [
            Effect(
                name=e.name,
                key=e.key,
                agent=fact.agent,
                arguments=e.arguments,
                undoable=e.undoable,
                pivot=e.pivot,
                unknown=True,
            )
            for e in new
        ]
        return self._go_on() if new else []

    def effect_undone(self, fact: EffectUndone) -> list[Event | Asked]:
        """An agent has undone what it was asked to, or has found that it never happened."""
        effect = self._effect(fact.effect_key)
        if effect is None or effect.state not in ("sought", "asked", "failed"):
            return []
        if fact.happened:
            effect.state, effect.unknown = "undone", False
            self.undone.append(effect.name)
        elif effect.unknown:
            effect.state = "void"
        else:
            effect.state = "done"  # its outcome came while it was looked for
        effect.error = ""
        return self._go_on()

    def undo_failed(self, fact: UndoFailed) -> list[Event | Asked]:
        """An agent could not undo it, however often it tried."""
        effect = self._effect(fact.effect_key)
        if effect is None or effect.state not in ("sought", "asked"):
            return []
        if effect.state == "sought" and not effect.unknown:
            effect.state = "done"  # its outcome came while it was looked for
            return self._go_on()
        return self._stuck(effect, f"{effect.name} could not be undone: {fact.error}", fact.error)

    @property
    def due_s(self) -> float | None:
        """When the next answer is overdue, in seconds since the Unix epoch; None: nobody owes one."""
        return min((effect.due_s for effect in self.effects if effect.awaited), default=None)

    def awaits(self, asked: Asked, now_s: float) -> None:
        """A request is on its way: from now on its answer has a deadline."""
        effect = self._effect(asked.event.effect_key)
        assert effect is not None, "what is asked for is known"
        effect.due_s = now_s + self.undo_within_s

    def overdue(self, now_s: float) -> list[Event | Asked]:
        """Time has passed: a person has to look after whoever has not answered by now. A late answer still counts."""
        said: list[Event | Asked] = []
        for effect in self.effects:
            if effect.awaited and effect.due_s <= now_s:
                within = timedelta(seconds=self.undo_within_s)
                why = (
                    f"{effect.agent} was asked to undo {effect.name} and has not answered within {within}; see whether "
                    "it runs (hocket agents) and what it could not handle (hocket dead), then have it retried"
                )
                said += self._stuck(effect, why, why)
        return said

    def decided(self, fact: UndoDecided) -> list[Event | Asked]:
        """A person has decided about what is stuck. Whatever it is, a pivot is none any more after it."""
        found = [e for e in self.effects if e.state == "failed" and fact.effect_key in (None, e.key)]
        for effect in found:
            effect.state, effect.error, effect.pivot = _DECIDED[fact.decision], "", False
            if fact.decision == "resolve":
                effect.unknown = False
                self.undone.append(effect.name)
        return self._go_on() if found else []

    @property
    def _forward(self) -> bool:
        """Whether it is stuck at a pivot, with everything that was done in its place."""
        return self.phase == "stuck" and not any(effect.asked for effect in self.effects)

    def _abort(self, reason: str) -> list[Event | Asked]:
        """Turn round."""
        self.phase, self.reason = "aborting", reason
        return self._go_on()

    def _go_on(self) -> list[Event | Asked]:
        """The next effect to be undone, one at a time, the newest first; or the end.

        Of an effect that can only be looked into and turns out to have happened, its agent says that it failed.
        """
        if self.phase in ("open", "running"):
            return []
        pivot = next((effect for effect in self.effects if effect.holds), None)
        if pivot is not None:
            why = f"{pivot.name} was done, and after it there is only forward"
            return self._stuck(pivot, f"{self.reason}, but {why}", why)
        states = {effect.state for effect in self.effects}
        if "failed" in states:
            return []
        self.phase = "aborting"
        stop: list[Event | Asked] = []
        if not self.told:
            self.told = True
            stop = [CancelRequested(saga=self.saga, reason=self.reason, by=COORDINATOR)]
        if states & {"sought", "asked"}:
            return stop
        left = [effect for effect in self.effects if effect.state == "done"]
        if left:
            # Whether there is a way back has to be known first.
            effect = next((effect for effect in left if effect.pivot), left[-1])
            effect.state, effect.asked = "sought" if effect.unknown else "asked", effect.asked + 1
            return [*stop, Asked(to=effect.agent, event=_request(effect))]
        self.phase = "compensated"
        skipped = [effect.name for effect in self.effects if effect.state == "skipped"]
        said = SagaCompensated(
            name=self.name, saga=self.saga, reason=self.reason, undone=list(self.undone), skipped=skipped
        )
        return [*stop, said]

    def _stuck(self, effect: Effect, reason: str, error: str) -> list[Event | Asked]:
        self.phase, effect.state, effect.error = "stuck", "failed", error
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
