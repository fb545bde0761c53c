"""What the embedded server promises: it is there, it comes back, and it goes with its owner."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from tests.contract.worlds import surely, until

from hocket.errors import Unavailable
from hocket.log.base import Expect, Write
from hocket.log.jetstream import connect
from hocket.log.server import EmbeddedServer, ServerSettings, find_binary, server_config


async def test_a_server_starts_on_a_free_port_and_ends_with_its_block(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "one") as one, EmbeddedServer(tmp_path / "two") as two:
        pids = [one.pid, two.pid]
        assert one.url != two.url
        assert all(psutil.pid_exists(pid) for pid in pids)

    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_what_is_stored_outlives_the_server(tmp_path: Path, domain: str) -> None:
    async with EmbeddedServer(tmp_path) as server, connect(server.url, domain=domain) as [log]:
        await log.append([Write(f"{domain}.0.a", b"x")])

    async with EmbeddedServer(tmp_path) as server, connect(server.url, domain=domain, create=False) as [log]:
        newest = await log.last(f"{domain}.0.a")

    assert newest
    assert newest.data == b"x"


async def test_a_temporary_store_is_removed() -> None:
    async with EmbeddedServer(None) as server:
        store = server.log_file.parent
        assert store.exists()

    assert not store.exists()


async def test_a_killed_server_comes_back_on_the_same_port(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        before = (server.url, server.pid)
        await server.kill()
        await server.restart()

        assert server.url == before[0]
        assert server.pid != before[1]


async def test_a_supervised_server_is_started_again(tmp_path: Path, domain: str) -> None:
    async with EmbeddedServer(tmp_path) as server, asyncio.TaskGroup() as tasks:
        tasks.create_task(server.supervise())
        async with connect(server.url, domain=domain) as [log]:
            for i in range(1, 4):
                os.kill(server.pid, signal.SIGKILL)
                subject = f"{domain}.0.a.{i}"
                assert await surely(log, Write(subject, b"", Expect(subject, 0))) == i
        await server.stop()


async def test_a_server_that_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        (tmp_path / "jetstream").rename(tmp_path / "moved")
        (tmp_path / "jetstream").write_text("no directory")
        supervising = asyncio.ensure_future(server.supervise())
        os.kill(server.pid, signal.SIGKILL)

        async with asyncio.timeout(30):
            with pytest.raises(Unavailable, match="died"):
                await supervising


async def test_a_store_is_used_by_one_server_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hocket.log.server.LOCK_S", 0.1)

    async with EmbeddedServer(tmp_path):
        with pytest.raises(Unavailable, match="in use by another process"):
            async with EmbeddedServer(tmp_path):
                pass


async def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"(?s)at its start.*no_such_option"):
        async with EmbeddedServer(tmp_path, extra="no_such_option: 1"):
            pass


async def test_a_paused_server_still_stops(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        server.pause()
        pid = server.pid

    assert not psutil.pid_exists(pid)


OWNER = """
import asyncio, sys
from pathlib import Path
from hocket.log.server import EmbeddedServer

async def main():
    async with EmbeddedServer(Path(sys.argv[1])) as server:
        print(server.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a child die with its parent")
async def test_a_server_dies_with_its_killed_owner_and_lets_go_of_the_store(tmp_path: Path) -> None:
    command = (sys.executable, "-c", OWNER, str(tmp_path))
    owner = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert owner.stdout
    pid = int(await owner.stdout.readline())
    owner.kill()
    await owner.wait()

    async with EmbeddedServer(tmp_path) as server:
        assert server.pid != pid

    async def gone() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    await until(gone)


def test_the_binary_may_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = find_binary()
    monkeypatch.setenv("NATS_SERVER_BIN", str(found))
    assert find_binary() == found

    monkeypatch.setenv("NATS_SERVER_BIN", str(tmp_path / "nothing"))
    with pytest.raises(Unavailable, match="NATS_SERVER_BIN"):
        find_binary()


def test_a_configuration_quotes_its_paths() -> None:
    text = server_config(ServerSettings(Path('/tmp/a "b" c'), port=4222, sync="2m", max_bytes=1 << 30))

    assert 'store_dir: "/tmp/a \\"b\\" c/jetstream", sync_interval: 2m, max_file_store: 1073741824' in text
    assert "listen: 127.0.0.1:4222\n" in text
