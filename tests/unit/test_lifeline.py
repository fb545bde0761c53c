"""Processes that are there, and that are not any more."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hocket.engine.owner import Claim, Pulse, holder
from hocket.lifeline import has_ended, own_name
from hocket.log.base import Write
from hocket.log.memory import MemoryServer
from hocket.policy import Limits
from hocket.subjects import Names

pytestmark = pytest.mark.skipif(own_name() is None, reason="the system tells nothing of processes")

NAMES = Names("hocket", 0)

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


async def test_an_owner_whose_process_has_ended_is_not_waited_for(other: subprocess.Popen[str]) -> None:
    log = MemoryServer().connect()
    claim = Claim("other", "2026-01-01T00:00:00.000Z", process=name_of(other))
    await log.append([Write(NAMES.owner("counter"), claim.to_json())])
    alive = await holder(log, NAMES, "counter", "mine")
    waiting = asyncio.create_task(
        Pulse("mine").silence(claim, Limits(silence_s=3600, silence_at_start_s=8.0), asyncio.Event())
    )

    other.kill()
    other.wait()
    async with asyncio.timeout(6):
        await waiting

    assert alive == claim
    assert await holder(log, NAMES, "counter", "mine") is None
