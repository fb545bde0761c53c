"""A campaign of faults on real processes that is short enough for the suite; tests/fault/campaign is the long one."""

import asyncio
import os
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).parents[2]
KINDS = ("kill -9 a worker", "kill -9 the server, restart", "swallow an ack")


@pytest.mark.timeout(240)  # half a minute by itself; it starts fifteen processes, and waits for what waits for people
async def test_a_short_campaign_loses_nothing_and_writes_its_page(tmp_path: Path) -> None:
    only = [part for kind in KINDS for part in ("--only", f"={kind}")]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fault.campaign", "--minutes", "0.15", "--seed", "3", *only),
        *("--out", str(tmp_path / "out"), "--appends", "30", "--sagas", "2", "--timers", "1", "--warm-s", "1"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "bus", ROOT / "schemas", ROOT)))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    said, progress = await process.communicate()

    [result] = [orjson.loads(file.read_bytes()) for file in (tmp_path / "out").glob("*.json")]
    assert process.returncode == 0, progress.decode()[-4000:]
    assert (result["violations_total"], result["vacuous"]) == (0, [])
    assert {kind for kind, row in result["faults"].items() if row["struck"]} >= set(KINDS)
    assert said.decode() == next((tmp_path / "out").glob("*.md")).read_text()
