"""A disk without room, and a stream without: who writes is told, nothing is lost, and with room all goes on."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.choreography.folders import make
from tests.contract.worlds import scanned
from tests.fault.disks import Disk, group, mounted
from tests.fault.services import until

from hocket.agent import Agent
from hocket.client import Bus, connect
from hocket.errors import LogError, OutcomeUnknown, StorageFull
from hocket.host.crew import Crew
from hocket.host.health import listening
from hocket.host.place import find_running
from hocket.host.system import ServerStarted, system
from hocket.ids import fresh
from hocket.log import jetstream
from hocket.log.server import EmbeddedServer
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Event

TOLD_S = 3.0
"""Within this whoever writes knows that there is no room."""


class Asked(Event, type="echo.asked.v1"):
    whom: str


class Given(Event, type="echo.given.v1"):
    text: str


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    with mounted(root) as disk:
        yield disk


@pytest.mark.parametrize("size", [1, 7])
async def test_a_full_disk_is_named_in_time_and_what_was_acknowledged_stays(disk: Disk, domain: str, size: int) -> None:
    acked, unknown, refused = set[int](), set[int](), set[int]()
    causes, took_s = list[str](), list[float]()
    async with EmbeddedServer(disk.root) as server, jetstream.connect(server.url, domain=domain) as [log]:
        disk.leave(1 << 19)
        number = 0
        while len(unknown) + len(refused) < 3:
            began_s, number = time.monotonic(), number + 1
            try:
                await log.append(group(domain, number, size))
                acked.add(number)
            except (StorageFull, OutcomeUnknown) as error:
                (refused if isinstance(error, StorageFull) else unknown).add(number)
                causes.append(str(error))
            took_s.append(time.monotonic() - began_s)
        disk.grow()
        await server.restart()
        after = await log.append(group(domain, number + 1, size))
        stored = [message.subject for message in await scanned(log, [f"{domain}.0.a.>"])]

    found = dict.fromkeys(range(1, number + 1), 0)
    for subject in stored[:-size]:
        found[int(subject.split(".")[3])] += 1
    assert after == len(stored)
    assert {number for number, count in found.items() if count} - unknown == acked, "neither less nor more"
    assert set(found.values()) <= {0, size}, "no half of a batch"
    assert len(unknown) <= (size > 1), "only the batch that was being stored is in doubt"
    assert max(took_s) < TOLD_S
    assert all("to its disk has failed" in cause for cause in causes)


async def test_a_crew_whose_disk_is_full_goes_on_when_there_is_room(disk: Disk) -> None:
    services, run_file, told = disk.root / "services", disk.root / "run.json", list[object]()
    services.mkdir()
    make(services, "ada")
    async with system(services, data=disk.root / "data", run_file=run_file, tell=told.append) as fleet:
        await fleet.ready(timeout_s=30)
        before, running = fleet.pids, find_running(run_file)
        assert running
        async with connect(running.nats) as bus:
            disk.leave(1 << 17)
            acked = await filled(bus, "ada.asked.v1")
            assert find_running(run_file), "a file that cannot be written ends nothing"
            disk.grow()
            given = await read(bus, "ada.given.v1", acked)
        after = fleet.pids
        # The server takes appends again, since it is another one; of that somebody is told a moment later.
        await until(lambda: any(change.again for change in told if isinstance(change, ServerStarted)))

    assert acked <= given, "whatever was acknowledged is handled"
    assert before == after, "no service has died of it"


async def test_a_crew_whose_stream_is_full_goes_on_when_it_is_larger(nats_url: str, domain: str) -> None:
    agent = Agent("echo")

    @agent.on(Asked)
    async def echo(event: Asked) -> Given:
        return Given(text=f"{'x' * 500} {event.whom}!")

    async with (
        jetstream.connect(nats_url, domain=domain, max_bytes=150_000) as logs,
        connect(nats_url, domain=domain) as bus,
        listening(bus.logs) as heard,
        asyncio.TaskGroup() as tasks,
    ):
        crew = Crew([agent], logs, replay={"echo": True})
        working = tasks.create_task(crew.run())
        began_s = time.monotonic()
        acked = await filled(bus, "echo.asked.v1")
        took_s = time.monotonic() - began_s
        tenures = {card.token for card in heard.table(asyncio.get_running_loop().time())}
        async with jetstream.connect(nats_url, domain=domain, max_bytes=1 << 26):
            pass
        seen = await read(bus, "echo.given.v1", acked)
        assert not working.done()
        crew.drain()

    assert acked <= seen
    assert len(acked) > 50
    assert took_s < 20
    assert len(tenures) <= 1


async def filled(bus: Bus, event_type: str) -> set[str]:
    """Publish until there is no room; what was acknowledged."""
    acked: set[str] = set()

    async def give(number: int) -> None:
        key, data = f"k-{number % 8}", {"whom": str(number)}
        await bus.publish_envelope(
            Envelope(id=f"e-{number}", source="/test", type=event_type, data=data, partitionkey=key)
        )
        acked.add(str(number))

    for first in range(0, 10_000, 20):
        began_s = time.monotonic()
        told = await asyncio.gather(*(give(number) for number in range(first, first + 20)), return_exceptions=True)
        errors = [error for error in told if error is not None]
        if errors:
            assert time.monotonic() - began_s < 2 * TOLD_S
            assert {type(error) for error in errors} <= {StorageFull, OutcomeUnknown}, errors
            break
    assert await refusal_s(bus) < TOLD_S
    return acked


async def refusal_s(bus: Bus) -> float:
    """How long it takes to be told that there is no room. A small message may find some where a larger did not."""
    async with asyncio.timeout(30):
        while True:
            began_s = time.monotonic()
            try:
                await bus.publish_envelope(Envelope(id=fresh(), source="/test", type="full.v1", data="x" * 100_000))
            except StorageFull:
                return time.monotonic() - began_s
            except OutcomeUnknown:
                continue


async def read(bus: Bus, event_type: str, wanted: set[str]) -> set[str]:
    """What was emitted, once for each that is wanted."""
    seen: list[str] = []
    async with asyncio.timeout(60), bus.subscribe(event_type, start="start") as deliveries:
        while not wanted <= set(seen):
            try:
                data = (await anext(deliveries)).envelope.data
            except LogError:
                continue
            seen.append(data["text"].rpartition(" ")[2].rstrip("!"))
    assert len(seen) == len(set(seen)), "once each"
    return set(seen)
