"""A loop that stands still is noticed from outside of it, and whoever holds it up is named."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import pytest

from hocket.agent import Agent
from hocket.client import open_bus
from hocket.host.crew import Crew, running
from hocket.host.watchdog import Block, watching
from hocket.log.memory import MemoryServer
from hocket_schemas.event import Catalog, Event

LOCAL = Catalog()
PATIENCE_S = 0.2


class Asked(Event, type="watchdog.asked.v1", catalog=LOCAL):
    for_s: float


slow = Agent("slow")


@slow.on(Asked)
async def work(event: Asked) -> None:
    await asyncio.sleep(0)
    reckon(event.for_s)


def reckon(for_s: float) -> None:
    time.sleep(for_s)


async def until(met: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not met():  # noqa: ASYNC110 - it is a thread that makes it so, or the loop's own turns
            await asyncio.sleep(0.01)


async def test_a_handler_that_blocks_the_loop_is_named_while_it_does_and_remembered_afterwards(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[tuple[Block, str]] = []

    def tell(block: Block) -> None:
        told.append((block, threading.current_thread().name))

    logs = [MemoryServer().connect()]
    with caplog.at_level(logging.WARNING, "hocket"), watching(blocked_s=PATIENCE_S, tell=tell) as watchdog:
        async with open_bus(logs) as bus, running(Crew([slow], logs)) as crew:
            await crew.owning()
            await bus.publish(Asked(for_s=3 * PATIENCE_S), event_id="e-1")
            await until(lambda: watchdog.last)
    vitals = watchdog.vitals()

    [(block, thread)] = told
    assert (block.agent, block.handler, block.id, thread) == ("slow", "work", "e-1", "watchdog")
    assert block.where.startswith("test_watchdog.py:")
    assert block.where.endswith(" in reckon")
    assert watchdog.last is not None
    assert PATIENCE_S <= block.for_s < watchdog.last.for_s
    assert (vitals["blocks"], vitals["blocked"]["handler"]) == (1, "work")
    blocked, turns = [r for r in caplog.records if r.getMessage().startswith("event loop")]
    assert "time.sleep(for_s)" in blocked.fields["stack"]  # type: ignore[attr-defined]  # given by `note`
    assert turns.getMessage() == "event loop turns again"


async def test_code_that_is_no_handler_is_told_by_its_place() -> None:
    told: list[Block] = []

    with watching(blocked_s=PATIENCE_S, tell=told.append):
        reckon(2 * PATIENCE_S)

    [block] = told
    assert (block.agent, block.handler, block.id) == ("", "", "")
    assert block.where.endswith(" in reckon")


async def test_a_loop_that_turns_beats_and_nobody_is_blamed() -> None:
    told: list[Block] = []
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1

    with watching(blocked_s=PATIENCE_S, beat=beat, tell=told.append) as watchdog:
        await until(lambda: beats > 40)

    assert told == []
    assert watchdog.vitals() == {"blocks": 0, "blocked": None}
