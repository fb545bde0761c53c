"""Group commit: who is told when."""

import asyncio
from contextlib import aclosing

from hocket.beside import beside
from hocket.engine import owner
from hocket.engine.commit import HALVED_MIN, Committer
from hocket.engine.cursor import Cursor, Mark
from hocket.engine.transition import Tenure, Transition
from hocket.log.base import SINGLY_MAX, Seq, Write
from hocket.log.memory import MemoryServer
from hocket.policy import Limits
from hocket.process import Process
from hocket.subjects import Names

NAMES = Names("hocket", 0)


async def owning() -> tuple[Tenure, Committer]:
    """A tenure, and who commits for it."""
    log = MemoryServer().connect()
    found = await owner.take_over(log, NAMES, "counter", Process(instance="first"))
    tenure = Tenure("counter", NAMES, found.token, found.doubt, Cursor(Mark()))
    return tenure, Committer(log, Limits(), Process().reach)


async def commits_for(many: int) -> int:
    """How many appends it takes when many transitions wait, and each puts another when it is told."""
    tenure, committer = await owning()
    done = asyncio.Event()
    told: list[tuple[int, int]] = []

    def put(number: int, step: int) -> None:
        write = Write(NAMES.event(f"key-{number}", "counter", "cause", step, "a.done.v1"), b"{}")
        committer.put(Transition(tenure, None, [write], settled=lambda _: go_on(number, step)))

    def go_on(number: int, step: int) -> None:
        told.append((step, number))
        if step == 0:
            put(number, 1)
        elif len(told) == 2 * many:
            done.set()

    for number in range(many):
        put(number, 0)
    async with beside(committer.run()), asyncio.timeout(10):
        await done.wait()
        await committer.flush(5)
    assert sorted(told) == [(step, number) for step in (0, 1) for number in range(many)]
    return committer.commits


async def test_many_that_go_on_together_come_in_two_halves_so_that_the_log_need_not_wait() -> None:
    assert await commits_for(2 * HALVED_MIN) == 3


async def test_few_stay_together() -> None:
    assert await commits_for(HALVED_MIN - 1) == 2


async def flushes_of(many: int) -> int:
    """How many appends it takes until the cursors of so many agents that lag are in the log."""
    log = MemoryServer().connect()
    committer = Committer(log, Limits(), Process().reach)
    tenures = []
    for n in range(many):
        found = await owner.take_over(log, NAMES, f"agent-{n}", Process(instance="first"))
        tenures.append(Tenure(f"agent-{n}", NAMES, found.token, found.doubt, Cursor(Mark())))
    for tenure in tenures:
        tenure.cursor.begin(Seq(1000))
        committer.finish(tenure, Seq(1000))

    async with beside(committer.run()):
        await committer.flush(5)

    stored = [Mark.from_json(m.data).upto async for m in log.scan([NAMES.cursor(t.agent) for t in tenures])]
    assert stored == [1000] * many
    return committer.commits


async def test_few_cursors_that_lag_go_by_themselves_and_many_together() -> None:
    assert await flushes_of(SINGLY_MAX) == SINGLY_MAX
    assert await flushes_of(SINGLY_MAX + 1) == 1


async def appends_of(many: int) -> int:
    """How many appends it takes for so many transitions that a plain publish carries."""
    tenure, committer = await owning()
    stored: list[bool] = []
    for n in range(many):
        committer.put(Transition(tenure, None, [Write(answer(n), b"{}")], single=True, settled=stored.append))
    async with beside(committer.run()):
        await committer.flush(5)
    assert stored == [True] * many
    return committer.commits


async def test_few_plain_publishes_go_one_by_one_and_more_in_a_batch() -> None:
    assert await appends_of(SINGLY_MAX) == SINGLY_MAX
    assert await appends_of(SINGLY_MAX + 1) == 1


async def test_a_cursor_that_lags_is_written_though_there_is_always_a_little_more_to_do() -> None:
    log = MemoryServer().connect()
    found = await owner.take_over(log, NAMES, "counter", Process(instance="first"))
    tenure = Tenure("counter", NAMES, found.token, found.doubt, Cursor(Mark()))
    committer = Committer(log, Limits(), Process().reach)
    marks: list[int] = []

    def put(n: int) -> None:
        tenure.cursor.begin(Seq(1000 + n))
        write = Write(answer(n), b"{}")
        committer.put(Transition(tenure, Seq(1000 + n), [write], single=True, settled=lambda _: put(n + 2)))

    for n in range(2):
        put(n)
    cursors = log.scan([NAMES.cursor("counter")], follow=True)
    async with beside(committer.run()), asyncio.timeout(10), aclosing(cursors):
        while len(marks) < 3:
            marks.append(Mark.from_json((await anext(cursors)).data).upto)

    assert marks == sorted(set(marks))


async def test_the_fate_that_nobody_waits_for_any_more_stops_no_other_commit() -> None:
    tenure, committer = await owning()
    gone = asyncio.create_task(committer.fate_of(Transition(tenure, None)))
    await asyncio.sleep(0)

    gone.cancel()
    async with beside(committer.run()), asyncio.timeout(10):
        stored = await committer.fate_of(Transition(tenure, None))

    assert stored
    assert gone.cancelled()


def answer(n: int) -> str:
    return NAMES.event("a.key", "counter", f"cause-{n}", 0, "a.done.v1")
