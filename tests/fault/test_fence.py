"""A deposed owner that still believes: what it commits is refused, on the twin and on the real server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from hocket.beside import beside
from hocket.engine import owner
from hocket.engine.commit import Committer
from hocket.engine.cursor import Cursor, Mark
from hocket.engine.transition import Cell, Tenure, Transition
from hocket.errors import Conflict, Fenced
from hocket.log import jetstream
from hocket.log.base import Log, Write
from hocket.log.memory import MemoryServer
from hocket.policy import Limits
from hocket.process import Process
from hocket.subjects import Names


@pytest.fixture(params=["twin", "jetstream"])
async def log(request: pytest.FixtureRequest, nats_url: str, domain: str) -> AsyncIterator[Log]:
    if request.param == "twin":
        yield MemoryServer(domain=domain).connect()
    else:
        async with jetstream.connect(nats_url, domain=domain) as (log,):
            yield log


async def claim(log: Log, instance: str) -> Tenure:
    names = Names(log.domain, log.shard)
    found = await owner.take_over(log, names, "counter", Process(instance=instance))
    return Tenure("counter", names, found.token, found.doubt, Cursor(found.mark or Mark()))


@pytest.mark.parametrize("kind", ["one event", "several events", "state", "cursor only"])
async def test_what_a_deposed_owner_commits_is_refused_and_leaves_nothing(log: Log, kind: str) -> None:
    names = Names(log.domain, log.shard)
    deposed = await claim(log, "first")
    successor = await claim(log, "second")
    before = await log.end()
    events = [Write(names.event("k", "counter", "c", i, "a.done.v1"), b"{}") for i in range(3)]
    transition = Transition(deposed, None)
    if kind == "one event":
        transition.events, transition.single = events[:1], True
    elif kind == "several events":
        transition.events = events
    else:
        transition.cell = Cell(names.actor("counter", "k"), 0, b"{}", None)
        transition.state = b'{"n":1}'

    committer = Committer(log, Limits(), Process().reach)
    async with beside(committer.run()), asyncio.timeout(10):
        if kind == "cursor only":
            deposed.cursor.begin(before)
            committer.finish(deposed, before)
        else:
            committer.put(transition)
        with pytest.raises((Fenced, Conflict)):
            await deposed.ended()

    assert await log.end() == before
    assert not successor.over
