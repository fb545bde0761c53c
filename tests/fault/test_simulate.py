"""Small worlds under blows, held against every promise; and the checks themselves, held against planted bugs."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.fault import simulate
from tests.fault.checks import vacuous, violations
from tests.fault.history import History
from tests.fault.planted import PLANTS, Plant, caught
from tests.fault.world import SCENES, Blow, lived, plan

SEEDS = 25
LOOKED_AT_MAX = 40
"""Seeds of a planted bug's scene from the first one known to show it: the engine may have moved since."""


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_no_world_breaks_a_promise() -> None:
    found = simulate.survey(range(SEEDS))

    assert found.broken == []
    assert found.vacuous < SEEDS * simulate.VACUOUS_MAX
    assert sum(found.struck.values()) > 3 * SEEDS, "too little struck for the worlds to prove anything"


@pytest.mark.parametrize("bug", PLANTS, ids=[bug.name for bug in PLANTS])
def test_a_planted_bug_is_found_by_the_promise_that_it_breaks(bug: Plant) -> None:
    seeds = (seed for seed in range(bug.first, bug.first + LOOKED_AT_MAX * len(SCENES)))

    seed, how = caught(bug, seeds)

    assert seed is not None, f"nobody noticed: {bug.name}"
    assert how.startswith(bug.invariant)


def test_a_world_is_the_same_again() -> None:
    (first, seen), (_, again) = lived(21), lived(21)

    assert seen.stored == again.stored
    assert [op.end for op in seen.operations] == [op.end for op in again.operations]
    assert seen.trouble == again.trouble
    assert list(simulate.traced(first, seen)), "there is nothing to show"


def test_blows_that_are_not_needed_are_left_out() -> None:
    needed = plan(5)[1]

    def breaks(blows: tuple[Blow, ...]) -> bool:
        return needed in blows

    assert simulate.shrunk(plan(5), breaks) == (needed,)


def test_a_world_in_which_nothing_struck_proves_nothing() -> None:
    _, history = lived(0, ())

    assert violations(history) == []
    assert vacuous(history) == "no fault fell while anything was in hand"


def test_a_campaign_in_which_a_fault_never_struck_proves_nothing() -> None:
    found = simulate.survey(range(1))
    found.worlds["counting"] = 1000

    assert "never struck" in (found.idle or "")


@pytest.mark.parametrize(
    ("gone", "loss"),
    [(range(2), "lost prefix"), (range(4, 6), "lost middle"), (range(8, 10), "lost postfix")],
)
def test_a_loss_is_told_by_its_place(gone: range, loss: str) -> None:
    _, history = lived(0, ())
    acked = list(dict.fromkeys(operation.event_id for operation in history.operations))

    cut = without(history, {acked[i] for i in gone})

    assert [v.loss for v in violations(cut) if v.invariant == "I1"] == [loss]


def without(history: History, lost: set[str]) -> History:
    """The same history as if the log had forgotten some events."""
    kept = [each for each in history.stored if not any(f".test.{name}." in each.message.subject for name in lost)]
    return replace(history, stored=kept, operations=list({op.event_id: op for op in history.operations}.values()))
