"""Live output: a reader who comes late, loses pieces, or stays through a crash sees the whole text once."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from hocket import Agent, Context, Retry
from hocket.clock import LoopClock
from hocket.engine.live import Chunk, heard
from hocket.errors import MalformedEvent
from hocket.log.base import Message, Seq
from hocket.log.memory import MemoryServer
from hocket.observe.tail import tailing
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
WORDS = [f"word-{n} " for n in range(30)]


class Asked(Event, type="live.asked.v1", catalog=EVENTS):
    pass


class Written(Event, type="live.written.v1", catalog=EVENTS):
    text: str


def writer(*, fails_at: int | None = None) -> Agent:
    agent = Agent("writer")

    @agent.on(Asked, retry=Retry(first_s=0.1))
    async def write(event: Asked, ctx: Context) -> Written:
        for n, word in enumerate(WORDS):
            await ctx.stream(word)
            await asyncio.sleep(0.2)
            if n == fails_at and ctx.attempt == 1:
                raise RuntimeError("the model hung up")
        return Written(text="".join(WORDS))

    return agent


def read(agent: Agent, *, from_s: list[float]) -> list[str]:
    """Readers that come at these times; what each has read when the text is done."""

    async def story() -> list[str]:
        async with Bed(agent, server=MemoryServer(clock=LoopClock())) as bed:
            texts: list[list[Chunk]] = [[] for _ in from_s]

            async def reader(i: int) -> None:
                await asyncio.sleep(from_s[i])
                async with tailing(bed.bus, "k") as chunks:
                    async for chunk in chunks:
                        texts[i].append(chunk)

            readers = [asyncio.create_task(reader(i)) for i in range(len(from_s))]
            await bed.publish(Asked(), key="k")
            await bed.quiet()
            for task in readers:
                task.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            return ["".join(c.text for c in chunks if c.execution == chunks[-1].execution) for chunks in texts]

    return run_virtual(story())


def test_readers_who_come_early_late_and_very_late_all_read_the_whole_text() -> None:
    assert read(writer(), from_s=[0.0, 2.0, 5.0]) == ["".join(WORDS)] * 3


def test_after_a_failed_attempt_the_text_begins_again() -> None:
    assert read(writer(fails_at=10), from_s=[0.0, 1.0]) == ["".join(WORDS)] * 2


def told(chunks: list[Chunk]) -> list[str]:
    async def messages() -> AsyncIterator[Message]:
        for chunk in chunks:
            yield Message("hocket.live.k.writer.r", Seq(0), chunk.to_json())

    async def story() -> list[str]:
        return [chunk.text async for chunk in heard(messages())]

    return run_virtual(story())


@pytest.mark.parametrize("seed", range(20))
def test_pieces_that_are_lost_repeated_and_out_of_order_are_read_once_in_order(seed: int) -> None:
    rng = random.Random(seed)
    pieces = [Chunk("writer", "r", "1.1", i, word) for i, word in enumerate(WORDS)]
    first = [piece for piece in pieces if rng.random() < 0.7]
    rng.shuffle(first)

    assert told([*first, *pieces, *first]) == WORDS


def test_an_execution_that_was_followed_by_another_is_not_taken_up_again() -> None:
    old = [Chunk("writer", "r", "1.1", i, "old ") for i in range(3)]
    new = [Chunk("writer", "r", "2.1", i, "new ") for i in range(2)]

    assert told([*old[:2], *new, old[2]]) == ["old ", "old ", "new ", "new "]


def test_what_is_no_piece_is_refused() -> None:
    with pytest.raises(MalformedEvent, match="live output"):
        Chunk.from_json(b"[]")
