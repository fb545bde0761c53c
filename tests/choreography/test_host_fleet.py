"""Services as real processes on a real server: what falls is started again, and the others go on."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from tests.choreography.folders import CODE, Seen, ask, make

from hocket.client import Bus, connect
from hocket.errors import NotReady
from hocket.host.place import is_alive
from hocket.host.restarts import Restarts
from hocket.host.supervisor import Ended, Failed, Fleet, Left, Owns, Started

FAST = Restarts(restarts_max=2, second_s=0.05, longest_s=0.1)


async def test_each_service_is_a_process_of_its_own_and_ends_with_the_fleet(
    services: Path, nats_url: str, domain: str, bus: Bus
) -> None:
    make(services, "ada")
    make(services, "bob")

    async with Fleet(services, url=nats_url, domain=domain) as fleet:
        await fleet.ready(timeout_s=30)
        pids = fleet.pids
        answers = [await ask(bus, name, "you") for name in ("ada", "bob")]

    assert answers == ["Hello from ada, you!", "Hello from bob, you!"]
    assert set(pids) == {"ada", "bob"}
    assert len({os.getpid(), *pids.values()}) == 3
    assert not any(is_alive(pid) for pid in pids.values())


async def test_a_killed_service_is_started_again_alone_and_goes_on_at_once(
    services: Path, nats_url: str, domain: str, bus: Bus, seen: Seen
) -> None:
    make(services, "ada")
    make(services, "bob")

    async with Fleet(services, url=nats_url, domain=domain, tell=seen) as fleet:
        await fleet.ready(timeout_s=30)
        before = fleet.pids
        killed = fleet.kill("ada")
        await fleet.ready(timeout_s=30)
        after = fleet.pids
        answer = await ask(bus, "ada", "again")

    assert killed == before["ada"] != after["ada"]
    assert before["bob"] == after["bob"]
    assert answer == "Hello from ada, again!"
    assert [c for c in seen.changes if isinstance(c, Ended)] == [Ended("ada", -signal.SIGKILL, 0.0)]


async def test_a_service_with_two_instances_goes_on_in_the_other_one_and_has_two_again(
    services: Path, nats_url: str, domain: str, bus: Bus, seen: Seen
) -> None:
    make(services, "ada", top="instances = 2\n")

    async with Fleet(services, url=nats_url, domain=domain, tell=seen) as fleet:
        await fleet.ready(timeout_s=30)
        both = fleet.pids
        owns = await seen.until(lambda change: isinstance(change, Owns))
        assert isinstance(owns, Owns)
        killed = fleet.kill(owns.service)
        follows = await seen.until(lambda change: isinstance(change, Owns) and change.service != owns.service)
        await seen.until(lambda change: change == Started(owns.service, fleet.pids.get(owns.service, 0), again=True))
        answer = await ask(bus, "ada", "again")
        after = fleet.pids

    assert set(both) == {"ada", "ada.2"} == {owns.service, follows.service} == set(after)
    assert both[follows.service] == after[follows.service] == follows.pid
    assert killed == both[owns.service] != after[owns.service]
    assert answer == "Hello from ada, again!"
    assert {change for change in seen.changes if isinstance(change, Left)} == {Left("ada"), Left("ada.2")}


async def test_a_folder_that_comes_is_started_and_one_that_goes_is_stopped(
    services: Path, nats_url: str, domain: str, bus: Bus, seen: Seen
) -> None:
    make(services, "ada")

    async with Fleet(services, url=nats_url, domain=domain, tell=seen) as fleet:
        await fleet.ready(timeout_s=30)
        before = fleet.pids
        make(services, "bob")
        await seen.until(lambda change: isinstance(change, Owns) and change.service == "bob")
        answer = await ask(bus, "bob", "newcomer")
        both = fleet.pids
        shutil.rmtree(services / "bob")
        await seen.until(lambda change: change == Left("bob"))
        after = fleet.pids

    assert answer == "Hello from bob, newcomer!"
    assert both == before | {"bob": both["bob"]}
    assert after == before


async def test_a_service_that_cannot_start_is_given_up_loudly_until_it_is_mended(
    services: Path, nats_url: str, domain: str, bus: Bus, seen: Seen, tmp_path: Path
) -> None:
    make(services, "ada")
    broken = make(services, "bob", code="1 / 0\n")

    async with Fleet(
        services, url=nats_url, domain=domain, tell=seen, restarts=FAST, output=tmp_path / "output"
    ) as fleet:
        failed = await seen.until(lambda change: isinstance(change, Failed))
        with pytest.raises(NotReady, match="bob"):
            await fleet.ready(timeout_s=30)
        await fleet.settled(timeout_s=30)
        answer = await ask(bus, "ada", "meanwhile")
        given_up = fleet.failed
        (broken / "agent.py").write_text(CODE.replace("{name}", "bob"))
        await seen.until(lambda change: isinstance(change, Owns) and change.service == "bob")
        await fleet.ready(timeout_s=30)

    assert failed == Failed("bob", 2, 3)
    assert given_up == ["bob"]
    assert answer == "Hello from ada, meanwhile!"
    assert "ZeroDivisionError" in (tmp_path / "output").read_text()
    assert len([c for c in seen.changes if isinstance(c, Started) and c.service == "ada"]) == 1


async def test_all_services_can_share_one_process(services: Path, nats_url: str, domain: str, bus: Bus) -> None:
    make(services, "ada")
    make(services, "bob")

    async with Fleet(services, url=nats_url, domain=domain, together=True) as fleet:
        await fleet.ready(timeout_s=30)
        pids = fleet.pids
        answers = [await ask(bus, name, "you") for name in ("ada", "bob")]

    assert list(pids) == ["all"]
    assert answers == ["Hello from ada, you!", "Hello from bob, you!"]


async def test_ready_means_every_shard(services: Path, nats_url: str, domain: str) -> None:
    make(services, "ada")

    async with Fleet([services / "ada"], url=nats_url, domain=domain, shards=3) as fleet:
        with pytest.raises(NotReady, match=r"ada \(shard 0\), ada \(shard 1\), ada \(shard 2\)"):
            await fleet.ready(timeout_s=0.01)
        await fleet.ready(timeout_s=30)
        async with connect(nats_url, domain=domain) as bus:
            answers = [await ask(bus, "ada", str(number)) for number in range(6)]

    assert answers == [f"Hello from ada, {number}!" for number in range(6)]


async def test_a_fleet_that_never_comes_up_says_who_is_missing(
    services: Path, nats_url: str, domain: str, tmp_path: Path
) -> None:
    make(services, "ada", code="import time\ntime.sleep(60)\n")

    async with Fleet([services / "ada"], url=nats_url, domain=domain) as fleet:
        with pytest.raises(NotReady, match=r"ada \(shard 0\)"):
            await fleet.ready(timeout_s=1.0)
