"""The comparison, as small as it can be: hocket's row, that of a system made here, and two that are left out."""

import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from hocket.bench.compare import comparison, hocket, postgres
from hocket.bench.compare.environment import Environment
from hocket.bench.compare.system import Place, Started, System

PROGRAM = """
import fake, json, sys
print(json.dumps({"versions": {"fake": fake.VERSION}}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    print(json.dumps({"sagas": 2 * order["in_flight"], "took_s": 1, "p50_s": 0.1, "p99_s": 0.2}), flush=True)
"""


def quiet(text: str) -> None:
    pass


@asynccontextmanager
async def nothing(place: Place) -> AsyncIterator[Started]:
    yield Started({})


def wheel(folder: Path) -> Path:
    """A package of one module."""
    path, about = folder / "fake-1.0-py3-none-any.whl", "fake-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("fake.py", "VERSION = '1.0'\n")
        file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: fake\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    return path


async def test_hocket_is_measured_and_a_system_that_is_not_here_says_why(tmp_path: Path) -> None:
    ended = System("ended", "Ended", "langgraph_saga.py", "", nothing)
    no_server = System("no-server", "No server", "langgraph_saga.py", "", postgres.started)

    measured = await comparison.measure(
        [no_server, ended, hocket.CHAIN],
        installed=tmp_path,
        postgres=tmp_path,
        seconds=0.2,
        in_flight=(1, 5),
        say=quiet,
    )

    first, second, ours = measured.systems
    assert (first.rows, first.left_out) == ([], f"no PostgreSQL server in {tmp_path}")
    assert second.left_out is not None
    assert "its program ended: " in second.left_out
    assert "No module named 'langgraph'" in second.left_out
    assert ours.left_out is None
    assert [row.in_flight for row in ours.rows] == [1, 5]
    assert all(row.sagas > 0 and row.p99_ms >= row.p50_ms > 0 for row in ours.rows)
    assert ours.versions["nats-server"].startswith("2.")


async def test_a_system_is_installed_once_into_a_folder_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    system = System("fake", "Fake", str(script), "nothing", nothing, Environment("fake", (str(wheel(tmp_path)),)))
    said: list[str] = []

    again = [
        await comparison.measure(
            [system], installed=tmp_path / "installed", seconds=0.1, in_flight=(3,), say=said.append
        )
        for _ in range(2)
    ]

    assert [[(row.in_flight, row.per_s, row.p99_ms) for row in c.systems[0].rows] for c in again] == [[(3, 6, 200)]] * 2
    assert [c.systems[0].versions for c in again] == [{"fake": "1.0"}] * 2
    assert sum("installing" in text for text in said) == 1
    assert "fake" not in sys.modules


async def test_the_ratios_are_those_of_hockets_four_agents() -> None:
    rows = [comparison.Row("hocket", load, 10, per_s, 1, 1, None) for load, per_s in ((1, 100), (50, 300))]
    ours = comparison.Measured("hocket", "hocket", "", {}, rows)
    other = comparison.Measured("other", "Other", "", {}, [replace(rows[1], system="other", per_s=60)])

    measured = comparison.Comparison(1, [ours, other])

    assert measured.ratios() == {"other": {50: 5}}
    assert measured.as_json()["hocket_times"] == {"other": {"50": 5}}
