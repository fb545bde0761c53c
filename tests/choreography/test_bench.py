"""The measurements, as small as they can be: they come to their end, and their figures are of what was asked for."""

import pytest

from hocket.bench import chain, parked, poison, poison_ends, steps


def quiet(text: str) -> None:
    pass


async def test_the_chain_is_measured_beside_plain_publishes() -> None:
    measured = await chain.measure(sync="2m", levels=((1, 10), (5, 50)), coordinator=chain.coordinator(), say=quiet)

    systems = (chain.HOCKET, chain.UNDER_POLICY, chain.BASELINE, chain.UNORDERED)
    assert {(row.system, row.in_flight) for row in measured.levels} == {(name, n) for name in systems for n in (1, 5)}
    assert measured.as_json()["latency_ratio"] > 0
    assert measured.as_json()["policy_rate_ratio"] > 0


async def test_steps_are_measured_beside_plain_publishes() -> None:
    measured = await steps.measure(sync="2m", runs=3, together=10, say=quiet)

    assert measured.as_json()["cost_ratio"] == measured.step_ms / measured.publish_ms > 0
    assert measured.as_json()["rate_ratio"] == measured.per_s * measured.step_ms / 1000 > 0


async def test_waiting_runs_and_timers_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parked, "IDLE_S", 0.1)
    monkeypatch.setattr(parked, "SETTLE_S", 0.1)

    measured = await parked.measure(sync="2m", runs=100, timers=50, say=quiet)

    assert (measured.waiting.answers, measured.waiting.doubled) == (100, 0)
    assert [(stage.waiting, stage.came) for stage in measured.waiting.stages] == [(1, 1), (10, 9), (100, 90)]
    assert measured.waiting.stages[-1].disk_bytes > 0
    assert [(timers.killed, timers.rang, timers.doubled, timers.early) for timers in measured.timers] == [
        (False, 50, 0, 0),
        (True, 50, 0, 0),
    ]
    assert measured.timers[1].rang_before_kill < 50, "nothing was left to do when it was killed"


async def test_a_stream_is_measured_while_others_go_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poison_ends, "TAKEOVERS", 1)
    monkeypatch.setattr(poison_ends, "ENDINGS", ("exits",))

    measured = await poison.measure(sync="2m", seconds=0.3, loads_per_s=[100], say=quiet)

    assert (measured.events, measured.poisoned, measured.dead) == (30, 6, 6)
    assert measured.as_json()["ratio"] > 0
    [ending] = measured.endings
    assert (ending.kind, ending.events, ending.ends, ending.dead) == ("exits", 30, 3, 1)
    assert measured.as_json()["endings"][0]["ratio"] == ending.ratio > 0
    assert len(measured.takeovers_s) == 1
