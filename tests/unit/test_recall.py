"""Reading back for many: everybody gets what they asked for, by few questions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from hocket.beside import beside
from hocket.engine.recall import ASKED_MAX, FOUND_AIM, Recall
from hocket.errors import Unavailable
from hocket.log.base import Expect, Write
from hocket.log.memory import MemoryLog, MemoryServer
from hocket.testing import run_virtual


class Counting(MemoryLog):
    """A log that counts its scans and takes a second for each."""

    questions = 0

    async def scan(self, filters: Sequence[str], **options: Any) -> AsyncIterator[Any]:  # type: ignore[override]  # a generator all the same
        self.questions += 1
        await asyncio.sleep(1)
        async for message in super().scan(filters, **options):
            yield message


async def stored(entries: int) -> Counting:
    """A log with fifty runs."""
    log = MemoryServer().connect()
    for run in range(50):
        await log.append([Write(f"hocket.0.evt.t.k.a.{run}.0", b"event")])
        await log.append([Write(f"hocket.0.jrn.a.k.{run}.{i}", str(i).encode()) for i in range(entries)])
    log.__class__ = Counting
    assert isinstance(log, Counting)
    return log


def play(script: Callable[[Recall, Counting], Awaitable[None]], entries: int = 2) -> None:
    async def live() -> None:
        log = await stored(entries)
        token = await log.append([Write("hocket.0.own.a", b"claim")])
        recall = Recall(log, Expect("hocket.0.own.a", token))
        async with beside(recall.serve()):
            await script(recall, log)

    run_virtual(live())


def test_who_asks_while_a_question_is_under_way_shares_the_next() -> None:
    async def script(recall: Recall, log: Counting) -> None:
        asked = [recall.read(f"hocket.0.evt.t.k.a.{run}.0", f"hocket.0.jrn.a.k.{run}.*") for run in range(50)]

        found = await asyncio.gather(recall.read("hocket.0.nothing"), *asked, recall.read("hocket.0.jrn.a.k.7.1"))

        assert found[0] == []
        assert [[m.data for m in messages] for messages in found[1:-1]] == [[b"event", b"0", b"1"]] * 50
        assert [m.data for m in found[-1]] == [b"1"]
        assert log.questions <= 2

    play(script)


def test_two_who_ask_for_the_same_both_get_it() -> None:
    async def script(recall: Recall, log: Counting) -> None:
        one, other = await asyncio.gather(recall.read("hocket.0.jrn.a.k.7.*"), recall.read("hocket.0.jrn.a.k.7.*"))

        assert one == other != []

    play(script)


def test_an_answer_that_does_not_know_the_claim_is_not_believed() -> None:
    async def live() -> None:
        log = await stored(1)
        past = await log.append([Write("hocket.0.own.a", b"claim")])
        recall = Recall(log, Expect("hocket.0.own.a", past + 1))
        asked = asyncio.ensure_future(recall.read("hocket.0.jrn.a.k.7.*"))

        with pytest.raises(Unavailable, match="before the claim"):
            await recall.serve()

        assert not asked.done()
        asked.cancel()

    run_virtual(live())


def test_long_journals_are_read_by_fewer_at_a_time() -> None:
    async def script(recall: Recall, log: Counting) -> None:
        for _ in range(2):
            await asyncio.gather(*(recall.read(f"hocket.0.jrn.a.k.{run}.*") for run in range(50)))

        assert recall._share == FOUND_AIM // 40 < ASKED_MAX

    play(script, entries=40)
