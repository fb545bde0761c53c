"""What is measured by the tens of thousands, with a few: it comes to its end, and its figures are of what was asked."""

from hocket.bench import chain, growth, ingest, replay, sagas


def quiet(text: str) -> None:
    pass


async def test_publishing_is_measured_beside_plain_publishes() -> None:
    measured = await ingest.measure(sync="2m", events=100, clients=2, in_flight=50, say=quiet)

    assert [(row.system, row.clients, row.events) for row in measured.rows] == [
        (ingest.HOCKET, 1, 100),
        (ingest.HOCKET, 2, 100),
        (ingest.BASELINE, 1, 20),
    ]
    assert measured.as_json()["rate_ratio"] == measured.rows[0].per_s / measured.rows[2].per_s > 0


async def test_reading_from_the_first_event_on_is_measured_beside_a_plain_consumer() -> None:
    measured = await replay.measure(sync="2m", events=100, say=quiet)

    assert [(row.what, row.events) for row in measured.rows] == [
        (replay.FOLD, 100),
        (replay.REBUILD, 20),
        (replay.LATE, 100),
        (replay.BASELINE, 100),
    ]
    assert measured.as_json()["rate_ratio"] > 0


async def test_sagas_are_measured_to_their_end_or_their_undoing() -> None:
    coordinator = chain.coordinator()
    assert coordinator is not None

    measured = await sagas.measure(sync="2m", sagas=20, in_flight=10, coordinator=coordinator, say=quiet)

    assert (measured.completed.sagas, measured.compensated.sagas) == (18, 2)
    assert (measured.effects, measured.undone) == (80, 8)
    assert measured.as_json()["publishes_ratio"] > 0


async def test_the_same_is_measured_with_longer_and_longer_logs() -> None:
    measured = await growth.measure(sync="2m", events=10, sagas=10, say=quiet)

    assert [size.events for size in measured.sizes] == [10, 100, 1000]
    assert measured.as_json()["read_bend"] == measured.sizes[-1].read_per_s / measured.sizes[0].read_per_s > 0
