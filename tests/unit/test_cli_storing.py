"""Copies from the command line: taken, checked, refused."""

import asyncio
import json
from pathlib import Path

import pytest

from hocket.cli import main
from hocket.log.base import Write
from hocket.log.jetstream import connect


async def something(url: str, domain: str) -> None:
    async with connect(url, domain=domain, shards=2, max_bytes=1 << 26) as logs:
        for n in range(3):
            await logs[0].append([Write(f"{domain}.0.evt.order=2Eplaced=2Ev1.order-7.shop.o-{n}.0", b"{}")])


def test_a_copy_is_taken_and_checked_and_not_restored_over_what_is_there(
    nats_url: str, domain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(something(nats_url, domain))
    copies = tmp_path / "copies"
    copies.mkdir()
    place = ("--nats", nats_url)

    assert main.run(["backup", str(copies), "--json", "--domain", domain, *place]) == 0
    taken = json.loads(capsys.readouterr().out)
    assert (taken["messages"], taken["ends"]) == (3, [3, 0])

    assert main.run(["verify", str(copies), "--digest", taken["digest"]]) == 0
    assert main.run(["verify", str(copies), "--digest", "0" * 32]) == main.EXIT_BAD_NEWS
    assert main.run(["restore", str(copies), *place]) == main.EXIT_REFUSED
    assert "holds 3 messages already" in capsys.readouterr().err

    damaged = Path(taken["path"])
    damaged.write_bytes(damaged.read_bytes().replace(b'"text":"{}"', b'"text":"[]"', 2).replace(b"[]", b"{}", 1))
    assert main.run(["verify", str(damaged)]) == main.EXIT_BAD_NEWS
    said = capsys.readouterr().out
    assert "order-7" in said
    assert "o-1.0" in said
    assert main.run(["restore", str(damaged), *place]) == main.EXIT_REFUSED
    assert main.run(["verify", __file__]) == main.EXIT_REFUSED
