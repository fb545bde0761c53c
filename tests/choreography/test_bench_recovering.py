"""How work goes on, measured as small as it can be: what was asked for happens, and the figures are of that."""

import pytest

from hocket.bench import activation, recovery, replicas


def quiet(text: str) -> None:
    pass


async def test_actors_are_woken_out_of_the_log_and_out_of_memory() -> None:
    measured = await activation.measure(sync="2m", actors=20, times=(1, 3), say=quiet)

    assert [(row.existing, row.cold, row.right) for row in measured.rounds] == [
        (20, True, 20),
        (20, False, 20),
        (60, True, 20),
        (60, False, 20),
    ]
    assert measured.as_json()["cold_ratio"] > 0
    assert measured.as_json()["growth_ratio"] > 0


async def test_the_chain_is_measured_on_replicas_whose_leader_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "WARM_UP", 5)

    measured = await replicas.measure(sync="2m", levels=((1, 3), (5, 10)), in_flight=3, around_s=0.3, say=quiet)

    assert {(row.system, row.in_flight) for row in measured.levels} == {
        (system, in_flight) for system in (replicas.ONE, replicas.THREE) for in_flight in (1, 5)
    }
    failover = measured.failover
    assert (failover.lost, failover.doubled) == (0, 0)
    assert failover.before.sagas + failover.after.sagas <= failover.started
    assert failover.after.sagas > 0
    assert measured.as_json()["latency_ratio"] > 0
    assert measured.as_json()["rate_ratio"] > 0


async def test_an_owner_is_killed_with_and_without_one_that_stands_by() -> None:
    measured = await recovery.measure(sync="2m", runs=(5,), kills=1, say=quiet)

    assert [(row.runs, row.standby, len(row.took_s)) for row in measured.rows] == [(5, False, 1), (5, True, 1)]
    assert measured.as_json()["rows"][0]["ratio"] == measured.rows[0].took_s[0] / measured.plain_s > 0
