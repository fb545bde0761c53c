"""The measurements, as small as they can be: they come to their end, and their figures are of what was asked for."""

from hocket.bench import chain, steps


def quiet(text: str) -> None:
    pass


async def test_the_chain_is_measured_beside_plain_publishes() -> None:
    measured = await chain.measure(sync="2m", levels=((1, 10), (5, 50)), say=quiet)

    assert {(row.system, row.in_flight) for row in measured.levels} == {
        (system, in_flight) for system in (chain.HOCKET, chain.BASELINE, chain.UNORDERED) for in_flight in (1, 5)
    }
    assert measured.as_json()["latency_ratio"] > 0


async def test_steps_are_measured_beside_plain_publishes() -> None:
    measured = await steps.measure(sync="2m", runs=3, together=10, say=quiet)

    assert measured.as_json()["cost_ratio"] == measured.step_ms / measured.publish_ms > 0
    assert measured.as_json()["rate_ratio"] == measured.per_s * measured.step_ms / 1000 > 0
