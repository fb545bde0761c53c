"""Services that a nursery bears are processes like any other: killed, mended, and gone with whoever started them."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest
from tests.choreography.folders import CODE, ask, make

from hocket.client import Bus
from hocket.host.nursery import AVAILABLE, Nursery
from hocket.host.restarts import Restarts
from hocket.host.supervisor import Change, Ended, Failed, Fleet, Started

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="a nursery needs Linux")


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def runs(pid: int) -> bool:
    """Whether a process lives; one that has lost its parent may stay in the table when it has ended."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_each_service_is_a_process_of_its_own_with_its_own_name_session_and_output(
    services: Path, nats_url: str, domain: str, bus: Bus, tmp_path: Path
) -> None:
    make(services, "ada", code=f"print('ada', flush=True)\n{CODE}")
    make(services, "bob")

    async with (
        Nursery() as nursery,
        Fleet(services, url=nats_url, domain=domain, nursery=nursery, output=tmp_path / "output") as fleet,
    ):
        await fleet.ready(timeout_s=30)
        pids = fleet.pids
        answers = [await ask(bus, name, "you") for name in ("ada", "bob")]
        names = [name_of(pid) for pid in pids.values()]
        sessions = [os.getsid(pid) for pid in pids.values()]
        parents = {psutil.Process(pid).ppid() for pid in pids.values()}
        assert nursery.process is not None

    assert answers == ["Hello from ada, you!", "Hello from bob, you!"]
    assert names == ["ada", "bob"]
    assert sessions == list(pids.values())
    assert parents == {nursery.process.pid}
    assert (tmp_path / "output").read_text() == "ada\n"
    assert not any(runs(pid) for pid in pids.values())


async def test_a_killed_service_is_started_again_with_the_code_that_it_has_by_then(
    services: Path, nats_url: str, domain: str, bus: Bus
) -> None:
    changes: list[Change] = []
    folder = make(services, "ada")

    async with (
        Nursery() as nursery,
        Fleet(services, url=nats_url, domain=domain, nursery=nursery, tell=changes.append) as fleet,
    ):
        await fleet.ready(timeout_s=30)
        (folder / "words.py").write_text("GREETING = 'Good morning'\n")
        killed = fleet.kill("ada")
        answer = await ask(bus, "ada", "you")
        alive = runs(killed)

    assert answer == "Good morning, you!"
    assert not alive
    assert [change for change in changes if isinstance(change, Ended)] == [Ended("ada", -signal.SIGKILL, 0.0)]


async def test_a_service_that_cannot_start_ends_with_its_code(services: Path, nats_url: str, domain: str) -> None:
    changes: list[Change] = []
    failed = asyncio.Event()

    def tell(change: Change) -> None:
        changes.append(change)
        if isinstance(change, Failed):
            failed.set()

    make(services, "ada", code="1 / 0\n")

    never = Restarts(restarts_max=0)
    async with (
        Nursery() as nursery,
        Fleet(services, url=nats_url, domain=domain, nursery=nursery, restarts=never, tell=tell),
        asyncio.timeout(30),
    ):
        await failed.wait()

    assert [change for change in changes if isinstance(change, Failed)] == [Failed("ada", 2, 1)]


async def test_without_its_nursery_a_service_is_started_all_the_same(
    services: Path, nats_url: str, domain: str, bus: Bus
) -> None:
    changes: list[Change] = []
    make(services, "ada")

    async with (
        Nursery() as nursery,
        Fleet(services, url=nats_url, domain=domain, nursery=nursery, tell=changes.append) as fleet,
    ):
        await fleet.ready(timeout_s=30)
        assert nursery.process is not None
        nursery.process.kill()
        await nursery.process.wait()
        answer = await ask(bus, "ada", "you")
        await fleet.ready(timeout_s=30)
        pids = fleet.pids

    first, *others = [change.pid for change in changes if isinstance(change, Started)]
    assert answer == "Hello from ada, you!"
    assert not runs(first)
    assert others == [pids["ada"]]
