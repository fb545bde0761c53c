"""Results that are too large for a journal entry: beside it in the log, whole or missed, and nowhere else."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from hocket import Agent, Context, Limits
from hocket.blob import CHUNK_BYTES, Blob
from hocket.clock import LoopClock
from hocket.effect import NotDone
from hocket.engine.runs import LONGEST_LOOK_S
from hocket.errors import ResultLost, ResultTooLarge
from hocket.log.base import Write
from hocket.log.memory import MemoryServer
from hocket.run import Entry
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event
from hocket_schemas.undoing import EffectDone, UndoRequested

EVENTS = Catalog()
LARGE = "x" * (10 * CHUNK_BYTES)


class Begun(Event, type="blob.begun.v1", catalog=EVENTS):
    pass


class Said(Event, type="blob.said.v1", catalog=EVENTS):
    text: str


Script = Callable[["Case"], Awaitable[None]]


class Case:
    """One handler on a bed."""

    def __init__(self, handler: Callable[[Context], Awaitable[str]], agent: Agent | None = None) -> None:
        self.agent = agent or Agent("runner")

        @self.agent.on(Begun, emits=[Said])
        async def begin(event: Begun, ctx: Context) -> Said:
            return Said(text=await handler(ctx))

        self.clock = LoopClock()
        self.server = MemoryServer(clock=self.clock)
        self.bed = Bed(self.agent, server=self.server)

    def play(self, script: Script | None = None, *, keys: Sequence[str] = "k") -> list[str]:
        """Begin a run for each key, follow the script, and return what was said in the end."""

        async def live() -> list[str]:
            async with self.bed:
                for key in keys:
                    await self.bed.publish(Begun(), key=key)
                await self.bed.settled()
                if script is not None:
                    await script(self)
                self.dead = self.bed.dead(self.agent)
                journals = self.server.since(1, [self.bed.names.all_journals], 10_000)
                self.entries = [Entry.from_json(message.data) for message in journals]
                self.left = self.pieces()
                return [said.text for said in self.bed.events(Said)]

        return run_virtual(live())

    async def later(self, days: float) -> None:
        """Set the clock forward, and let somebody look at it."""
        self.clock.advance(days * 86_400)
        await asyncio.sleep(LONGEST_LOOK_S + 1)
        await self.bed.settled()

    def pieces(self) -> list[Any]:
        return self.server.since(1, [f"{self.bed.names.root}.blob.>"], 10_000)


async def a_minute(case: Case) -> None:
    await asyncio.sleep(61)
    await case.bed.quiet()


def sized(text: str) -> str:
    return f"{len(text)} of {set(text)}"


def test_a_large_result_is_read_back_from_the_log_and_not_made_again() -> None:
    made = []

    async def talk() -> str:
        made.append(1)
        return LARGE

    async def wordy(ctx: Context) -> str:
        first = await ctx.step(talk)
        await ctx.sleep(60)
        return sized(first)

    case = Case(wordy)

    assert case.play(a_minute) == [sized(LARGE)]
    assert len(made) == 1
    assert len(case.left) == 11, "ten chunks and the quotation marks"
    (entry,) = [entry for entry in case.entries if entry.kind == "step"]
    assert entry.result == Blob.of(f'"{LARGE}"'.encode())


def test_result_and_entry_come_in_one_append() -> None:
    async def wordy(ctx: Context) -> str:
        return sized(await ctx.step_with(lambda: LARGE, step_name="talk"))

    case = Case(wordy)
    case.play()

    kinds = [message.subject.split(".")[2] for message in case.server.history]
    assert kinds[kinds.index("jrn") :][:13] == ["jrn", *["blob"] * 11, "cur"]


def test_equal_results_are_stored_once() -> None:
    async def talk() -> str:
        return LARGE

    async def twice(ctx: Context) -> str:
        return sized(await ctx.step(talk) + await ctx.step(talk))

    case = Case(twice)

    assert case.play(keys=("a", "b")) == [sized(LARGE + LARGE)] * 2
    assert len(case.left) == 11


def test_another_with_the_same_result_keeps_it_for_as_long_as_itself() -> None:
    agent = Agent("runner", limits=Limits(journal_kept=timedelta(days=2)))

    async def talk() -> str:
        return LARGE

    async def wordy(ctx: Context) -> str:
        text = await ctx.step(talk)
        await ctx.sleep(timedelta(days=0.5))
        return sized(text)

    async def script(case: Case) -> None:
        await case.later(1.0)
        await case.bed.publish(Begun(), key="later")
        await case.bed.settled()
        await case.later(1.2)
        assert case.pieces(), "two days after the first, but not after the second"
        await case.later(1.0)
        assert case.pieces() == []

    case = Case(wordy, agent)

    assert case.play(script) == [sized(LARGE)] * 2


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_result_that_is_not_whole_is_missed_aloud(damage: str) -> None:
    async def talk() -> str:
        return LARGE

    async def wordy(ctx: Context) -> str:
        text = await ctx.step(talk)
        await ctx.sleep(60)
        return sized(text)

    async def script(case: Case) -> None:
        subject = case.pieces()[3].subject
        if damage == "missing":  # as when a publisher has let it expire
            await case.server.connect().append([Write(subject, b"", ttl=timedelta(seconds=1))])
        else:
            await case.server.connect().append([Write(subject, b"y" * CHUNK_BYTES)])
        await a_minute(case)

    case = Case(wordy)

    assert case.play(script) == []
    assert [(letter["reason"], letter["attempts"]) for letter in case.dead] == [("ResultLost", 1)]
    assert {"missing": "1 of the 11 pieces", "damaged": "is damaged"}[damage] in case.dead[0]["error"]


def test_a_handler_may_help_itself_when_a_result_is_lost() -> None:
    async def talk() -> str:
        return LARGE

    async def wordy(ctx: Context) -> str:
        try:
            text = await ctx.step(talk)
        except ResultLost:
            return "lost"
        await ctx.sleep(60)
        return sized(text)

    async def script(case: Case) -> None:
        await case.server.connect().append([Write(case.pieces()[0].subject, b"y")])
        await a_minute(case)

    assert Case(wordy).play(script) == ["lost"]


def test_a_result_beyond_the_limit_is_refused_with_what_to_do() -> None:
    agent = Agent("runner", limits=Limits(result_bytes_max=1_000_000))

    async def talk() -> str:
        return "x" * 1_000_001

    case = Case(lambda ctx: ctx.step(talk), agent)

    assert case.play() == []
    (letter,) = case.dead
    assert letter["reason"] == "ResultTooLarge"
    assert "talk: result of 1000003 bytes as JSON, the limit is 1000000; keep it elsewhere" in letter["error"]
    assert case.entries == []


def test_a_handler_that_is_refused_a_result_goes_on_as_if_it_had_not_called() -> None:
    agent = Agent("runner", limits=Limits(result_bytes_max=1_000_000))

    async def talk() -> str:
        return LARGE

    async def modest(ctx: Context) -> str:
        try:
            return await ctx.step(talk)
        except ResultTooLarge:
            await ctx.sleep(60)
            return await ctx.step_with(lambda: "a word", step_name="modest")

    case = Case(modest, agent)

    assert case.play(a_minute) == ["a word"]
    assert [entry.name for entry in case.entries] == ["sleep", "modest"]


def test_an_effect_s_arguments_and_outcome_may_both_be_large() -> None:
    agent, keys = Agent("runner"), []

    @agent.effect()
    async def send(text: str, *, key: str) -> str:
        keys.append(key)
        if len(keys) == 1:
            raise NotDone("the line is busy")
        return text.upper()

    async def wordy(ctx: Context) -> str:
        answer = await ctx.step(send, LARGE)
        await ctx.sleep(60)
        return sized(answer)

    case = Case(wordy, agent)

    assert case.play(a_minute) == [sized(LARGE.upper())]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    *_, done = [entry for entry in case.entries if entry.kind == "effect"]
    assert isinstance(done.arguments, Blob)
    assert isinstance(done.result, Blob)
    assert len(case.left) == 22


def test_a_large_effect_is_undone_with_what_it_was_called_with_and_what_came_of_it() -> None:
    agent, undone = Agent("runner"), []

    @agent.effect()
    async def send(text: str, *, key: str) -> str:
        return text.upper()

    @send.undo
    async def recall(text: str, answer: str) -> None:
        undone.append((text, answer))

    async def wordy(ctx: Context) -> str:
        return sized(await ctx.step(send, LARGE))

    async def script(case: Case) -> None:
        (done,) = case.bed.events(EffectDone)
        assert len(done.model_dump_json()) < 1000, "the saga hears its name only"
        asked = {name: getattr(done, name) for name in ("effect", "effect_key", "arguments", "result", "large")}
        await case.bed.bus.command(UndoRequested(**asked), to="runner", key="k")
        await case.bed.settled()

    Case(wordy, agent).play(script)

    assert undone == [(LARGE, LARGE.upper())]


def test_a_run_does_not_hold_a_large_result_that_its_handler_has_let_go() -> None:
    held: list[int] = []

    async def talk() -> str:
        return LARGE

    async def many(ctx: Context) -> str:
        for _ in range(5):
            sized(await ctx.step(talk))
        gc.collect()
        entries = ctx.run.entries or {}
        held.extend(len(entry.to_json()) for entry in entries.values())
        return "all"

    assert Case(many).play() == ["all"]
    assert len(held) == 5
    assert max(held) < 1000


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_what_is_cut_is_put_together_again(size: int) -> None:
    body = bytes(i % 251 for i in range(size))
    blob = Blob.of(body)

    pieces = list(blob.cut(body))

    assert len(pieces) == blob.chunks
    assert blob.joined(pieces) == body
    with pytest.raises(ResultLost, match="damaged"):
        blob.joined([b"", *pieces[1:]])
