"""A whole system: its server may die, a second one is refused, and other commands find it by its file."""

import os
import signal
from pathlib import Path

import pytest
from tests.choreography.folders import ask, make

from hocket.client import connect
from hocket.errors import UsageError
from hocket.host.place import Place, Running, find_running, from_environment, log_left_here, running_here
from hocket.host.system import ServerStarted, system


async def test_a_system_survives_its_server_and_is_found_while_it_runs(tmp_path: Path) -> None:
    run_file = tmp_path / "run.json"
    (tmp_path / "services").mkdir()
    make(tmp_path / "services", "ada")
    told: list[object] = []

    async with system(tmp_path / "services", data=tmp_path / "data", run_file=run_file, tell=told.append) as fleet:
        await fleet.ready(timeout_s=30)
        before = fleet.pids
        found = find_running(run_file)
        assert found is not None
        assert found.server is not None
        with pytest.raises(UsageError, match=f"as process {os.getpid()}"):
            async with system(tmp_path / "services", data=tmp_path / "other", run_file=run_file):
                pass
        async with connect(found.nats) as bus:
            first = await ask(bus, "ada", "before")
            os.kill(found.server, signal.SIGKILL)
            second = await ask(bus, "ada", "after")
        after = fleet.pids

    assert (first, second) == ("Hello from ada, before!", "Hello from ada, after!")
    assert before == after == found.services
    assert find_running(run_file) is None
    assert not run_file.exists()
    assert [change.again for change in told if isinstance(change, ServerStarted)][:1] == [False]


def test_a_file_whose_writer_is_gone_is_not_believed(tmp_path: Path) -> None:
    dead = Running(pid=2**22 + 1, nats="nats://127.0.0.1:4222", domain="hocket", services_dir="/x")
    dead.write(tmp_path / "run.json")

    found = find_running(tmp_path / "run.json")

    assert found is None


def test_the_system_of_up_comes_before_one_in_a_folder_below(tmp_path: Path) -> None:
    below = Running(os.getpid(), "nats://127.0.0.1:1", "hocket", "/x")
    above = Running(os.getpid(), "nats://127.0.0.1:2", "hocket", "/x")

    nothing = running_here(tmp_path)
    below.write(tmp_path / "demo" / "run.json")
    one = running_here(tmp_path)
    above.write(tmp_path / "run.json")
    both = running_here(tmp_path)

    assert (nothing, one, both) == (None, below, above)


def test_of_the_logs_that_were_left_the_one_started_last_counts(tmp_path: Path) -> None:
    nothing = log_left_here(tmp_path)
    for age_s, folder in ((10, tmp_path / "demo"), (20, tmp_path)):
        folder.mkdir(exist_ok=True)
        (folder / "nats-server.conf").touch()
        os.utime(folder / "nats-server.conf", (1000 - age_s, 1000 - age_s))

    assert (nothing, log_left_here(tmp_path)) == (None, tmp_path / "demo")


def test_the_file_is_for_its_owner_only_and_says_what_was_written(tmp_path: Path) -> None:
    running = Running(os.getpid(), "nats://a:b@127.0.0.1:4222", "hocket", "/x", ready=True, services={"ada": 7})

    running.write(tmp_path / "deep" / "run.json")

    assert find_running(tmp_path / "deep" / "run.json") == running
    assert (tmp_path / "deep" / "run.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"pid": 1}', b"\xff"])
def test_a_file_that_is_none_is_not_believed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)

    assert find_running(tmp_path / "run.json") is None


def test_a_place_travels_through_the_environment() -> None:
    place = Place("nats://x:1", domain="shop", shards=8, replicas=3)

    assert from_environment(place.to_environment()) == place
    assert from_environment(Place("nats://x:1").to_environment()) == Place("nats://x:1")
    assert from_environment({}) is None
    assert from_environment({"HOCKET_NATS": "a", "HOCKET_SHARDS": ""}, url="b") == Place("b")


@pytest.mark.parametrize("number", ["0", "-1", "eight", "\uff11"])
def test_a_number_of_shards_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(UsageError, match="HOCKET_SHARDS"):
        from_environment({"HOCKET_NATS": "x", "HOCKET_SHARDS": number})
