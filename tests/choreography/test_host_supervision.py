"""Services that fail in every way that processes know: the supervisor heals, gives up, and says so in the log."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.choreography.folders import CODE, Seen, ask, make

from hocket.client import Bus
from hocket.errors import NotReady
from hocket.host import roster
from hocket.host.changes import Ended, Failed, Restored, Started
from hocket.host.memory import MEASURED
from hocket.host.roster import Entry
from hocket.host.supervisor import Fleet
from hocket_schemas.envelope import Envelope
from hocket_schemas.services import RestartRequested, ServiceFailed, ServiceRestored

SOON = """
[restart]
restarts_max = 2
second_s = 0.3
factor = 2
jitter = 0
"""

GREEDY = CODE.replace("agent = Agent", "held = []\nagent = Agent").replace(
    "    return Given", "    held.append(b'x' * (int(event.whom) << 20))\n    return Given"
)

BLOCKING_ONCE = CODE.replace("from .words", "import time\nfrom pathlib import Path\n\nfrom .words").replace(
    "    return Given",
    """    once = Path(__file__).with_name("blocked")
    if not once.exists():
        once.touch()
        time.sleep(60)
    return Given""",
)


async def listed(bus: Bus, met: Callable[[Entry], bool]) -> Entry:
    """Wait until a supervisor says so of a service."""
    told = asyncio.Event()
    async with asyncio.timeout(20), roster.listening(bus.logs[0], changed=told.set) as supervised:
        while True:
            for entry in supervised.table(asyncio.get_running_loop().time()):
                if met(entry):
                    return entry
            told.clear()
            await told.wait()


async def test_a_service_that_crashes_at_import_waits_longer_each_time_then_fails_in_the_log_until_it_works_again(
    services: Path, nats_url: str, domain: str, bus: Bus, seen: Seen, tmp_path: Path
) -> None:
    make(services, "ada")
    broken = make(services, "bob", code="1 / 0\n", more=SOON)

    async with (
        asyncio.timeout(40),
        bus.subscribe(ServiceFailed, ServiceRestored, key="bob") as watch,
        Fleet(services, url=nats_url, domain=domain, tell=seen, output=tmp_path / "output") as fleet,
    ):
        failed = await anext(watch)
        listed_as = await listed(bus, lambda entry: entry.state == "failed")
        answer = await ask(bus, "ada", "meanwhile")
        (broken / "agent.py").write_text(CODE.replace("{name}", "bob"))
        fleet.restart("bob")
        restored = await anext(watch)

    of_bob = [(at_s, each) for at_s, each in zip(seen.at_s, seen.changes, strict=True) if each.service == "bob"]
    starts_s = [at_s for at_s, each in of_bob if isinstance(each, Started)]
    ends_s = [at_s for at_s, each in of_bob if isinstance(each, Ended | Failed)]
    waits_s = [start_s - end_s for start_s, end_s in zip(starts_s[1:3], ends_s, strict=False)]
    assert [each.wait_s for _, each in of_bob if isinstance(each, Ended)][:2] == [0.0, 0.3]
    assert waits_s[1] >= max(0.29, waits_s[0])
    assert Failed("bob", 2, 3) in [each for _, each in of_bob]
    assert isinstance(failed.event, ServiceFailed)
    assert (failed.event.agents, failed.event.code, failed.event.signal) == (["bob"], 2, None)
    assert (failed.event.reason, failed.event.restarts, failed.event.window_s) == ("ended", 2, 60.0)
    assert failed.event.printed[-1] == "ZeroDivisionError: division by zero"
    assert (listed_as.service, listed_as.restarts, listed_as.pid) == ("bob", 2, None)
    assert "exit code 2" in listed_as.why
    assert answer == "Hello from ada, meanwhile!"
    assert isinstance(restored.event, ServiceRestored)
    assert restored.event.failure == failed.envelope.id
    assert restored.envelope.correlationid == failed.envelope.correlationid
    assert [each for _, each in of_bob if isinstance(each, Restored)] == [Restored("bob")]
    assert len([each for each in seen.changes if isinstance(each, Started) and each.service == "ada"]) == 1


async def test_what_one_supervisor_has_given_up_the_next_one_says_to_be_restored(
    services: Path, nats_url: str, domain: str, bus: Bus, seen: Seen, tmp_path: Path
) -> None:
    dying = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    broken = make(services, "bob", code=dying, more="\n[restart]\nrestarts_max = 0\n")
    async with Fleet(services, url=nats_url, domain=domain, tell=seen):
        await seen.until(lambda change: isinstance(change, Failed))
    (broken / "agent.py").write_text(CODE.replace("{name}", "bob"))

    async with Fleet(services, url=nats_url, domain=domain, tell=seen):
        await seen.until(lambda change: isinstance(change, Restored))

    [failed, restored] = [delivery async for delivery in bus.read(ServiceFailed, ServiceRestored, key="bob")]
    assert isinstance(failed.event, ServiceFailed)
    assert (failed.event.signal, failed.event.code, failed.event.restarts) == ("SIGKILL", None, 0)
    assert isinstance(restored.event, ServiceRestored)
    assert restored.event.failure == failed.envelope.id


@pytest.mark.skipif(not MEASURED, reason="this system does not tell what a process holds")
async def test_a_service_above_its_memory_cap_gets_a_new_process_in_good_order(
    services: Path, nats_url: str, domain: str, bus: Bus, seen: Seen
) -> None:
    make(services, "ada", code=GREEDY, top="memory_mib = 200")

    async with Fleet(services, url=nats_url, domain=domain, tell=seen) as fleet:
        await fleet.ready(timeout_s=30)
        first = await ask(bus, "ada", "0")
        await ask(bus, "ada", "200")
        ended = await seen.until(lambda change: isinstance(change, Ended))
        await fleet.ready(timeout_s=30)
        last = await ask(bus, "ada", "1")
        listed_as = await listed(bus, lambda entry: entry.state == "running" and entry.restarts == 1)

    assert (first, last) == ("Hello from ada, 0!", "Hello from ada, 1!")
    assert ended == Ended("ada", 0, 0.0, "memory")
    assert listed_as.memory_max_bytes == 200 << 20
    assert 0 < (listed_as.memory_bytes or 0) < 200 << 20
    assert "more memory than its cap" in listed_as.why


@pytest.mark.skipif(not MEASURED, reason="this system does not tell what a process holds")
async def test_a_cap_that_no_process_can_keep_ends_as_a_failure_and_not_in_a_loop(
    services: Path, nats_url: str, domain: str, seen: Seen
) -> None:
    make(services, "ada", top="memory_mib = 1", more="\n[restart]\nrestarts_max = 1\n")

    async with Fleet(services, url=nats_url, domain=domain, tell=seen):
        failed = await seen.until(lambda change: isinstance(change, Failed))

    assert isinstance(failed, Failed)
    assert (failed.ends, failed.reason) == (2, "memory")


async def test_a_process_whose_loop_stands_still_is_killed_and_the_handler_is_named(
    services: Path, nats_url: str, domain: str, bus: Bus, seen: Seen, tmp_path: Path
) -> None:
    make(services, "ada", code=BLOCKING_ONCE, more="\n[restart]\nblocked_s = 2\n")

    async with Fleet(services, url=nats_url, domain=domain, tell=seen, output=tmp_path / "output") as fleet:
        await fleet.ready(timeout_s=30)
        answer = await ask(bus, "ada", "you")
        [ended] = [change for change in seen.changes if isinstance(change, Ended)]
        listed_as = await listed(bus, lambda entry: entry.restarts == 1)

    printed = (tmp_path / "output").read_text()
    assert answer == "Hello from ada, you!"
    assert ended == Ended("ada", -signal.SIGKILL, 0.0, "blocked")
    assert "event loop blocked agent=ada handler=greet id=" in printed
    assert "    time.sleep(60)" in printed
    assert "blocked by greet of ada on event " in listed_as.why


async def test_a_person_can_ask_for_a_new_process_from_anywhere_and_it_counts_as_no_end(
    services: Path, nats_url: str, domain: str, bus: Bus, seen: Seen
) -> None:
    make(services, "ada", more="\n[restart]\nrestarts_max = 0\n")

    async with Fleet(services, url=nats_url, domain=domain, tell=seen) as fleet:
        await fleet.ready(timeout_s=30)
        before = fleet.pids["ada"]
        await bus.publish(RestartRequested(service="ada", host="elsewhere", by="test"), key="ada")
        await bus.publish(RestartRequested(service="nobody", by="test"), key="nobody")
        await bus.publish_envelope(
            Envelope(id="x", source="/test", type=RestartRequested.event_type, data={"no": "request"})
        )
        await bus.publish(RestartRequested(service="ada", by="test"), key="ada")
        await seen.until(lambda change: isinstance(change, Started) and change.again)
        await fleet.ready(timeout_s=30)
        after = fleet.pids["ada"]
        with pytest.raises(NotReady, match="nobody is not kept here; ada is"):
            fleet.restart("nobody")

    assert before != after
    assert [c for c in seen.changes if isinstance(c, Ended | Failed)] == [Ended("ada", 0, 0.0, "asked")]
