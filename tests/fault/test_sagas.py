"""Sagas whose agents and coordinator die: each ends, and what is compensated has left nothing outside.

Run `python -m tests.fault.simulated_sagas` for thousands of them, as a table.
"""

import asyncio

import pytest
from tests.fault.saga_world import Crash, World
from tests.fault.simulated_sagas import campaign
from tests.fault.trips import DESKS, FAULTS, LINKS, MEMORY

from hocket.crashpoints import POINTS
from hocket.engine.journal import Journals
from hocket.engine.parts import Parts
from hocket.saga.record import COORDINATOR, Record
from hocket.testing import run_virtual

SAGAS = 40
SEEDS = (1, 1001)

ONCE = POINTS[:3]
"""Points that a process comes to when it begins."""

SELDOM = {"before cursor flush", "after cursor flush", "before dead letter", "before release", "after release"}
"""Points that no life of these sagas leads to for certain."""


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_fails_and_whoever_dies_each_saga_ends_and_leaves_nothing_undone(seed: int) -> None:
    total = campaign(SAGAS, seed)

    assert total.violations == []
    assert sum(total.deaths.values()) > SAGAS / 10, "too few died for the run to prove anything"
    assert total.corrected > SAGAS / 4, "hardly anything had been remembered that was undone"
    assert {link for link, _, _ in total.families} == set(LINKS)
    assert {fault for _, fault, _ in total.ends} == set(FAULTS)
    assert {end for _, _, end in total.ends} >= {"completed", "compensated", "stuck, then compensated"}


@pytest.mark.parametrize("point", POINTS)
def test_everybody_dies_at_the_same_point(point: str) -> None:
    count = 1 if point in ONCE else 2

    world = World(
        POINTS.index(point), sagas=5, crashes=[Crash(name, point, count, 0.0) for name in (*DESKS, COORDINATOR, MEMORY)]
    )

    violations = run_virtual(world.live())

    assert violations == []
    assert world.deaths or point in SELDOM


def forget_what_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Record.effect_done

    def forgetful(self: Record, fact):
        return take(self, fact) if self.phase in ("open", "running") else []

    monkeypatch.setattr(Record, "effect_done", forgetful)


def tell_of_effects_in_an_append_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    record = Journals.record

    async def apart(self: Journals, work, entries, effect=None):
        stored = await record(self, work, entries)
        if effect:
            await asyncio.sleep(1.0)
            await record(self, work, entries, effect)
        return stored

    monkeypatch.setattr(Journals, "record", apart)


def let_children_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Record, "child_started", lambda self, fact, link: [])


def note_no_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parts, "note", lambda self, work: [])


PLANTS = [
    (forget_what_comes_late, 0),
    (tell_of_effects_in_an_append_of_its_own, 11),
    (note_no_parts, 0),
    (let_children_be, 4),
]
"""Each with a seed that soon finds it."""


@pytest.mark.parametrize(("plant", "seed"), PLANTS)
def test_a_planted_bug_is_found(plant, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)

    found = (violation for n in range(20) for violation in run_virtual(World(seed + n).live()))

    assert any("is compensated, and" in violation for violation in found)
