"""The trip example on a real server, with real processes that are killed: what is undone has left nothing behind."""

from pathlib import Path

import pytest
from examples.trip.campaign import FAULTS, campaign

TRIPS = 18
SEED = 3
USER_LINES_MAX = 150

TRIP = Path(__file__).parents[2] / "examples" / "trip"


@pytest.mark.timeout(300)
async def test_every_trip_ends_whoever_is_killed_and_what_is_undone_nets_to_nothing(nats_url: str) -> None:
    report = await campaign(TRIPS, SEED, url=nats_url, deadline_s=20.0)

    assert report.wrong == []
    assert sum(report.kills.values()) >= 2, "hardly anybody was killed, so nothing was proved"
    assert {"completed", "compensated"} <= {trip.outcome for trip in report.trips}
    assert len({trip.fault for trip in report.trips}) > len(FAULTS) / 2


def test_the_trip_is_little_code() -> None:
    files = [TRIP / "schemas.py", *(path for path in TRIP.glob("services/*/agent.py") if not path.parent.is_symlink())]

    lines = [line for file in files for line in file.read_text().splitlines() if line.strip()]

    assert len(files) == 4
    assert len(lines) < USER_LINES_MAX
