"""A saga's record under Hypothesis: whatever comes in whatever order, it ends, and asks for each undo once."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from hocket.saga.record import UNDO_WITHIN_S, Asked, Effect, Record, Sent
from hocket_schemas.cancels import CancelRequested, EffectStatus, RunCancelled
from hocket_schemas.children import AbortRequested, ChildEnded, ChildStarted
from hocket_schemas.event import Catalog, Event
from hocket_schemas.runtime import SagaCompensated, SagaCompleted, SagaStuck
from hocket_schemas.sagas import Link, Saga
from hocket_schemas.undoing import EffectDone, EffectUndone, UndoDecided, UndoFailed, UndoRequested

EVENTS = Catalog()


class Started(Event, type="record.started.v1", catalog=EVENTS):
    pass


class Ended(Event, type="record.ended.v1", catalog=EVENTS):
    pass


class Refused(Event, type="record.refused.v1", catalog=EVENTS):
    pass


POLICY = Saga("record-test", starts=Started, done=Ended, fails=[Refused], deadline=timedelta(hours=1))

EFFECTS = [f"e{n}" for n in range(5)]
CHILDREN = ["c0", "c1"]
PIVOTS = {"e3": False, "e4": True}
"""Those that are pivots, and whether they can be undone as well."""

MOVES_MAX = 100

LIVES = settings(
    max_examples=150, stateful_step_count=30, deadline=None, phases=[Phase.generate], report_multiple_bugs=False
)


class Life(RuleBasedStateMachine):
    """One saga: the facts of it in any order, and what the agents and a person make of its record's requests."""

    def __init__(self) -> None:
        super().__init__()
        self.record = Record(saga="s-1")
        self.heard: list[Event] = []
        """What may be heard once more."""

        self.asked: Asked | None = None
        self.asks: Counter[str] = Counter()
        self.allowed: Counter[str] = Counter()
        """How often each may be asked for: once, and once more for each reason to ask again."""

        self.said: list[Event] = []
        self.late = False
        self.family: set[str] = set()
        """The children that were asked to be undone, and have not answered."""

        self.overdue: list[UndoRequested] = []
        """Requests whose answer did not come in time, and may come yet."""

    def hear(self, fact: Event) -> None:
        """Have the record take a fact, and hold what it says against what it may."""
        self.heard.append(fact)
        match fact:
            case EffectDone():
                self.say(self.record.effect_done(fact))
            case EffectUndone():
                self.say(self.record.effect_undone(fact))
            case UndoFailed():
                self.say(self.record.undo_failed(fact))
            case RunCancelled():
                self.say(self.record.run_cancelled(fact))
            case CancelRequested():
                self.say(self.record.cancelled(fact))

    def say(self, facts: Sequence[Event | Asked]) -> None:
        assert not facts or not self.late or self.record.parent, "nothing is said after completion"
        for fact in facts:
            if isinstance(fact, Sent) and isinstance(fact.event, ChildEnded):
                assert fact.saga == self.record.parent
                assert fact.event.state == self.record.phase
            elif isinstance(fact, Sent):
                assert self.asked is None, "one at a time"
                assert not self.family, "one at a time"
                self.family.add(fact.saga)
            elif isinstance(fact, Asked):
                assert self.asked is None, "one at a time"
                assert not self.family, "one at a time"
                self.asked = fact
                self.record.awaits(fact, 0.0)
                self.asks[fact.event.effect_key] += 1
                assert fact.event.attempt == self.asks[fact.event.effect_key]
                self._in_order(fact.event)
            else:
                self.said.append(fact)
        self.late = self.record.phase == "completed"
        self.record = Record.model_validate_json(self.record.model_dump_json())  # as the next owner finds it

    def _in_order(self, asked: UndoRequested) -> None:
        keys = [effect.key for effect in self.record.effects]
        newer = self.record.effects[keys.index(asked.effect_key) + 1 :]
        [effect] = [effect for effect in self.record.effects if effect.key == asked.effect_key]
        assert effect.pivot or not [e for e in newer if e.standing], "the newest first"
        assert asked.unknown == effect.unknown

    def effect(self, key: str) -> Effect | None:
        return next((effect for effect in self.record.effects if effect.key == key), None)

    @rule(event=st.sampled_from(["one", "two"]))
    def start(self, event: str) -> None:
        self.record.starts(POLICY, event)

    @rule(key=st.sampled_from(EFFECTS))
    def do(self, key: str) -> None:
        known = self.effect(key)
        self.allowed[key] += known is None or known.unknown
        pivot = key in PIVOTS
        undoable = PIVOTS.get(key, True)
        self.hear(
            EffectDone(
                effect=key, effect_key=key, agent="a", arguments=[[], {}], result=1, undoable=undoable, pivot=pivot
            )
        )

    @rule(keys=st.lists(st.sampled_from(EFFECTS), unique=True, max_size=3))
    def cancel_a_run(self, keys: list[str]) -> None:
        effects = []
        for key in keys:
            self.allowed[key] += self.effect(key) is None
            effects.append(
                EffectStatus(
                    name=key,
                    key=key,
                    digest="",
                    status="unknown",
                    undoable=PIVOTS.get(key, True),
                    pivot=key in PIVOTS,
                    arguments=[[], {}],
                )
            )
        self.hear(
            RunCancelled(request="r", agent="a", key="k", run="r", event="e", reason="", by="ada", effects=effects)
        )

    @precondition(lambda self: self.record.phase == "open" and not self.heard)
    @rule()
    def be_a_child(self) -> None:
        self.record.parent = "p-1"

    @precondition(lambda self: self.record.parent)
    @rule(attempt=st.integers(1, 2))
    def be_aborted(self, attempt: int) -> None:
        """The parent wants it undone; a second request is a person's, who has the parent retried."""
        if attempt > 1:
            for effect in self.record.effects:
                self.allowed[effect.key] += effect.state == "failed"
        self.say(self.record.abort_requested(AbortRequested(parent="p-1", reason="it rains", attempt=attempt)))

    @rule(child=st.sampled_from(CHILDREN), link=st.sampled_from(["cascade", "wait", "detach"]))
    def start_child(self, child: str, link: Link) -> None:
        self.say(self.record.child_started(ChildStarted(child=child, starts="record.started.v1"), link))

    @rule(child=st.sampled_from(CHILDREN), state=st.sampled_from(["completed", "compensated", "stuck", "foreign"]))
    def child_tells(self, child: str, state: Literal["completed", "compensated", "stuck", "foreign"]) -> None:
        if state != "completed":
            self.family.discard(child)
        self.say(self.record.child_ended(ChildEnded(child=child, state=state, reason="it snows"), "event"))

    @rule()
    def fail(self) -> None:
        self.say(self.record.fails(POLICY, "event", Refused.event_type))

    @rule()
    def complete(self) -> None:
        self.say(self.record.done(POLICY, "event"))

    @rule()
    def expire(self) -> None:
        self.say(self.record.expires(POLICY))

    @rule()
    def cancel(self) -> None:
        self.hear(CancelRequested(saga="s-1", by="ada"))

    @precondition(lambda self: self.asked is not None)
    @rule(fate=st.sampled_from(["undone", "void", "failed"]))
    def answer(self, fate: str) -> None:
        assert self.asked is not None
        asked, self.asked = self.asked.event, None
        told = {"effect": asked.effect, "effect_key": asked.effect_key, "agent": "a"}
        known = self.effect(asked.effect_key)
        assert known is not None
        if fate == "failed" or (fate == "undone" and not known.undoable):
            self.hear(UndoFailed(**told, error="out of order"))
        else:
            self.hear(EffectUndone(**told, happened=fate != "void" or not asked.unknown))

    @precondition(lambda self: self.asked is not None)
    @rule()
    def keep_silent(self) -> None:
        """Nobody answers, and the time for it is up."""
        assert self.asked is not None
        assert self.record.overdue(UNDO_WITHIN_S - 1) == []
        self.overdue.append(self.asked.event)
        self.asked = None
        self.say(self.record.overdue(UNDO_WITHIN_S))
        assert self.record.due_s is None

    @precondition(lambda self: self.overdue)
    @rule()
    def answer_late(self) -> None:
        """The answer comes after all, perhaps when it was asked for again."""
        asked = self.overdue.pop()
        known = self.effect(asked.effect_key)
        if known is None or not known.undoable or known.unknown != asked.unknown:
            return
        if self.asked is not None and self.asked.event.effect_key == asked.effect_key:
            self.asked = None
        self.hear(EffectUndone(effect=asked.effect, effect_key=asked.effect_key, agent="a"))

    @rule(decision=st.sampled_from(["retry", "skip", "resolve"]), key=st.sampled_from([None, *EFFECTS]))
    def decide(self, decision: str, key: str | None) -> None:
        for effect in self.record.effects:
            if effect.state == "failed" and key in (None, effect.key):
                self.allowed[effect.key] += decision == "retry"
        self.say(self.record.decided(UndoDecided(effect_key=key, decision=decision, by="ada")))

    @precondition(lambda self: self.heard)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """Something is heard again; not the answer to a request while the next one to the same effect is open."""
        fact = data.draw(st.sampled_from(self.heard))
        open_key = self.asked.event.effect_key if self.asked else None
        if not (isinstance(fact, EffectUndone | UndoFailed) and fact.effect_key == open_key):
            known = self.effect(fact.effect_key) if isinstance(fact, EffectDone) else None
            if known is not None:
                self.allowed[known.key] += known.unknown
            if isinstance(fact, RunCancelled):
                for status in fact.effects:
                    self.allowed[status.key] += self.effect(status.key) is None
            self.hear(fact)

    @invariant()
    def is_where_it_says(self) -> None:
        states = {effect.state for effect in self.record.effects}
        match self.record.phase:
            case "open" | "running":
                assert {effect.state for effect in self.record.effects if effect.link is None} <= {"done"}
                assert self.asked is None
            case "completed":
                assert self.record.parent or all(effect.link for effect in self.record.effects)
            case "aborting":
                waits = self.asked or self.family or [effect for effect in self.record.effects if effect.lasting]
                assert waits, "somebody has to answer, or it never ends"
                assert "failed" not in states
            case "stuck":
                assert "failed" in states, "there has to be something to decide about"
                assert all(effect.error for effect in self.record.effects if effect.state == "failed")
                assert [fact for fact in self.said if isinstance(fact, SagaStuck) and fact.reason]
            case "compensated":
                assert states <= {"undone", "void", "skipped", "over"}
                assert self.asked is None
                assert not self.family
                assert isinstance(self.said[-1], SagaCompensated)

    @invariant()
    def asks_for_nothing_twice(self) -> None:
        assert all(count <= self.allowed[key] for key, count in self.asks.items())
        assert sum(isinstance(fact, CancelRequested) for fact in self.said) <= 1
        assert sum(isinstance(fact, SagaCompleted) for fact in self.said) <= 1

    def teardown(self) -> None:
        """Time passes, everything works again, and a person decides: then it ends."""
        self.start("one")
        for _ in range(MOVES_MAX):
            if self.record.ended:
                break
            if self.record.phase == "stuck":
                self.decide("skip", None)
            elif self.asked is not None:
                self.answer("undone")
            elif self.family:
                self.child_tells(next(iter(self.family)), "compensated")
            elif self.record.phase == "aborting":
                lasting = [effect.key for effect in self.record.effects if effect.lasting]
                assert lasting, "somebody has to answer, or it never ends"
                self.child_tells(lasting[0], "completed")
            else:
                self.expire()
            self.is_where_it_says()
            self.asks_for_nothing_twice()
        assert self.record.ended
        if self.record.phase == "compensated":
            done = {fact.effect_key for fact in self.heard if isinstance(fact, EffectDone)}
            assert done <= {effect.key for effect in self.record.effects if effect.state in ("undone", "skipped")}


def test_a_saga_ends_whatever_is_heard_of_it_and_asks_for_each_undo_once() -> None:
    run_state_machine_as_test(Life, settings=settings(LIVES, phases=list(Phase)))


def test_a_saga_that_had_completed_before_its_parent_was_aborted_does_not_complete_again() -> None:
    life = Life()
    life.be_a_child()
    life.do(key="e3")
    life.start(event="one")
    life.complete()

    life.be_aborted(attempt=1)
    life.complete()

    life.asks_for_nothing_twice()
    assert life.record.phase == "stuck", "it is past a pivot"


def forget_what_comes_late(record: Record, fact: EffectDone) -> list[Event | Asked]:
    return [] if record.phase == "compensated" else take(record, fact)


def take_every_word_as_new(record: Record, fact: EffectDone) -> list[Event | Asked]:
    if record.phase != "completed":
        record.effects = [effect for effect in record.effects if effect.key != fact.effect_key]
    return take(record, fact)


take = Record.effect_done


@pytest.mark.parametrize("bug", [forget_what_comes_late, take_every_word_as_new])
def test_a_planted_bug_is_found(bug, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Record, "effect_done", bug)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Life, settings=settings(LIVES, max_examples=500, database=None))
