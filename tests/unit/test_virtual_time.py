"""Time that jumps from timer to timer passes for those who look at it, too."""

import asyncio

from hocket.testing import run_virtual

NEXT_TO_NOTHING_S = 5e-10


def test_who_waits_for_next_to_nothing_while_others_are_busy_gets_there() -> None:
    async def story() -> int:
        loop, looks = asyncio.get_running_loop(), 0
        await asyncio.sleep(1)
        due_s = loop.time() + NEXT_TO_NOTHING_S
        while loop.time() < due_s and looks < 10:
            looks += 1
            loop.call_soon(lambda: None)  # as long as something is ready to run, the time does not jump
            await asyncio.sleep(due_s - loop.time())
        return looks

    looks = run_virtual(story())

    assert looks < 10


def test_an_hour_takes_an_hour_of_it() -> None:
    async def story() -> float:
        began_s = asyncio.get_running_loop().time()
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time() - began_s

    took_s = run_virtual(story())

    assert abs(took_s - 3600) < 0.001
