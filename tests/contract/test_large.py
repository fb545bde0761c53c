"""What is large goes in one append like anything else, and what is small does not wait for it."""

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from tests.contract.worlds import ROOM, World, scanned, until

from hocket import Agent, Context, connect
from hocket.beside import beside
from hocket.blob import CHUNK_BYTES, Blob
from hocket.engine.handling import read
from hocket.engine.runs import Head
from hocket.errors import Conflict
from hocket.host.crew import Crew, running
from hocket.log import jetstream
from hocket.log.base import Expect, Write
from hocket.subjects import Names
from hocket_schemas import gate
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
MIB = 1 << 20


class Begun(Event, type="large.begun.v1", catalog=EVENTS):
    pass


class Woken(Event, type="large.woken.v1", catalog=EVENTS):
    pass


class Ended(Event, type="large.ended.v1", catalog=EVENTS):
    digest: str


def pieces(world: World, body: bytes) -> list[Write]:
    blob = Blob.of(body)
    return [
        Write(world.subject(f"blob.a.{blob.digest}.{i}"), piece, ttl=timedelta(days=1))
        for i, piece in enumerate(blob.cut(body))
    ]


async def test_ten_mebibytes_in_one_append_are_there_or_not_at_all(world: World) -> None:
    claim, other = world.subject("own.a"), world.subject("own.b")
    token = await world.log.append([Write(claim, b"{}"), Write(other, b"{}")]) - 1
    one, two = os.urandom(10 * MIB), os.urandom(10 * MIB)

    last = await world.log.append([*pieces(world, one), Write(world.subject("cur.a"), b"{}", Expect(claim, token))])
    with pytest.raises(Conflict):
        await world.log.append([*pieces(world, two), Write(world.subject("cur.a"), b"{}", Expect(claim, token + 1))])

    assert last == token + 1 + 41
    assert await world.log.end() == last
    for body, stored in ((one, True), (two, False)):
        subjects = [write.subject for write in pieces(world, body)]
        found = {m.subject: m.data for m in await scanned(world.log, subjects[:16])}
        found |= {m.subject: m.data for m in await scanned(world.log, subjects[16:])}
        assert [found.get(subject) for subject in subjects] == [p.data if stored else None for p in pieces(world, body)]


@asynccontextmanager
async def slow_line(url: str, bytes_per_s: int) -> AsyncIterator[str]:
    """A line to a server that takes no more in a second."""
    host, _, port = url.rpartition("//")[2].partition(":")

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, slowly: bool) -> None:
        while data := await source.read(bytes_per_s // 20):
            target.write(data)
            await target.drain()
            await asyncio.sleep(len(data) / bytes_per_s if slowly else 0)
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(host, int(port))
        with_end = (carry(reader, to_writer, True), carry(to_reader, writer, False))
        try:
            await asyncio.gather(*with_end)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            to_writer.close()

    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    async with await asyncio.start_server(serve, sock=listening, limit=1 << 16) as server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()


async def test_heartbeats_are_heard_while_something_large_goes_over_a_slow_line(nats_url: str, domain: str) -> None:
    loop = asyncio.get_running_loop()
    heard: list[float] = []

    async with (
        jetstream.connect(nats_url, domain=domain, max_bytes=ROOM) as [near],
        slow_line(nats_url, 1 * MIB) as url,
        jetstream.connect(url, domain=domain) as [far],
        near.listen(f"{domain}.hb.a.0") as beats,
    ):

        async def hear() -> None:
            async for _ in beats:
                heard.append(loop.time())

        async def beat() -> None:
            while True:
                await far.tell(f"{domain}.hb.a.0", b"{}")
                await asyncio.sleep(0.25)

        async with beside(hear(), beat()):
            began_s = loop.time()
            body = os.urandom(8 * MIB)
            where = f"{domain}.0.blob.a.x"
            writes = [Write(f"{where}.{i}", body[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES]) for i in range(32)]
            last = await far.append(writes, timeout_s=30)
            took_s = loop.time() - began_s

    assert last == 32
    assert took_s > 6, "longer than a dead connection or a silent owner is given"
    assert max(after - before for before, after in itertools.pairwise([began_s, *heard])) < 3


async def test_a_result_of_ten_mebibytes_is_read_back_by_the_next_owner(nats_url: str, domain: str) -> None:
    agent, made = Agent("runner"), []

    async def talk() -> str:
        made.append(os.urandom(5 * MIB).hex())
        return made[-1]

    @agent.on(Begun, emits=[Ended], waits=[Woken])
    async def begin(event: Begun, ctx: Context) -> Ended:
        text = await ctx.step(talk)
        await ctx.wait(Woken)
        return Ended(digest=Blob.of(text.encode()).digest)

    async with (
        jetstream.connect(nats_url, domain=domain, max_bytes=ROOM) as [log],
        connect(nats_url, domain=domain, publisher="test") as bus,
    ):
        names = Names(domain, 0)

        async def waits() -> bool:
            heads = await scanned(log, [names.runs("runner")])
            return any(Head.from_json(head.data).waiting for head in heads)

        async with running(Crew([agent], [log])) as crew:
            await crew.owning()
            await bus.publish(Begun(), key="k")
            await until(waits)
        async with running(Crew([agent], [log])) as crew:
            await crew.owning()
            await bus.publish(Woken(), key="k")

            async def ended() -> bool:
                return bool(await scanned(log, [names.events_of_type(Ended.event_type)]))

            await until(ended)
        (message,) = await scanned(log, [names.events_of_type(Ended.event_type)])

    assert len(made) == 1
    assert gate.event_of(read(message), Ended).digest == Blob.of(made[0].encode()).digest
