"""Processes that are there, and that are not any more."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import orjson
import pytest

from hocket.engine.owner import Claim, Holder, Others, holder
from hocket.lifeline import has_ended, own_name, watching
from hocket.log.base import Seq, Write
from hocket.log.memory import MemoryServer
from hocket.policy import Limits
from hocket.subjects import Names

pytestmark = pytest.mark.skipif(own_name() is None, reason="the system tells nothing of processes")

NAMES = Names("hocket", 0)
PATIENT = Limits(silence_s=3600, silence_at_start_s=3600)

OTHER = """
from hocket.lifeline import own_name
print(own_name(), flush=True)
input()
"""


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def name_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_process_that_lives_has_not_ended_nor_has_one_that_is_stopped(other: subprocess.Popen[str]) -> None:
    name = name_of(other)

    other.send_signal(signal.SIGSTOP)

    assert not has_ended(name)
    assert not has_ended(own_name())


def test_a_killed_process_has_ended_before_its_parent_takes_note_and_after(other: subprocess.Popen[str]) -> None:
    name = name_of(other)

    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    before = has_ended(name)
    other.wait()

    assert (before, has_ended(name)) == (True, True)


def test_a_later_process_with_the_same_number_is_another_one() -> None:
    around, _, started = str(own_name()).rpartition("/")

    assert has_ended(f"{around}/{int(started) - 1}")


@pytest.mark.parametrize("name", [None, "", "x", "//", "elsewhere/pid:[1]/999999999/1", "a/b/c/d"])
def test_of_other_machines_and_of_nonsense_nothing_is_known(name: str | None) -> None:
    assert not has_ended(name)


async def test_who_watches_hears_of_an_end_at_once_and_only_once(other: subprocess.Popen[str]) -> None:
    name, ended, calls = name_of(other), asyncio.Event(), 0

    def hear() -> None:
        nonlocal calls
        calls += 1
        ended.set()

    with watching(name, hear):
        other.kill()
        async with asyncio.timeout(6):
            await ended.wait()
        await asyncio.sleep(0)

    assert calls == 1


async def test_who_watches_another_process_with_the_same_number_hears_that_the_one_meant_has_ended(
    other: subprocess.Popen[str],
) -> None:
    around, _, started = name_of(other).rpartition("/")
    heard: list[str] = []

    with watching(f"{around}/{int(started) - 1}", lambda: heard.append("ended")):
        pass

    assert heard == ["ended"]


@pytest.mark.parametrize("name_of", [lambda: None, own_name, lambda: "elsewhere/pid:[1]/1/1"])
async def test_nobody_watches_himself_nor_what_is_elsewhere(name_of: Callable[[], str | None]) -> None:
    name = name_of()
    before = len(os.listdir("/proc/self/fd"))

    with watching(name, lambda: None):
        meanwhile = len(os.listdir("/proc/self/fd"))

    assert meanwhile == before


async def test_a_watch_leaves_nothing_open(other: subprocess.Popen[str]) -> None:
    name, before = name_of(other), len(os.listdir("/proc/self/fd"))

    with watching(name, lambda: None):
        meanwhile = len(os.listdir("/proc/self/fd"))

    assert (meanwhile - before, len(os.listdir("/proc/self/fd"))) == (1, before)


async def test_an_owner_whose_process_has_ended_is_not_waited_for(other: subprocess.Popen[str]) -> None:
    log = MemoryServer().connect()
    claim = Claim("other", "2026-01-01T00:00:00.000Z", process=name_of(other))
    token = await log.append([Write(NAMES.owner("counter"), claim.to_json())])
    alive = await holder(log, NAMES, "counter", "mine")
    waiting = asyncio.create_task(Others("mine").silence(Holder(claim, token), PATIENT, asyncio.Event()))

    other.kill()
    other.wait()
    async with asyncio.timeout(6):
        silent = await waiting

    assert alive == Holder(claim, token)
    assert not silent
    assert await holder(log, NAMES, "counter", "mine") is None


def heartbeat(role: str, token: int) -> bytes:
    return orjson.dumps({"instance": "other", "role": role, "token": token})


@pytest.mark.parametrize(
    ("said", "looks_again"),
    [
        (heartbeat("released", 7), True),
        (heartbeat("owner", 8), True),
        (heartbeat("owner", 7), False),
        (heartbeat("standby", 0), False),
        (b"nonsense", False),
    ],
)
async def test_a_claim_is_looked_at_again_as_soon_as_its_owner_leaves_or_another_one_is_heard(
    said: bytes, looks_again: bool
) -> None:
    others, stop = Others("mine"), asyncio.Event()
    waiting = asyncio.create_task(others.silence(Holder(Claim("other", ""), Seq(7)), PATIENT, stop))
    await asyncio.sleep(0)

    others.hear(said)
    others.hear(said)
    await asyncio.wait([waiting], timeout=0.05)

    assert waiting.done() == looks_again
    stop.set()
    assert not await waiting
