"""The trip example on a real server with a real outside: late answers, errors that pass, and a saga that is stuck."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from examples.trip.desks import ask
from examples.trip.schemas import TripRequested
from tests.fault.ledger import ledger

from hocket import Event, Retry
from hocket.client import Bus, Delivery
from hocket.host import loader
from hocket.host.crew import Crew, running
from hocket.log import jetstream
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested
from hocket_schemas.cancels import CancelRequested
from hocket_schemas.runtime import SagaCancelled, SagaCompensated, SagaCompleted, SagaFailed, SagaStuck

TRIP = Path(__file__).parents[2] / "examples" / "trip" / "services"
SAGA = "trip-1"

E = TypeVar("E", bound=Event)


@pytest.fixture
async def agents(nats_url: str, domain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The three agents and the coordinator at work in this process, the desks in another."""
    coordinator = tmp_path / "coordinator"  # loaded anew: what it follows is what is declared by then
    shutil.copytree(TRIP / "coordinator", coordinator)
    folders = [TRIP / name for name in ("flights", "hotels", "payments")] + [coordinator]
    members = [agent for folder in folders for agent in loader.load(folder).agents]
    monkeypatch.setattr(members[0].effects["book_flight"], "undo_retry", Retry(attempts_max=2, first_s=0.05))
    async with ledger(tmp_path) as outside, jetstream.connect(nats_url, domain=domain) as logs:
        monkeypatch.setenv("TRIP_OUTSIDE", outside.url)
        async with running(Crew(members, logs)) as crew:
            await crew.owning()
            yield


async def request(bus: Bus, **fault: Any) -> None:
    """Have something go wrong with a trip, and ask for it."""
    await ask("POST", "/admin/faults", {"saga": SAGA, **fault})
    await bus.publish(TripRequested(route="MUC-OSL"), key=SAGA, saga=SAGA)


async def heard(bus: Bus, event: type[E], *, nth: int = 1) -> tuple[E, Delivery]:
    """The n-th event of a type, once it is there."""
    async with asyncio.timeout(30), bus.subscribe(event, start="start") as deliveries:
        async for delivery in deliveries:
            nth -= 1
            if nth == 0:
                assert isinstance(delivery.event, event)
                return delivery.event, delivery
    raise AssertionError("a subscription does not end")


async def called(desk: str, outcome: str) -> None:
    async with asyncio.timeout(10):
        while outcome not in await outcomes(desk):  # noqa: ASYNC110  # it is another process that is waited for
            await asyncio.sleep(0.02)


async def outcomes(desk: str) -> list[str]:
    return [call["outcome"] for call in await ask("GET", f"/calls?desk={desk}")]


async def books() -> dict[str, Any]:
    found: dict[str, Any] = await ask("GET", f"/ledger?saga={SAGA}")
    return found


async def hocket(*arguments: str) -> str:
    """Run a command, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hocket.cli.main", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "HOCKET_SCHEMAS": "examples.trip.schemas"},
    )
    async with asyncio.timeout(30):
        printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


async def test_what_is_booked_after_the_trip_was_cancelled_is_cancelled_as_well(agents: None, bus: Bus) -> None:
    await request(bus, desk="flights", does="book", how="late", delay_s=1.0, times=1)
    await called("flights", "late")
    await bus.publish(CancelRequested(saga=SAGA, by="ada", reason="it rains"), key=SAGA, saga=SAGA)

    _, cancelled = await heard(bus, SagaCancelled)
    nth = 1
    while not (await heard(bus, SagaCompensated, nth=nth))[0].undone:
        nth += 1  # it was thought to be over before the late answer came

    found = await books()
    assert [entry["did"] for entry in found["entries"]] == ["booked", "cancelled"]
    assert found["entries"][0]["at"] > cancelled.message.time_ns / 1e9
    assert found["net_cents"] == 0


async def test_an_error_that_passes_aborts_nothing(agents: None, bus: Bus) -> None:
    await request(bus, desk="flights", does="book", how="fail", delay_s=0.05, times=1, after=True)

    asked, _ = await heard(bus, ApprovalRequested)
    decided = ApprovalDecided(approval=asked.approval, digest=asked.digest, option="approve", by="ada")
    await bus.command(decided, to=asked.agent, key=SAGA, saga=SAGA)
    await heard(bus, SagaCompleted)

    assert await outcomes("flights") == ["fail", "done"]
    found = await books()
    assert (len(found["entries"]), sorted(found["sagas"][SAGA]["open"])) == (
        4,
        ["flights", "hotels", "payments", "reservations"],
    )


async def test_a_stuck_saga_is_listed_with_its_reason_and_ends_when_it_is_tried_again(
    agents: None, bus: Bus, nats_url: str, domain: str
) -> None:
    place = ("--nats", nats_url, "--domain", domain)
    await ask("POST", "/admin/faults", {"desk": "hotels", "how": "refuse", "say": "no room"})
    await request(bus, desk="flights", does="cancel", how="fail", delay_s=0.05, say="the desk is closed")

    await heard(bus, SagaFailed)
    await heard(bus, SagaStuck)
    [listed] = json.loads(await hocket("sagas", "--stuck", "--json", *place))
    standing = await books()
    await ask("DELETE", "/admin/faults")
    await hocket("saga", "retry", SAGA, *place)
    compensated, _ = await heard(bus, SagaCompensated)

    assert (listed["id"], "the desk is closed" in listed["reason"]) == (SAGA, True)
    assert standing["net_cents"] > 0
    assert compensated.undone == ["book_flight"]
    assert (await books())["net_cents"] == 0
