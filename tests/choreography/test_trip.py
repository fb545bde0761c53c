"""The trip example on a real server, with real processes that are killed: what is undone has left nothing behind."""

from pathlib import Path

import pytest
from examples.trip.account import plan
from examples.trip.campaign import campaign

ROWS = [
    ("nothing", 0),
    ("hiccup", 1),
    ("refused", 2),
    ("refused", 3),
    ("killed", 0),
    ("killed", 4),
    ("cancelled", 3),
    ("undo fails 1x", 0),
    ("undo fails 2x", 1),
    ("undo fails 3x", 2),
]
"""A small part of what `python -m examples.trip.campaign` tries."""

TRIPS = 12
SEED = 3
USER_LINES_MAX = 150

TRIP = Path(__file__).parents[2] / "examples" / "trip"


@pytest.mark.timeout(300)
async def test_every_trip_ends_whoever_is_killed_and_what_is_undone_nets_to_nothing(nats_url: str) -> None:
    account = await campaign(plan(TRIPS, SEED, ROWS), SEED, url=nats_url, deadline_s=30.0, kill_each_s=0.7)

    assert account.wrong == []
    assert len(account.kills) >= 2, "hardly anybody was killed, so nothing was proved"
    assert {"completed", "compensated"} <= {trip.outcome for trip in account.trips}
    happened = {trip.row for trip in account.trips if trip.happened}
    assert len(happened) > len(ROWS) / 2, f"only {happened} went wrong as planned"


def test_the_trip_is_little_code() -> None:
    files = [TRIP / "schemas.py", *(path for path in TRIP.glob("services/*/agent.py") if not path.parent.is_symlink())]

    lines = [line for file in files for line in file.read_text().splitlines() if line.strip()]

    assert len(files) == 4
    assert len(lines) < USER_LINES_MAX
