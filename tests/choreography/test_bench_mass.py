"""What is measured by the tens of thousands, with a few: it comes to its end, and its figures are of what was asked."""

from hocket.bench import ingest


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
