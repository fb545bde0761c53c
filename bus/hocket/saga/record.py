"""One saga as the coordinator knows it, and what follows from each thing that is heard of it.

Compensation is the backward recovery of Garcia-Molina and Salem, "Sagas" (1987): what was done is undone in reverse
order, each by an action of its own. There is no list of steps: effects are learned from the log as they happen.
"""

import math
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel

from hocket.saga.effects import (
    COORDINATOR,
    DECIDED,
    Asked,
    Effect,
    Said,
    Sent,
    child_of,
    effect_of,
    request,
    unknown_of,
)
from hocket_schemas.cancels import CancelRequested, RunCancelled
from hocket_schemas.children import AbortRequested, ChildEnded, ChildStarted
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
from hocket_schemas.sagas import Link, Saga
from hocket_schemas.undoing import EffectDone, EffectUndone, UndoDecided, UndoFailed

UNDO_WITHIN_S = 600.0
"""How long an agent may take to answer where no policy says otherwise."""

Phase = Literal["open", "running", "completed", "aborting", "compensated", "stuck"]
"""`open`: no event came that starts a policy. Whatever is aborted ends compensated, or stuck before a person."""


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
    """In log order, and the children among them."""

    ended_by: str = ""
    """The id of the event that completes it, once that came: then it waits for children, if it is not completed."""

    parallel: bool = False
    """Whether its effects are undone side by side."""

    undo_within_s: float = UNDO_WITHIN_S
    watched: bool = False
    """Whether somebody looks after the requests that are not answered yet."""

    deadline_s: float = 0.0
    """When its time is up, in seconds since the Unix epoch, if somebody looks before that whether it is quiet."""

    quiet_since_s: float = 0.0
    """When the last was heard of it, if it was told that it is quiet."""

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
            self.undo_within_s, self.parallel = policy.undo_within.total_seconds(), policy.undo == "parallel"
        return self.started_by == event_id

    def done(self, policy: Saga, event_id: str) -> list[Said]:
        """The event that completes the policy came. In time, or past a pivot that it was stuck at: it went forward.

        A saga that had completed before its parent was aborted does not complete once more.
        """
        if not (self.phase == "running" or (self._forward and not self.ended_by)) or policy.name != self.name:
            return []
        for effect in self.effects:
            if effect.state == "failed":
                effect.state, effect.error = "done", ""
        self.phase, self.ended_by = "running", self.ended_by or event_id
        return self._complete()

    def _complete(self) -> list[Said]:
        """Come to the end, unless a child has to come to its own first. What a child did may yet have to be undone."""
        if not self.ended_by or any(effect.lasting for effect in self.effects):
            return []
        self.phase = "completed"
        self.effects = [effect for effect in self.effects if effect.link or self.parent]
        said = SagaCompleted(name=self.name, saga=self.saga, ended_by=self.ended_by)
        return [said, *self._tell("completed")]

    def fails(self, policy: Saga, event_id: str, event_type: str) -> list[Said]:
        """An event came that the policy names as a failure."""
        if self.phase != "running" or self.ended_by or policy.name != self.name:
            return []
        said = SagaFailed(name=self.name, saga=self.saga, ended_by=event_id, failure=event_type)
        return [said, *self._abort(f"failed by {event_type}")]

    def over_budget(self, fact: LimitExceeded, event_id: str) -> list[Said]:
        """A call would have gone beyond its budget."""
        if self.phase not in ("open", "running") or fact.account != self.saga:
            return []
        said = SagaFailed(name=self.name, saga=self.saga, ended_by=event_id, failure=fact.event_type)
        return [said, *self._abort(f"{fact.agent} would have gone beyond its budget of {fact.most:g} {fact.limit}")]

    def exhausted(self, fact: HandlingExhausted, event_id: str) -> list[Said]:
        """An agent has given up an event of it, and may want it to fail by that."""
        if fact.then != "fail_saga" or self.phase != "running":
            return []
        said = SagaFailed(name=self.name, saga=self.saga, ended_by=event_id, failure=fact.event_type)
        return [said, *self._abort(f"{fact.agent} could not handle {fact.what}: {fact.error}")]

    def silent(self, policy: Saga, since_s: float, heard: str, now_s: float) -> list[Said]:
        """Nothing was heard of it since then, but `heard`. Told once, however long it lasts."""
        quiet_s = policy.quiet.total_seconds() if policy.quiet else math.inf
        waits = any(effect.lasting for effect in self.effects)  # for a child, which has a policy of its own
        if self.phase != "running" or waits or now_s - since_s < quiet_s or since_s == self.quiet_since_s:
            return []
        self.quiet_since_s = since_s
        told = LimitExceeded(
            limit="quiet", most=quiet_s, count=now_s - since_s, agent=COORDINATOR, event=self.started_by, what=heard
        )
        if policy.on_quiet == "tell":
            return [told]
        said = SagaFailed(name=self.name, saga=self.saga, ended_by=self.started_by, failure=told.event_type)
        return [told, said, *self._abort(f"nothing was heard of it for {policy.quiet}; the last: {heard}")]

    def expires(self, policy: Saga) -> list[Said]:
        """The deadline has passed."""
        if self.phase != "running" or policy.name != self.name:
            return []
        wanted = [ChildEnded] if self.ended_by else [policy.done, *policy.fails]
        missing = [event.event_type for event in wanted]
        deadline_s = policy.deadline.total_seconds()
        said = SagaExpired(name=self.name, saga=self.saga, deadline_s=deadline_s, missing=missing)
        return [said, *self._abort(f"not done within {policy.deadline}")]

    def cancelled(self, request: CancelRequested) -> list[Said]:
        """Somebody wants it to end; the coordinator's own request is no news."""
        if self.phase not in ("open", "running"):
            return []
        said = SagaCancelled(name=self.name, saga=self.saga, by=request.by, reason=request.reason)
        why = f"cancelled by {request.by}" + (f": {request.reason}" if request.reason else "")
        self.told = True
        return [said, *self._abort(why)]

    def effect_done(self, fact: EffectDone) -> list[Said]:
        """An effect happened. A late one reopens what was thought to be compensated."""
        if self._closed or not (fact.undoable or fact.pivot):
            return []
        known = self._effect(fact.effect_key)
        if known is not None:
            return self._known_after_all(known, fact)
        self.effects.append(effect_of(fact))
        return self._go_on()

    def _known_after_all(self, effect: Effect, fact: EffectDone) -> list[Said]:
        """The outcome of an effect came that nobody had seen the end of; anything else of it is no news."""
        if not effect.unknown:
            return []
        effect.arguments, effect.result, effect.large = fact.arguments, fact.result, fact.large
        effect.unknown, effect.pivot = False, fact.pivot
        if effect.state not in ("done", "void", "failed"):
            return []
        effect.state, effect.error = "done", ""
        return self._go_on()

    def run_cancelled(self, fact: RunCancelled) -> list[Said]:
        """A run of it was ended: what it left half done has to be looked into."""
        if self._closed:
            return []
        found = [e for e in fact.effects if e.status == "unknown" and (e.undoable or e.pivot)]
        new = [e for e in found if self._effect(e.key) is None]
        self.effects += [unknown_of(e, fact.agent) for e in new]
        return self._go_on() if new else []

    def effect_undone(self, fact: EffectUndone) -> list[Said]:
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

    def undo_failed(self, fact: UndoFailed) -> list[Said]:
        """An agent could not undo it, however often it tried."""
        effect = self._effect(fact.effect_key)
        if effect is None or not effect.asking:
            return []
        if effect.state == "sought" and not effect.unknown:
            effect.state = "done"  # its outcome came while it was looked for
            return self._go_on()
        return self._stuck(effect, f"{effect.name} could not be undone: {fact.error}", fact.error)

    def child_started(self, fact: ChildStarted, link: Link) -> list[Said]:
        """It has started another saga, or one of its agents has. A late one is undone as well."""
        if self._effect(fact.child) is None:
            self.effects.append(child_of(fact, link))
        return [] if link == "detach" else self._go_on()

    def child_ended(self, fact: ChildEnded, event_id: str) -> list[Said]:
        """A child says how it stands."""
        child = self._effect(fact.child)
        if child is None or child.link is None:
            return []
        was, child.trouble = child.state, ""
        match fact.state:
            case "stuck":
                child.trouble = fact.reason
                if was == "asked":
                    return self._stuck(child, f"{self.reason}, but {child.name} is stuck: {fact.reason}", fact.reason)
            case "completed" if child.link == "wait" and was in ("done", "failed"):
                child.state, child.error = "over", ""
            case "foreign" if was in ("done", "asked", "failed"):
                child.state, child.error = "void", ""
            case "compensated" if was in ("done", "asked", "failed"):
                child.state, child.error = "undone", ""
                self.undone += [child.name] if child.asked else []
                if self.phase == "running" and child.link == "wait":
                    failure = ChildEnded.event_type
                    said = SagaFailed(name=self.name, saga=self.saga, ended_by=event_id, failure=failure)
                    return [said, *self._abort(f"{child.name} did not complete: {fact.reason}")]
        if self.phase == "running":
            return self._complete()
        return self._go_on() if child.state != was or (child.lasting and child.trouble) else []

    def abort_requested(self, fact: AbortRequested) -> list[Said]:
        """The saga that started it is aborted, and it has to be undone, also when it had completed."""
        if fact.parent != self.parent:
            reason = f"it is a child of {self.parent}" if self.parent else "it was there before"
            return [Sent(saga=fact.parent, event=ChildEnded(child=self.saga, state="foreign", reason=reason))]
        if self.phase in ("open", "running", "completed"):
            said = SagaCancelled(name=self.name, saga=self.saga, by=fact.parent, reason=fact.reason)
            return [said, *self._abort(f"its parent {fact.parent} is aborted: {fact.reason}")]
        if self.phase == "stuck" and fact.attempt > 1:
            return self.decided(UndoDecided(decision="retry", by=fact.parent))
        if self.phase == "stuck":
            [first, *_] = [effect for effect in self.effects if effect.state == "failed"]
            return self._tell("stuck", first.error)
        return self._tell("compensated", self.reason) if self.phase == "compensated" else []

    @property
    def due_s(self) -> float | None:
        """When the next answer is overdue, in seconds since the Unix epoch; None: nobody owes one."""
        return min((effect.due_s for effect in self.effects if effect.due), default=None)

    def awaits(self, asked: Asked, now_s: float) -> None:
        """A request is on its way: from now on its answer has a deadline."""
        effect = self._effect(asked.event.effect_key)
        assert effect is not None, "what is asked for is known"
        effect.due_s = now_s + self.undo_within_s

    def overdue(self, now_s: float) -> list[Said]:
        """Time has passed: a person has to look after whoever has not answered by now. A late answer still counts."""
        said: list[Said] = []
        for effect in self.effects:
            if effect.due and effect.due_s <= now_s:
                within = timedelta(seconds=self.undo_within_s)
                why = (
                    f"{effect.agent} was asked to undo {effect.name} and has not answered within {within}; see whether "
                    "it runs (hocket agents) and what it could not handle (hocket dead), then have it retried"
                )
                said += self._stuck(effect, why, why)
        return said

    def decided(self, fact: UndoDecided) -> list[Said]:
        """A person has decided about what is stuck. Whatever it is, a pivot is none any more after it."""
        found = [e for e in self.effects if e.state == "failed" and fact.effect_key in (None, e.key)]
        for effect in found:
            effect.state, effect.error, effect.pivot = DECIDED[fact.decision], "", False
            if fact.decision == "resolve":
                effect.unknown = False
                self.undone.append(effect.name)
        return self._go_on() if found else []

    @property
    def _forward(self) -> bool:
        """Whether it is stuck at a pivot, with everything that was done in its place."""
        at_pivot = all(effect.pivot for effect in self.effects if effect.state == "failed")
        return self.phase == "stuck" and at_pivot and not any(effect.asked for effect in self.effects)

    @property
    def _closed(self) -> bool:
        """Whether what was done is of no interest any more: it is completed, and nobody's child."""
        return self.phase == "completed" and not self.parent

    def _abort(self, reason: str) -> list[Said]:
        """Turn round."""
        self.phase, self.reason = "aborting", reason
        return self._go_on()

    def _go_on(self) -> list[Said]:
        """What is to be undone next, one at a time and the newest first, or all of it side by side; or the end.

        Of an effect that can only be looked into and turns out to have happened, its agent says that it failed.
        """
        if self.phase in ("open", "running", "completed"):
            return []
        pivot = next((effect for effect in self.effects if effect.holds), None)
        if pivot is not None:
            why = f"{pivot.name} was done, and after it there is only forward"
            return self._stuck(pivot, f"{self.reason}, but {why}", why)
        if any(effect.state == "failed" for effect in self.effects):
            return []
        self.phase = "aborting"
        stop: list[Said] = []
        if not self.told:
            self.told = True
            stop = [CancelRequested(saga=self.saga, reason=self.reason, by=COORDINATOR)]
        next_ones = self._next()
        if next_ones:
            return [*stop, *(request(effect, self.saga, self.reason) for effect in next_ones)]
        if any(effect.asking for effect in self.effects):
            return stop
        lasting = [effect for effect in self.effects if effect.lasting]
        for child in lasting:
            if child.trouble:
                why = f"{child.name}, which has to end first, is stuck: {child.trouble}"
                return [*stop, *self._stuck(child, f"{self.reason}, but {why}", why)]
        return stop if lasting else [*stop, *self._compensated()]

    def _next(self) -> list[Effect]:
        """What can be asked for now."""
        standing = [effect for effect in self.effects if effect.standing]
        asking = [effect for effect in self.effects if effect.asking]
        # Whether there is a way back has to be known first.
        pivots = [effect for effect in standing if effect.pivot]
        if any(effect.pivot for effect in asking) or (asking and not self.parallel):
            return []
        if self.parallel and not pivots:
            return standing[::-1]
        return pivots[:1] or standing[-1:]

    def _compensated(self) -> list[Said]:
        self.phase = "compensated"
        skipped = [effect.name for effect in self.effects if effect.state == "skipped"]
        said = SagaCompensated(
            name=self.name, saga=self.saga, reason=self.reason, undone=list(self.undone), skipped=skipped
        )
        return [said, *self._tell("compensated", self.reason)]

    def _stuck(self, effect: Effect, reason: str, error: str) -> list[Said]:
        self.phase, effect.state, effect.error = "stuck", "failed", error
        said = SagaStuck(
            name=self.name,
            saga=self.saga,
            reason=reason,
            effect=effect.name,
            effect_key=effect.key,
            agent=effect.agent,
        )
        return [said, *self._tell("stuck", reason)]

    def _tell(self, state: Literal["completed", "compensated", "stuck"], reason: str = "") -> list[Said]:
        """Tell the parent, if there is one."""
        told = ChildEnded(child=self.saga, name=self.name, state=state, reason=reason)
        return [Sent(saga=self.parent, event=told)] if self.parent else []

    def _effect(self, key: str) -> Effect | None:
        return next((effect for effect in self.effects if effect.key == key), None)


__all__ = ["COORDINATOR", "UNDO_WITHIN_S", "Asked", "Effect", "Phase", "Record", "Said", "Sent"]
