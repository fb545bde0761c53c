"""The runs that wait: found by their key and by their time, woken once, and forgotten when they go on."""

import asyncio
from typing import Any

from hocket.clock import LoopClock
from hocket.engine.runs import Head, Parked
from hocket.testing import run_virtual

ASKED = {"approval": "c.0", "digest": "d", "options": ["yes", "no"], "approvers": [], "quorum": 1, "details": "x" * 999}


def head(key: str, **changes: Any) -> Head:
    fields = {"seq": 1, "handler": "h", "version": "0", "since": "", "suspect": False, **changes}
    return Head(f"hocket.0.evt.t.{key}.a.c.0", **fields)


def test_runs_become_due_in_the_order_of_their_time_and_none_early() -> None:
    async def story() -> list[tuple[str, float]]:
        clock = LoopClock(epoch_s=0.0)
        parked = Parked(clock)
        for n, until_s in enumerate((30.0, 10.0, 20.0)):
            parked.park(f"run-{n}", head("k", until_s=until_s))
        return [((await parked.next_due())[0], clock.now_s()) for _ in range(3)]

    due = run_virtual(story())

    assert [run for run, _ in due] == ["run-1", "run-2", "run-0"]
    assert all(until_s <= at_s < until_s + 0.1 for (_, at_s), until_s in zip(due, (10, 20, 30), strict=True))


def test_a_run_is_woken_once_by_its_time_and_by_its_answer() -> None:
    async def story() -> None:
        parked = Parked(LoopClock(epoch_s=0.0))
        parked.park("run", head("k", until_s=10.0, waits=("t",)))

        assert parked.wake("run") is not None
        assert parked.wake("run") is None
        assert parked.of_key("k", "t") != [], "it is found until it goes on"
        try:
            async with asyncio.timeout(60):
                await parked.next_due()
        except TimeoutError:
            return
        raise AssertionError("its time woke it again")

    run_virtual(story())


def test_a_run_that_goes_on_leaves_nothing_behind() -> None:
    async def story() -> None:
        parked = Parked(LoopClock(epoch_s=0.0))
        for n in range(1000):
            parked.park("run", head("k", until_s=1e9 + n, waits=("t",)))
            parked.wake("run")
            parked.take_out("run")

        assert len(parked) == 0
        assert parked.of_key("k", "t") == []
        assert len(parked._heap) < 100

    run_virtual(story())


def test_what_people_are_asked_stays_in_the_log_but_for_its_terms() -> None:
    async def story() -> None:
        parked = Parked(LoopClock(epoch_s=0.0))
        parked.park("run", head("k", waits=("t",), approval=ASKED))

        asking = parked.asking("run", "c.0")

        assert asking is not None
        assert asking.approval == ("0", "d", ("yes", "no"), (), (), 1, None)
        assert parked.asking("run", "c.1") is None

    run_virtual(story())
