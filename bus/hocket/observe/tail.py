"""What a key's agents say while they work, for a reader who comes at any time and may lose the connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from hocket.beside import beside
from hocket.client import Bus
from hocket.engine.live import Chunk, heard
from hocket.errors import Unavailable
from hocket.subjects import Names, shard_of

ASK_EVERY_S = 1.0
"""How often everything said so far is asked for again, which heals whatever was lost on the way."""


@asynccontextmanager
async def tailing(bus: Bus, key: str) -> AsyncIterator[AsyncIterator[Chunk]]:
    """The live output of a key from the start of each open handling on: every piece once, in order."""
    log = bus.logs[shard_of(key, bus.shards)]
    names = Names(bus.domain, log.shard)

    async def ask() -> None:
        while True:
            with suppress(Unavailable):  # asked again when the connection is back
                await log.tell(names.want_live(key), b"")
            await asyncio.sleep(ASK_EVERY_S)

    async with log.listen(names.live_of_key(key)) as messages, beside(ask()):
        yield heard(messages)
