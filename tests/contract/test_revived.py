"""What a server that is killed finds in its store again, though it was overwritten."""

import asyncio
from datetime import timedelta

from hocket.engine.runs import tombstone
from hocket.log.base import Log, Write
from hocket.log.jetstream import connect
from hocket.log.server import EmbeddedServer
from hocket.policy import Limits


async def test_a_run_that_has_ended_stays_ended_when_the_server_is_killed() -> None:
    async with EmbeddedServer(None) as server, connect(server.url, domain="killed") as [log]:
        ended, brief = "killed.0.run.a.k.ended", "killed.0.run.a.k.brief"
        await log.append([Write(ended, b"head"), Write(brief, b"head")])
        await log.append([tombstone(ended), Write(brief, b"", ttl=timedelta(seconds=1))])
        async with asyncio.timeout(10):
            while await log.last(brief) is not None:  # noqa: ASYNC110 - the log does not tell what it forgets
                await asyncio.sleep(0.1)

        await server.restart()

        assert await heads(log) == [(brief, b"head"), (ended, b"")], "only a tombstone that is there keeps a head away"


def test_the_end_of_a_run_is_kept_as_long_as_its_journal() -> None:
    kept = tombstone("killed.0.run.a.k.ended").ttl

    assert kept is None or kept >= Limits().journal_kept


async def heads(log: Log) -> list[tuple[str, bytes]]:
    return sorted([(message.subject, bytes(message.data)) async for message in log.scan(["killed.0.run.>"])])
