"""Bugs to plant: each breaks one of the rules that a promise rests on, and names the promise that has to show it.

They are patches of the engine in a test's process. The product has no switch for any of them.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from tests.fault.checks import violations
from tests.fault.world import SCENES, lived

from hocket import asking, durable
from hocket.approval import judge
from hocket.calls import call
from hocket.context import Context
from hocket.engine import answers, commit, handling, owner, runs, worker
from hocket.engine.cursor import Cursor, Mark
from hocket.engine.dispatch import Dispatcher, Work
from hocket.engine.journal import Journals
from hocket.engine.runs import Parked
from hocket.engine.states import States
from hocket.engine.tally import Tally
from hocket.errors import OutcomeUnknown
from hocket.execution import Suspend
from hocket.ids import fresh
from hocket.ingress import Ingress
from hocket.log.base import Seq, Write
from hocket.run import DONE, SLEEP, STEP, Run
from hocket.saga.record import Record

Patch = pytest.MonkeyPatch


@dataclass(frozen=True, slots=True)
class Plant:
    """One bug."""

    name: str
    invariant: str
    """Which has to be found broken."""

    scene: str
    """In which of the worlds."""

    apply: Callable[[Patch], None]
    first: int
    """The first seed of that scene that shows it, as the engine is now: where a quick test begins to look."""


PLANTS: list[Plant] = []


def plant(name: str, invariant: str, scene: str, first: int) -> Callable[[Callable[[Patch], None]], None]:
    def add(apply: Callable[[Patch], None]) -> None:
        PLANTS.append(Plant(name, invariant, scene, apply, first))

    return add


def caught(bug: Plant, seeds: Iterable[int]) -> tuple[int | None, str]:
    """The first seed whose world shows the bug, and how it does; None: none of them."""
    with pytest.MonkeyPatch.context() as patch:
        bug.apply(patch)
        for seed in seeds:
            if SCENES[seed % len(SCENES)] != bug.scene:
                continue
            try:
                found = violations(lived(seed)[1])
            except (asyncio.CancelledError, ExceptionGroup):
                continue  # a bug may also break the runtime itself; here the checks have to see it
            shown = [violation for violation in found if violation.invariant == bug.invariant]
            if shown:
                return seed, str(shown[0])
    return None, ""


@plant("a publish is acked that may not be stored", "I1", "counting", 27)
def _(patch: Patch) -> None:
    attempt = Ingress._attempt

    async def hopeful(self: Any, group: Any) -> Seq:
        try:
            return await attempt(self, group)
        except OutcomeUnknown:
            return Seq(0)

    patch.setattr(Ingress, "_attempt", hopeful)


@plant("a refusal is a bare timeout", "I12", "counting", 4)
def _(patch: Patch) -> None:
    publish = Ingress.publish

    async def bare(self: Any, write: Write, deadline_s: float) -> Any:
        async with asyncio.timeout(deadline_s * 0.3):
            return await publish(self, write, deadline_s)

    patch.setattr(Ingress, "publish", bare)


@plant("what a failed attempt did to the state is kept", "I2", "counting", 0)
def _(patch: Patch) -> None:
    patch.setattr(States, "restore", lambda self, cell: None)


@plant("the fence is left out", "I5", "counting", 0)
def _(patch: Patch) -> None:
    def unfenced(write: Write) -> Write:
        return write._replace(expect=None) if write.expect and ".own." in write.expect.subject else write

    batch, single = commit._writes, commit._fenced_single
    patch.setattr(commit, "_writes", lambda group: ([unfenced(w) for w in batch(group)[0]], batch(group)[1]))
    patch.setattr(commit, "_fenced_single", lambda transition: unfenced(single(transition)))


@plant("a claim expects nothing of the one before", "I5", "counting", 5)
def _(patch: Patch) -> None:
    take_over = owner.take_over

    async def careless(log: Any, *arguments: Any, **options: Any) -> Any:
        append = log.append

        async def anyway(writes: Any, **more: Any) -> Seq:
            return await append([write._replace(expect=None) for write in writes], **more)

        return await take_over(_With(log, append=anyway), *arguments, **options)

    patch.setattr(owner, "take_over", careless)


class _With:
    """Something with one of its methods replaced."""

    def __init__(self, whole: Any, **replaced: Any) -> None:
        self.__dict__.update(replaced, _whole=whole)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


@plant("no event is a suspect", "I3", "counting", 4)
def _(patch: Patch) -> None:
    patch.setattr(owner, "_doubt_after", lambda before: 0)


@plant("the suspect's check is left out", "I3", "counting", 4)
def _(patch: Patch) -> None:
    async def unchecked(self: worker.Worker, work: Work, received: Any) -> bool:
        work.suspect = False
        return False

    patch.setattr(worker.Worker, "_is_done", unchecked)


@plant("the cursor passes open events", "I3", "counting", 4)
def _(patch: Patch) -> None:
    patch.setattr(Cursor, "mark", lambda self, finishing=(): Mark(max(self._open, default=self._upto)))


@plant("the cursor is committed before the effects", "I3", "counting", 2)
def _(patch: Patch) -> None:
    append = commit.Committer._append

    async def early(self: commit.Committer, group: Any, writes: Any) -> Seq:
        if len(writes) == 1 or ".cur." not in writes[-1].subject:
            return await append(self, group, writes)
        await append(self, group, writes[-1:])
        return Seq(await append(self, group, writes[:-1]) + 1)

    patch.setattr(commit.Committer, "_append", early)


@plant("an append without an answer is sent again", "I3", "counting", 15)
def _(patch: Patch) -> None:
    append = commit.Committer._append

    async def blind(self: commit.Committer, group: Any, writes: Any) -> Seq:
        while True:
            try:
                return await append(self, group, writes)
            except OutcomeUnknown:
                continue

    patch.setattr(commit.Committer, "_append", blind)


@plant("ids are random, not derived", "I8", "counting", 0)
def _(patch: Patch) -> None:
    patch.setattr(handling, "cause_of", lambda *what: fresh())


@plant("the newest event of a key goes first", "I4", "counting", 0)
def _(patch: Patch) -> None:
    add = Dispatcher.add

    def newest(self: Dispatcher, work: Work) -> None:
        add(self, work)
        queue = self._actors[work.key].queue
        if len(queue) > 2:
            queue.remove(work)
            queue.insert(1, work)

    patch.setattr(Dispatcher, "add", newest)


@plant("a run waits without its journal", "I3", "waiting", 1)
def _(patch: Patch) -> None:
    patch.setattr(Journals, "writes", lambda self, work, entries: [])


@plant("the open runs are miscounted", "I5", "waiting", 1)
def _(patch: Patch) -> None:
    patch.setattr(Tally, "advance", lambda self: None)


@plant("a run ends without a mark", "I3", "waiting", 41)
def _(patch: Patch) -> None:
    patch.setattr(runs, "TOMBSTONE_KEPT", timedelta(seconds=1))
    patch.setattr(worker, "ending", lambda names, *ended: [runs.tombstone(run) for run in ended])


@plant("steps are forgotten", "I9", "waiting", 1)
def _(patch: Patch) -> None:
    load = Journals.load

    async def forgetful(self: Journals, work: Work) -> list[Any]:
        return [(i, entry) for i, entry in await load(self, work) if entry.kind != STEP]

    patch.setattr(Journals, "load", forgetful)


@plant("what is emitted after a wait is counted from the top", "I3", "waiting", 1)
def _(patch: Patch) -> None:
    def go_on(self: Context[Any], wait: Any) -> None:
        self.state = self.fresh_state()

    patch.setattr(Context, "go_on", go_on)


@plant("state is kept over waits", "I3", "waiting", 1)
def _(patch: Patch) -> None:
    def go_on(self: Context[Any], wait: Any) -> None:
        self.emitted.clear()
        self.emitted_before = wait.emitted

    patch.setattr(Context, "go_on", go_on)


@plant("a timer fires early", "I7", "waiting", 1)
def _(patch: Patch) -> None:
    sleep = durable.sleep

    async def short(run: Run, process: Any, delay_s: float) -> None:
        again = any(entry.kind == SLEEP for entry in (await run.loaded()).values())
        ahead = _With(process.clock, now_s=lambda: process.clock.now_s() + again)
        try:
            await sleep(run, _With(process, clock=ahead), delay_s)
        except Suspend as wait:
            raise Suspend((wait.until_s or 0.0) - 1.0, replayed=wait.replayed) from None

    patch.setattr(durable, "sleep", short)


@plant("one answer ends two waits", "I3", "waiting", 1)
def _(patch: Patch) -> None:
    patch.setattr(Run, "take", lambda self, seq: True)


@plant("nobody is woken", "I10", "waiting", 1)
def _(patch: Patch) -> None:
    patch.setattr(Parked, "next_due", lambda self: asyncio.Event().wait())


@plant("a decision about something else counts", "I11", "waiting", 6)
def _(patch: Patch) -> None:
    def lax(request: Any, said: Any) -> Any:
        return judge(request, [each.model_copy(update={"digest": request.digest}) for each in said])

    patch.setattr(asking, "judge", lax)
    patch.setattr(answers, "judge", lax)


@plant("an effect with an unknown outcome is done again", "I9", "booking", 38)
def _(patch: Patch) -> None:
    async def blind(run: Run, process: Any, declared: Any, arguments: Any, keywords: Any, known: Any, **_: Any) -> Any:
        return False, None, known

    patch.setattr(durable, "_find_out", blind)


@plant("an effect's key is random, not derived", "I9", "booking", 68)
def _(patch: Patch) -> None:
    patch.setattr(durable, "key_of", lambda *what: fresh())
    remember = Run.remember

    async def keyless(self: Run, entry: Any, effect: Any = None) -> Any:
        return await remember(self, replace(entry, key=fresh()) if entry.key and entry.phase != DONE else entry, effect)

    patch.setattr(Run, "remember", keyless)


@plant("an effect's outcome is recorded before its call", "I6", "booking", 3)
def _(patch: Patch) -> None:
    async def first(run: Run, process: Any, declared: Any, arguments: Any, keywords: Any, known: Any) -> Any:
        async def later() -> None:
            await asyncio.sleep(0.5)
            await call(declared.function, arguments, keywords | {"key": known.key})

        task = asyncio.ensure_future(later())
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return replace(known, phase=DONE, result=b'"early"')

    patch.setattr(durable, "_do", first)


@plant("undoing goes in the order of doing", "I6", "booking", 3)
def _(patch: Patch) -> None:
    go_on = Record._go_on

    def forward(self: Record) -> Any:
        self.effects.reverse()
        try:
            return go_on(self)
        finally:
            self.effects.reverse()

    patch.setattr(Record, "_go_on", forward)
