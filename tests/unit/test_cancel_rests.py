"""A request to cancel is about what rests too: it is dealt with when that has cleaned up."""

import asyncio
from collections.abc import Callable

import pytest
from tests.fault.test_cancel import told_late
from tests.unit.test_cancel import Case

from hocket import Context
from hocket.breaker import Breaker
from hocket.engine import worker
from hocket.engine.requests import listen
from hocket.engine.transition import Tenure
from hocket.log.base import Log, Message


def test_a_request_is_dealt_with_when_what_rests_has_cleaned_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def listen_late(log: Log, tenure: Tenure, hear: Callable[[Message], None]) -> None:
        await asyncio.sleep(7)  # so the request comes with the other events first
        await listen(log, tenure, hear)

    async def books(case: Case, ctx: Context) -> None:
        try:
            for n in range(2):
                await ctx.step(book, n)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            await ctx.step(case.tried("cleanup"))
            raise

    async def script(case: Case) -> None:
        await case.start()
        await asyncio.sleep(5)
        await case.cancel(saga="s")
        await case.bed.quiet()

    monkeypatch.setattr(worker, "listen", listen_late)
    case = Case(books)

    @case.agent.effect(idempotent=True, breaker=Breaker(failures=1, window_s=60, open_s=60))
    async def book(n: int, *, key: str) -> None:
        case.did.append(f"booked {n}")
        if n == 1:
            raise ConnectionError("for a test")

    told = case.play(script)

    assert [did for did in case.did if did.startswith("booked")] == ["booked 0", "booked 1"]
    assert len(told) == 1
    assert told_late(case.bed, case.agent) == []
