"""Publishes share appends, and each is answered within its own time: with what is known of it, and nothing else."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from hocket.beside import beside
from hocket.clock import LoopClock
from hocket.errors import LogError, OutcomeUnknown, Unavailable
from hocket.ingress import LATE_S, Ingress, Stored
from hocket.log.base import SINGLY_MAX, Expect, Seq, Write
from hocket.log.memory import Faults, MemoryLog, MemoryServer
from hocket.testing import run_virtual

SILENT = Faults(lose_request=1.0)
SLACK_S = LATE_S + 0.05


def event(name: str) -> Write:
    subject = f"hocket.0.evt.said.k.test.{name}.0"
    return Write(subject, b"{}", Expect(subject, 0))


async def timed(publishing: Coroutine[Any, Any, Stored]) -> tuple[LogError | Stored, float]:
    """What came of it, and after how many seconds."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    try:
        return await publishing, loop.time() - began_s
    except LogError as error:
        return error, loop.time() - began_s


GIVEN_S = (12, 3, 0.2, 7) * 2
"""So many that they share an append."""


@pytest.mark.parametrize("silent", [True, False])
def test_who_has_little_time_does_not_wait_for_the_others_of_its_append(silent: bool) -> None:
    async def story() -> list[tuple[LogError | Stored, float]]:
        server = MemoryServer(clock=LoopClock())
        ingress = Ingress(server.connect(SILENT if silent else None))
        if not silent:
            server.stop()
        async with beside(ingress.run()):
            publishing = (ingress.publish(event(f"e{i}"), given_s) for i, given_s in enumerate(GIVEN_S))
            return await asyncio.gather(*map(timed, publishing))

    told = run_virtual(story())

    kind = OutcomeUnknown if silent else Unavailable
    for (error, took_s), given_s in zip(told, GIVEN_S, strict=True):
        assert isinstance(error, kind)
        assert took_s <= given_s + SLACK_S


def test_what_did_not_come_to_its_turn_in_time_is_said_not_to_be_stored_and_never_is() -> None:
    async def story() -> tuple[LogError | Stored, float, list[str]]:
        server, faults = MemoryServer(clock=LoopClock()), Faults(lose_request=1.0)
        ingress = Ingress(server.connect(faults))
        async with beside(ingress.run()), asyncio.TaskGroup() as tasks:
            first = tasks.create_task(ingress.publish(event("first"), 60))
            await asyncio.sleep(1)  # its append is under way, and is not answered for five seconds
            second = await timed(ingress.publish(event("second"), 2))
            faults.lose_request = 0.0
            assert not (await first).duplicate
            await ingress.publish(event("third"), 10)
            return *second, [message.subject.split(".")[-2] for message in server.history]

    error, took_s, stored = run_virtual(story())

    assert isinstance(error, Unavailable)
    assert took_s <= 2 + SLACK_S
    assert stored == ["first", "third"]


def test_what_may_be_stored_is_not_said_to_be_missing_once_it_is_found_and_cannot_be_read() -> None:
    async def story() -> LogError | Stored:
        server, faults = MemoryServer(clock=LoopClock()), Faults(lose_answer=1.0)
        log = server.connect(faults)
        ingress = Ingress(log)
        read = log.last

        async def away(subject: str) -> Any:
            server.stop()
            return await read(subject)

        log.last = away  # type: ignore[method-assign]  # the log goes away between the two
        async with beside(ingress.run()):
            told, _ = await timed(ingress.publish(event("e"), 8))
        assert server.history
        return told

    assert isinstance(run_virtual(story()), OutcomeUnknown)


def test_few_publishes_go_one_by_one_and_more_share_an_append() -> None:
    async def appends_of(many: int) -> int:
        server = MemoryServer(clock=LoopClock())
        log = Counting(server, Faults())
        ingress = Ingress(log)
        async with beside(ingress.run()):
            await asyncio.gather(*(ingress.publish(event(f"e{i}"), 10) for i in range(many)))
        assert [message.subject for message in server.history] == [event(f"e{i}").subject for i in range(many)]
        return log.appends

    assert run_virtual(appends_of(SINGLY_MAX)) == SINGLY_MAX
    assert run_virtual(appends_of(SINGLY_MAX + 1)) == 1


class Counting(MemoryLog):
    """Counts what is appended to it."""

    appends = 0

    async def append(self, writes: Sequence[Write], *, timeout_s: float = 5.0) -> Seq:
        self.appends += 1
        return await super().append(writes, timeout_s=timeout_s)
