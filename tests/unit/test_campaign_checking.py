"""The checker of the fault campaign: it finds what is wrong, and calls nothing wrong that is only late."""

from collections.abc import Sequence
from typing import Any

import pytest
from tests.fault.campaign.checking import LOST_S, REST_S, SAGA_S, SETTLE_S, Account, Fact, Tour

KEY, SAGA = "list-1", "trip-1"


class Story:
    """A log that grows by a message a second, and what clients say beside it."""

    def __init__(self) -> None:
        self.account = Account()
        self.seq = 0

    def ask(self, *names: str) -> None:
        for name in names:
            self.account.asked("append", KEY, name, self.account.now_s)

    def ack(self, name: str, seq: int) -> None:
        self.account.answered(name, "append", KEY, seq)

    def read(self, type_: str, id_: str, agent: str, data: Any = None, key: str = KEY) -> None:
        self.seq += 1
        self.pass_s(1.0)
        self.account.read_s = self.account.now_s
        self.account.fact(
            Fact(self.seq, "evt", type_, key, agent, id_, None, key, data or {}, self.account.now_s),
        )

    def stored(self, name: str) -> None:
        self.read("campaign.appended.v1", name, "writers")

    def handled(self, names: Sequence[str], *, by: str = "one") -> None:
        for agent, said in (("counter", "applied"), ("mirror", "mirrored")):
            known = self.account.keys[KEY].states[agent]
            for name in names:
                known = [*known, name]
                self.account.state(agent, KEY, known, self.seq)
                data = {"of": name, "place": len(known), "by": by}
                self.read(f"campaign.{said}.v1", f"{said} {name}", agent, data)

    def pass_s(self, seconds: float) -> None:
        self.account.now_s += seconds

    def close(self) -> None:
        self.pass_s(0.1)
        self.account.closed(KEY, self.account.now_s)

    def go_on_reading(self, seconds: float) -> None:
        self.pass_s(seconds)
        self.account.read_s = self.account.now_s

    def sweep(self, *waits: str) -> list[str]:
        self.account.sweep(self.seq, set(waits))
        return [violation.invariant for violation in self.account.violations]


@pytest.fixture
def story() -> Story:
    told = Story()
    told.ask("a", "b")
    told.ack("a", 1)
    told.ack("b", 2)
    told.stored("a")
    told.stored("b")
    return told


def test_a_key_of_which_all_was_done_once_and_in_order_is_forgotten(story: Story) -> None:
    story.handled(["a", "b"])
    story.close()
    story.go_on_reading(REST_S + 1)

    assert story.sweep() == []
    assert not story.account.keys


@pytest.mark.parametrize(
    ("handled", "invariants"),
    [
        (["a"], ["I3", "I3"]),
        (["a", "b", "b"], ["I3", "I3"]),
        (["b", "a"], ["I4", "I4"]),
        (["a", "b", "c"], ["I2", "I2"]),
    ],
    ids=["missing", "twice", "out of order", "foreign"],
)
def test_what_is_wrong_with_a_list_is_found(story: Story, handled: list[str], invariants: list[str]) -> None:
    story.handled(handled)
    story.close()
    story.go_on_reading(REST_S + 1)

    assert story.sweep() == invariants


def test_what_was_acked_and_is_not_in_the_log_is_found(story: Story) -> None:
    story.ask("c")
    story.ack("c", 3)
    story.handled(["a", "b"])  # the log goes on past 3, and c is not there

    assert story.sweep() == ["I1"]


def test_what_comes_after_a_key_was_over_is_found(story: Story) -> None:
    story.handled(["a", "b"])
    story.close()
    story.go_on_reading(REST_S + 1)
    story.sweep()
    story.read("campaign.applied.v1", "again", "counter", {"of": "b", "place": 3, "by": "one"})

    assert story.sweep() == ["I3"]


def test_a_key_is_not_judged_while_the_log_cannot_be_read(story: Story) -> None:
    story.ask("c", "d")
    story.ack("c", story.seq + 5)
    story.account.refused("d", "OutcomeUnknown", 1.0, 15.0, typed=True)
    story.handled(["a", "b"])
    story.close()
    story.pass_s(10 * REST_S)

    assert story.sweep() == []

    story.stored("c")
    story.stored("d")
    story.handled(["c", "d"])
    story.go_on_reading(REST_S + 1)

    assert story.sweep() == []
    assert not story.account.keys


def test_what_waits_for_an_agent_is_waited_for_but_not_for_ever(story: Story) -> None:
    story.close()
    story.go_on_reading(REST_S + 1)

    assert story.sweep(KEY) == []

    story.go_on_reading(LOST_S)

    assert story.sweep(KEY) == ["I3", "I3"]


def test_a_state_that_forgets_is_found(story: Story) -> None:
    story.handled(["a", "b"])
    story.account.state("counter", KEY, ["a"], story.seq)

    assert story.sweep() == ["I5"]


def test_what_a_process_writes_that_was_superseded_is_found(story: Story) -> None:
    story.account.claim("counter", "one", released=False)
    story.account.claim("counter", "two", released=False)
    story.read("campaign.applied.v1", "late", "counter", {"of": "a", "place": 1, "by": "one"})

    assert story.sweep() == ["I5"]


@pytest.mark.parametrize(
    ("end", "standing", "right"),
    [
        ("completed", (0, 1), True),
        ("completed", (0,), False),
        ("compensated", (), True),
        ("compensated", (1,), False),
    ],
)
def test_what_stands_outside_is_held_against_how_a_saga_ended(end: str, standing: Sequence[int], right: bool) -> None:
    story = Story()
    tour = story.account.tours[SAGA] = Tour(2, 0.0, stored=True)
    for n in standing:
        story.account.deed("book", SAGA, n, f"key-{n}", changed=True)
    story.read(f"hocket.saga.{end}.v1", "end", "coordinator", key=SAGA)
    story.pass_s(SETTLE_S + 1)
    story.sweep()
    story.pass_s(SAGA_S)

    assert tour.end == end
    assert story.sweep() == ([] if right else ["I6"])


def test_an_effect_that_took_effect_twice_is_found() -> None:
    story = Story()
    story.account.deed("book", SAGA, 0, "key", changed=True)
    story.account.deed("book", SAGA, 0, "key", changed=False)
    assert story.sweep() == []

    story.account.deed("book", SAGA, 0, "key", changed=True)
    assert story.sweep() == ["I9"]


def test_a_refusal_that_comes_late_or_is_untrue_is_found(story: Story) -> None:
    story.ask("c")
    story.account.refused("c", "Unavailable", 17.7, 15.0, typed=True)
    story.stored("c")

    assert story.sweep() == ["I12", "I12"]
