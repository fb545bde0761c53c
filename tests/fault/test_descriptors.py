"""A server and a service that may open no more files: writers are told, nothing is lost, and with room all goes on."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.contract.worlds import scanned
from tests.fault.disks import group
from tests.fault.services import hosted, until, written

from hocket.errors import LogError, StorageFull
from hocket.log import jetstream
from hocket.log.base import Seq
from hocket.log.server import EmbeddedServer
from hocket_schemas.event import Event

pytestmark = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process: on Linux only")

TOLD_S = 3.0
"""Within this whoever writes knows that nothing can be written."""

LEAST = 3
"""No new descriptor can be below it: standard input, output and error are."""


class Asked(Event, type="descriptors.asked.v1"):
    n: int


class Given(Event, type="descriptors.given.v1"):
    n: int


CODE = """
from tests.fault.test_descriptors import Asked, Given
from hocket import Agent

agent = Agent("giver")


@agent.on(Asked)
async def give(event: Asked) -> Given:
    return Given(n=event.n)
"""
MANIFEST = 'name = "giver"\nconsumes = ["descriptors.asked.v1"]\nemits = ["descriptors.given.v1"]\n'


@contextmanager
def no_more_files(pid: int) -> Iterator[None]:
    """What a process has open stays open, and it can open nothing else."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (LEAST, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


async def test_a_server_without_descriptors_refuses_what_it_cannot_write_in_time_and_keeps_what_it_has(
    tmp_path: Path, domain: str
) -> None:
    acked = dict[int, Seq]()
    refused, took_s = list[LogError](), list[float]()
    async with EmbeddedServer(tmp_path) as server, jetstream.connect(server.url, domain=domain) as [log]:
        acked[0] = await log.append(group(domain, 0, 7))
        with no_more_files(server.pid):
            for number in range(1, 5):
                began_s = asyncio.get_running_loop().time()
                try:
                    acked[number] = await log.append(group(domain, number, 7 if number % 2 else 1))
                except LogError as error:
                    refused.append(error)
                    took_s.append(asyncio.get_running_loop().time() - began_s)

        acked[5] = await log.append(group(domain, 5, 7))

        stored = {int(message.subject.split(".")[-2]) for message in await scanned(log, [f"{domain}.0.a.>"])}
    assert refused, "nothing was short"
    assert {type(error) for error in refused} == {StorageFull}
    assert "files" in str(refused[0])
    assert max(took_s) < TOLD_S
    assert stored == set(acked)


async def test_a_service_that_cannot_connect_again_goes_on_once_it_can(tmp_path: Path, domain: str) -> None:
    service, output = written(tmp_path / "giver", CODE, MANIFEST), tmp_path / "output"
    async with (
        EmbeddedServer(tmp_path / "log") as server,
        hosted(service, server.url, domain, output=output) as (fleet, bus),
    ):
        [pid] = fleet.pids.values()
        for n in range(20):
            await bus.publish(Asked(n=n), key=f"k{n % 3}")
        with no_more_files(pid):
            await server.restart()
            await until(lambda: "Too many open files" in output.read_text())
            for n in range(20, 40):
                await bus.publish(Asked(n=n), key=f"k{n % 3}")

        given = list[int]()
        async with asyncio.timeout(30), bus.subscribe(Given, start="start") as deliveries:
            async for delivery in deliveries:
                given.append(delivery.envelope.data["n"])
                if len(given) == 40:
                    break

        assert sorted(given) == list(range(40))
        assert list(fleet.pids.values()) == [pid], "it has not ended"
