"""The outside world of the trip example: a real process with a database of its own, and all that can go wrong."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from examples.trip.desks import Booking, OutOfOrder, Refused, ask, book, cancel, find
from tests.fault.ledger import Ledger, ledger


@pytest.fixture
async def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ledger]:
    async with ledger(tmp_path) as outside:
        monkeypatch.setenv("TRIP_OUTSIDE", outside.url)
        yield outside


async def break_down(**fault: Any) -> None:
    await ask("POST", "/admin/faults", fault)


async def saga(name: str) -> dict[str, Any]:
    found: dict[str, Any] = (await ask("GET", "/ledger"))["sagas"].get(name, {})
    return found


async def until_open(name: str, refs: dict[str, list[str]]) -> None:
    async with asyncio.timeout(20):
        while (await saga(name)).get("open") != refs:  # noqa: ASYNC110  # it is another process that is waited for
            await asyncio.sleep(0.02)


async def outcomes(desk: str) -> list[str]:
    return [call["outcome"] for call in await ask("GET", f"/calls?desk={desk}")]


async def test_a_key_is_booked_once_and_found_again(outside: Ledger) -> None:
    first = await book("flights", "k-1", saga="s-1", cents=100, details={"route": "MUC-OSL"})
    second = await book("flights", "k-1", saga="s-1", cents=100)

    assert first == second == await find("flights", "k-1")
    assert (first.state, first.cents, first.details) == ("booked", 100, {"route": "MUC-OSL"})
    assert await find("hotels", "k-1") is None
    assert await saga("s-1") == {"booked": 1, "cancelled": 0, "net_cents": 100, "open": {"flights": [first.ref]}}


async def test_what_is_cancelled_nets_to_nothing_and_is_cancelled_once(outside: Ledger) -> None:
    for desk in ("flights", "hotels", "payments"):
        await book(desk, "k-1", saga="s-1", cents=100)

    for desk in ("payments", "hotels", "flights", "flights"):
        await cancel(desk, "k-1", saga="s-1")

    assert await saga("s-1") == {"booked": 3, "cancelled": 3, "net_cents": 0, "open": {}}
    assert await find("flights", "k-1") is None
    entries = (await ask("GET", "/ledger?saga=s-1"))["entries"]
    assert [entry["did"] for entry in entries] == ["booked"] * 3 + ["cancelled"] * 3


async def test_a_booking_that_comes_after_its_own_cancelling_is_refused(outside: Ledger) -> None:
    await cancel("flights", "k-1", saga="s-1")

    with pytest.raises(Refused, match="cancelled before"):
        await book("flights", "k-1", saga="s-1", cents=100)

    assert await saga("s-1") == {}


@pytest.mark.parametrize("after", [False, True])
async def test_a_desk_fails_as_often_as_it_is_told_before_or_after_it_did_the_work(
    outside: Ledger, after: bool
) -> None:
    await break_down(desk="hotels", does="book", how="fail", times=2, after=after, delay_s=7, say="no light")

    for _ in range(2):
        with pytest.raises(OutOfOrder, match="no light") as raised:
            await book("hotels", "k-1", saga="s-1")
        assert raised.value.retry_after_s == 7
    found = await find("hotels", "k-1")
    booking = await book("hotels", "k-1", saga="s-1")

    assert found == (booking if after else None)
    assert await outcomes("hotels") == ["fail", "fail", "done", "done"]
    assert (await saga("s-1"))["booked"] == 1


async def test_a_refusal_is_for_good_and_meets_only_whom_it_is_meant_for(outside: Ledger) -> None:
    await break_down(desk="payments", saga="poor", how="refuse", say="no money")

    with pytest.raises(Refused, match="no money"):
        await book("payments", "k-1", saga="poor")

    assert (await book("payments", "k-2", saga="rich")).state == "booked"
    assert await saga("poor") == {}


async def test_a_caller_that_does_not_wait_any_longer_cannot_tell_whether_it_was_done(outside: Ledger) -> None:
    await break_down(desk="flights", does="book", how="hang", key="k-1")
    await break_down(desk="flights", does="book", how="hang", key="k-2", after=True)

    for key in ("k-1", "k-2"):
        with pytest.raises(TimeoutError):
            await book("flights", key, saga="s-1", timeout_s=0.2)

    assert await find("flights", "k-1") is None
    assert isinstance(await find("flights", "k-2"), Booking)


async def test_what_is_late_is_done_although_nobody_waits_for_the_answer(outside: Ledger) -> None:
    await break_down(desk="flights", does="book", how="late", delay_s=0.4, times=1)

    with pytest.raises(TimeoutError):
        await book("flights", "k-1", saga="s-1", cents=100, timeout_s=0.1)
    before = await saga("s-1")
    await until_open("s-1", {"flights": ["FL-1"]})

    assert before == {}


async def test_what_is_on_its_way_is_not_said_to_be_nothing(outside: Ledger) -> None:
    await break_down(desk="payments", does="book", how="late", delay_s=0.6, times=1)

    late = asyncio.ensure_future(book("payments", "k-1", saga="s-1", cents=100))
    async with asyncio.timeout(10):
        while "late" not in await outcomes("payments"):  # noqa: ASYNC110  # it is another process that is waited for
            await asyncio.sleep(0.01)
    with pytest.raises(OutOfOrder, match="being booked") as raised:
        await find("payments", "k-1")
    booked = await late

    assert 0 < raised.value.retry_after_s <= 0.6
    assert await find("payments", "k-1") == booked


async def test_what_is_cancelled_before_it_comes_late_is_refused_when_it_comes(outside: Ledger) -> None:
    await break_down(desk="flights", does="book", how="late", delay_s=0.3, times=1)

    late = asyncio.ensure_future(book("flights", "k-1", saga="s-1", cents=100))
    async with asyncio.timeout(10):
        while "late" not in await outcomes("flights"):  # noqa: ASYNC110  # it is another process that is waited for
            await asyncio.sleep(0.01)
    await cancel("flights", "k-1", saga="s-1")

    with pytest.raises(Refused):
        await late
    assert await saga("s-1") == {}


async def test_a_repaired_desk_works(outside: Ledger) -> None:
    await break_down(how="fail")
    broken = await ask("GET", "/admin/faults")
    await ask("DELETE", "/admin/faults")

    assert [fault["how"] for fault in broken] == ["fail"]
    assert (await book("flights", "k-1")).state == "booked"


async def test_its_books_survive_its_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("flights", "hotels"):
        async with ledger(tmp_path) as outside:
            monkeypatch.setenv("TRIP_OUTSIDE", outside.url)
            await book(part, "k-1", saga="s-1", cents=100)
            await break_down(desk=part, how="fail", times=1)
            faults = await ask("GET", "/admin/faults")
            kept = await saga("s-1")
            os.kill(outside.pid, signal.SIGKILL)

    assert kept == {"booked": 2, "cancelled": 0, "net_cents": 200, "open": {"flights": ["FL-1"], "hotels": ["HO-2"]}}
    assert [fault["desk"] for fault in faults] == ["flights", "hotels"]


async def test_it_kills_its_caller_when_told_and_has_done_the_work_or_not(outside: Ledger) -> None:
    await break_down(desk="flights", how="kill", times=1, key="k-1")
    await break_down(desk="flights", how="kill", times=1, key="k-2", after=True)

    ends = []
    for key in ("k-1", "k-2"):
        code = f"import asyncio; from examples.trip import desks; asyncio.run(desks.book('flights', {key!r}))"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
        ends.append(await process.wait())

    assert ends == [-9, -9]
    assert (await find("flights", "k-1"), (await find("flights", "k-2")) is None) == (None, False)


async def test_an_outside_that_is_not_there_is_no_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIP_OUTSIDE", "http://127.0.0.1:1")

    with pytest.raises(ConnectionRefusedError):
        await book("flights", "k-1")


@pytest.mark.parametrize(
    ("path", "given", "says"),
    [
        ("/flights/book", {}, "key"),
        ("/flights/book", {"key": 7}, "key"),
        ("/flights/book", {"key": "k", "cents": -1}, "cents"),
        ("/flights/book", {"key": "k", "cents": 1.5}, "cents"),
        ("/flights/book", [], "object"),
        ("/flights/lose", {"key": "k"}, "nothing is served"),
        ("/admin/faults", {"how": "explode"}, "how"),
        ("/admin/faults", {"desk": []}, "desk"),
        ("/admin/faults", {"times": 0}, "times"),
        ("/admin/faults", {"nonsense": 1}, "no fault"),
    ],
)
async def test_what_means_nothing_is_refused_in_words(outside: Ledger, path: str, given: object, says: str) -> None:
    with pytest.raises(Refused, match=says):
        await ask("POST", path, given)


@pytest.mark.parametrize(
    "sent", [b"", b"\r\n\r\n", b"POST /flights/book HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"\0" * 99]
)
async def test_noise_on_the_line_ends_nothing(outside: Ledger, sent: bytes) -> None:
    host, port = outside.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    writer.write(sent)
    writer.write_eof()
    answer = await reader.read()
    writer.close()

    assert not answer or "error" in json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (await book("flights", "k-1")).state == "booked"


async def test_many_at_once_are_each_booked_once(outside: Ledger) -> None:
    await asyncio.gather(*(book("flights", f"k-{n % 50}", saga=f"s-{n % 50}", cents=1) for n in range(200)))

    total = await ask("GET", "/ledger")
    assert (total["net_cents"], len(total["sagas"])) == (50, 50)
