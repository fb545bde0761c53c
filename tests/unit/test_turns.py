"""Which keys take their turns in one task, and what they notice of it: nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar

import pytest

from hocket.engine.dispatch import Actor, Dispatcher, Work
from hocket.log.base import Seq

DEADLINE_S = 10.0
WORD: ContextVar[str] = ContextVar("WORD", default="")


Turn = Callable[[Work], Awaitable[None]]


def dispatcher_of(turn: Turn, tasks: asyncio.TaskGroup, *, concurrency: int) -> Dispatcher:
    """One that gives turns."""

    async def take(actor: Actor, work: Work) -> None:
        await turn(work)

    return Dispatcher(take, tasks, concurrency, steps_aside=lambda work: False, paused=False)


async def take_turns(keys: Sequence[str], turn: Turn, *, concurrency: int = 8) -> None:
    """Give each key a turn, as if their events had come together."""
    async with asyncio.TaskGroup() as tasks:
        dispatcher = dispatcher_of(turn, tasks, concurrency=concurrency)
        for n, key in enumerate(keys, start=1):
            dispatcher.add(Work(Seq(n), key, suspect=False))
        assert await dispatcher.comes_to(lambda: dispatcher.quiet, DEADLINE_S)


async def test_keys_that_wait_for_nothing_share_a_task() -> None:
    tasks = []

    async def turn(work: Work) -> None:
        tasks.append(asyncio.current_task())

    await take_turns("abcd", turn)

    assert len(tasks) == 4
    assert len(set(tasks)) == 1


async def test_a_key_that_waits_holds_up_no_other() -> None:
    over, order = asyncio.Event(), []

    async def turn(work: Work) -> None:
        if work.key == "a":
            await over.wait()
        order.append(work.key)
        if work.key == "d":
            over.set()

    await take_turns("abcd", turn)

    assert order == ["b", "c", "d", "a"]


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_what_a_handler_sets_in_its_context_no_other_key_sees(concurrency: int) -> None:
    seen = []

    async def turn(work: Work) -> None:
        seen.append(WORD.get())
        WORD.set(work.key)

    await take_turns("abcd", turn, concurrency=concurrency)

    assert seen == ["", "", "", ""]


async def test_a_task_in_which_a_turn_has_waited_takes_no_other_key() -> None:
    tasks: dict[str, object] = {}

    async def turn(work: Work) -> None:
        tasks[work.key] = asyncio.current_task()
        if work.key in "bd":
            await asyncio.sleep(0)

    await take_turns("abcdef", turn, concurrency=2)

    assert tasks["a"] is tasks["b"]
    assert len({tasks["b"], tasks["d"], tasks["f"]}) == 3


async def test_a_handler_that_cancels_its_task_cancels_no_other_key() -> None:
    over = []

    async def turn(work: Work) -> None:
        if work.key == "a":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            return
        await asyncio.sleep(0)
        over.append(work.key)

    await take_turns("abc", turn, concurrency=1)

    assert over == ["b", "c"]


async def test_no_more_keys_than_allowed_have_their_turn_at_once() -> None:
    at_turn, most = 0, 0

    async def turn(work: Work) -> None:
        nonlocal at_turn, most
        at_turn += 1
        most = max(most, at_turn)
        await asyncio.sleep(0)
        at_turn -= 1

    await take_turns("abcdefgh", turn, concurrency=3)

    assert most == 3
    assert at_turn == 0


async def test_who_had_room_while_another_waited_aside_leaves_it_again() -> None:
    at_turn, most = 0, 0

    async def turn(work: Work) -> None:
        nonlocal at_turn, most
        if work.key == "a":
            with dispatcher.aside():
                await asyncio.sleep(0)
        at_turn += 1
        most = max(most, at_turn) if work.key > "c" else most
        await asyncio.sleep(0)
        at_turn -= 1

    async with asyncio.TaskGroup() as tasks:
        dispatcher = dispatcher_of(turn, tasks, concurrency=1)
        for n, key in enumerate("abcdefgh", start=1):
            dispatcher.add(Work(Seq(n), key, suspect=False))
        assert await dispatcher.comes_to(lambda: dispatcher.quiet, DEADLINE_S)

    assert most == 1
