"""`hocket tail` on a real server: from the beginning, late, and over a connection that breaks."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from tests.fault.proxy import proxied
from tests.fault.services import hosted, written

from hocket_schemas.envelope import Envelope

WRITER = """
import asyncio
from pathlib import Path

from hocket import Agent, Context, Event


class Asked(Event, type="tale.asked.v1"):
    pass


class Told(Event, type="tale.told.v1"):
    pass


teller = Agent("teller")


async def until(name: str) -> None:
    while not (Path(__file__).parent / name).exists():
        await asyncio.sleep(0.01)


@teller.on(Asked)
async def tell(event: Asked, ctx: Context) -> Told:
    for n in range(40):
        if n == 20:
            await until("half")
        await ctx.stream(f"word-{n} ")
    await until("end")
    return Told()
"""

MANIFEST = """
name = "teller"
consumes = ["tale.asked.v1"]
emits = ["tale.told.v1"]
"""

WORDS = [f"word-{n} " for n in range(40)]


class Tail:
    """A `hocket tail`, and what it has shown so far."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.words: list[str] = []

    async def shows(self, words: list[str]) -> None:
        """Wait until it has shown at least so many, and hold what it has shown against them."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            while len(self.words) < len(words):
                self.words.append(orjson.loads(await self.process.stdout.readline())["text"])
        assert self.words == words

    async def ends(self) -> bytes:
        """Wait for its end, which comes with the last event; return what it has shown besides."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            rest = await self.process.stdout.read()
            assert await self.process.wait() == 0
        return rest


@asynccontextmanager
async def tail(url: str, domain: str) -> AsyncIterator[Tail]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hocket.cli.main", "tail", "k", "--until", "tale.told.v1", "--json", "--nats", url),
        env={**os.environ, "HOCKET_DOMAIN": domain},
        stdout=PIPE,
    )
    try:
        yield Tail(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_late_reader_and_one_that_was_cut_off_show_the_whole_text_once(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    service = written(tmp_path / "teller", WRITER, MANIFEST)
    async with (
        hosted(service, nats_url, domain) as (_, bus),
        proxied(nats_url) as proxy,
        tail(nats_url, domain) as early,
        tail(proxy.url, domain) as cut,
    ):
        asked = Envelope(id="one", source="/test", type="tale.asked.v1", data={}, partitionkey="k")
        await bus.publish_envelope(asked)
        await early.shows(WORDS[:20])
        await cut.shows(WORDS[:20])

        proxy.cut()
        (service / "half").touch()
        async with tail(nats_url, domain) as late:
            await early.shows(WORDS)
            await late.shows(WORDS)
            proxy.mend()
            await cut.shows(WORDS)
            (service / "end").touch()
            rest = [await each.ends() for each in (early, cut, late)]

    assert rest == [b"", b"", b""]
    assert proxy.connections >= 2, "nothing was cut"
