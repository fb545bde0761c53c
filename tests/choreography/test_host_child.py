"""One service process: how it stops, what it says, and that it does not outlive its parent."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.choreography.folders import CODE, ask, make

from hocket.client import Bus
from hocket.host import health
from hocket.host.health import Card, Health

Start = Callable[..., Awaitable[Process]]

SLOW = CODE.replace("from hocket.agent", "import asyncio\n\nfrom hocket.agent").replace(
    "    return Given",
    "    print('begun', flush=True)\n    await asyncio.sleep(float(event.whom))\n    return Given",
)


@pytest.fixture
async def start(nats_url: str, domain: str) -> AsyncIterator[Start]:
    """Starts service processes, and kills whatever still runs."""
    started: list[Process] = []

    async def start(*arguments: str | Path, url: str = nats_url, **options: int) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hocket.host.child", *map(str, arguments)),
            env={**os.environ, "HOCKET_NATS": url, "HOCKET_DOMAIN": domain},
            stdin=options.get("stdin"),
            stdout=PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def heard(bus: Bus, met: Callable[[Card], bool]) -> Card:
    """Wait for an instance that says something."""
    found: asyncio.Queue[Card] = asyncio.Queue()
    async with asyncio.timeout(20), health.listening(bus.logs, changed=found.put_nowait):
        while True:
            card = await found.get()
            if met(card):
                return card
    raise AssertionError


async def printed_by(process: Process, wanted: str) -> None:
    """Wait until a process has printed a line that begins so."""
    assert process.stdout
    async with asyncio.timeout(20):
        while not (line := await process.stdout.readline()).decode().startswith(wanted):
            assert line, f"it ended without {wanted!r}"


async def ended(process: Process) -> tuple[int, str]:
    """Wait for the end; return the exit code and all that was printed."""
    async with asyncio.timeout(20):
        printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()


def owner(card: Card) -> bool:
    return card.role == "owner"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_asked_to_stop_it_finishes_what_it_has_in_hand(
    tmp_path: Path, bus: Bus, start: Start, number: int
) -> None:
    process = await start(make(tmp_path, "ada", code=SLOW), "--log", "json")
    await heard(bus, owner)

    async with asyncio.TaskGroup() as tasks:
        answer = tasks.create_task(ask(bus, "ada", "0.5"))
        await printed_by(process, "begun")
        process.send_signal(number)
    code, printed = await ended(process)

    assert code == 0
    assert answer.result() == "Hello from ada, 0.5!"
    assert json.loads(printed.splitlines()[-1])["event"] == "released"


async def test_asked_twice_it_ends_at_once(tmp_path: Path, bus: Bus, start: Start) -> None:
    process = await start(make(tmp_path, "ada", code=SLOW))
    await heard(bus, owner)

    async with asyncio.TaskGroup() as tasks:
        question = tasks.create_task(ask(bus, "ada", "60"))
        await printed_by(process, "begun")
        process.terminate()
        await heard(bus, lambda card: True)  # it has time to hear the first request before the second
        process.terminate()
        code, _ = await ended(process)
        question.cancel()

    assert code == 130


async def test_it_stops_when_its_leash_ends(tmp_path: Path, bus: Bus, start: Start) -> None:
    leash, held = os.pipe()
    process = await start(make(tmp_path, "ada"), "--leashed", stdin=leash)
    os.close(leash)
    await heard(bus, owner)

    os.close(held)
    code, printed = await ended(process)

    assert (code, printed) == (0, "")


async def test_it_can_be_stopped_before_it_has_a_server(tmp_path: Path, start: Start) -> None:
    process = await start(
        make(tmp_path, "ada", code=CODE + "\nprint('loaded', flush=True)\n"), url="nats://127.0.0.1:1"
    )
    await printed_by(process, "loaded")

    process.terminate()
    code, _ = await ended(process)

    assert code == 0


async def test_code_that_fails_is_shown_with_its_traceback(tmp_path: Path, start: Start) -> None:
    process = await start(make(tmp_path, "ada", code="\n1 / 0\n"), "--log", "json")

    code, printed = await ended(process)

    first, *traceback = printed.splitlines()
    said = json.loads(first)
    assert code == 2
    assert (said["level"], said["event"], said["error"]) == ("error", "cannot run", "BadService")
    assert "agent.py, line 2: ZeroDivisionError" in said["why"]
    assert traceback[-1] == "ZeroDivisionError: division by zero"


async def test_of_two_instances_one_owns_and_the_other_takes_over(tmp_path: Path, bus: Bus, start: Start) -> None:
    folder = make(tmp_path, "ada")
    first = await start(folder)
    owning = await heard(bus, owner)
    await start(folder)
    standing_by = await heard(bus, lambda card: card.role == "standby" and card.instance != owning.instance)

    first.terminate()
    taking_over = await heard(bus, lambda card: owner(card) and card.token > owning.token)

    assert taking_over.instance == standing_by.instance
    assert await ask(bus, "ada", "you") == "Hello from ada, you!"


def test_heartbeats_that_are_none_are_not_heard() -> None:
    bodies = [b"", b"[]", b"{}", b'{"agent": "x"}', b"\xff", b'{"agent":"a","shard":"x","instance":"i","role":"o"}']

    cards = [health.card_of(body, 0.0) for body in bodies]

    assert cards == [None] * len(bodies)


def card(role: str, *, instance: str = "i", token: int = 1, heard_s: float = 0.0) -> Card:
    return Card("ada", 0, instance, role, token, "1", "host", 7, (), (), 0, 0, heard_s)


def test_the_owner_is_who_has_the_newest_token_and_was_heard_lately() -> None:
    table = Health()
    for each in (card("owner", instance="old", token=3), card("owner", instance="new", token=9), card("standby")):
        table.hear(each)

    assert table.owner("ada", 0, now_s=1.0) == card("owner", instance="new", token=9)
    assert [each.instance for each in table.table(now_s=1.0)] == ["new", "old", "i"]
    assert table.owner("ada", 0, now_s=60.0) is None


def test_a_card_that_only_says_that_its_instance_lives_is_nothing_new() -> None:
    table = Health()

    news = [table.hear(each) for each in (card("standby"), card("standby", heard_s=1.0), card("owner", heard_s=2.0))]

    assert news == [True, False, True]
