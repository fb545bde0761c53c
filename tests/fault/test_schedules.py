"""Seeded lives of a small system: crashes at every named point, zombies, lost and late answers.

HOCKET_SEEDS sets how many; a thousand take two and a half minutes of one core.
"""

import os

import pytest
from tests.fault.simulation import Provoked, Simulation

from hocket.testing import run_virtual

SEEDS = int(os.environ.get("HOCKET_SEEDS", "200"))
SEEDS_PER_TEST = 50


def live(seeds: range) -> tuple[list[str], Provoked]:
    found: list[str] = []
    total = Provoked()
    for seed in seeds:
        simulation = Simulation(seed)
        found += run_virtual(simulation.run())
        for name in ("kills", "tenures", "executions", "resumptions", "cleanups"):
            setattr(total, name, getattr(total, name) + getattr(simulation.provoked, name))
    return found, total


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_no_schedule_loses_doubles_halves_or_reorders_anything(first: int) -> None:
    violations, provoked = live(range(first, first + SEEDS_PER_TEST))

    assert violations == []
    assert provoked.kills > 3 * SEEDS_PER_TEST, "too little was provoked for the run to prove anything"
    assert provoked.executions > 23 * SEEDS_PER_TEST, "nothing was ever handled again"
    assert provoked.resumptions > 6 * SEEDS_PER_TEST, "no run ever went on"
    assert provoked.cleanups > SEEDS_PER_TEST // 4, "hardly anything was ever cancelled"


def test_a_seed_replays_the_same_life() -> None:
    first, second = Simulation(7), Simulation(7)

    run_virtual(first.run())
    run_virtual(second.run())

    assert [(m.subject, m.data) for m in first.server.history] == [(m.subject, m.data) for m in second.server.history]
