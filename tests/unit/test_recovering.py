"""An instance that has claimed is alive, however long it reads what the owners before have left."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from hocket import Agent, Limits
from hocket.beside import beside
from hocket.clock import LoopClock
from hocket.engine import owner
from hocket.log.base import Message
from hocket.log.memory import MemoryServer
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
LIMITS = Limits(silence_s=1.0, silence_at_start_s=2.0)
TAKES_S = 20.0


class Given(Event, type="recovering.given.v1", catalog=EVENTS):
    pass


def test_a_standby_waits_for_an_owner_that_takes_long_to_recover(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent("slow", limits=LIMITS)

    @agent.on(Given)
    async def take(event: Given) -> None:
        pass

    async def story() -> tuple[list[int], list[str]]:
        server = MemoryServer(clock=LoopClock())
        async with Bed(server=server) as bed, asyncio.timeout(100):
            bed.agents = (agent,)
            log = server.connect()
            scan = log.scan

            async def slowly(filters: Sequence[str], **options: Any) -> AsyncGenerator[Message, None]:
                if list(filters) == [bed.names.runs(agent.name)]:
                    await asyncio.sleep(TAKES_S)
                async for message in scan(filters, **options):
                    yield message

            monkeypatch.setattr(log, "scan", slowly)
            first = bed.crew_on(log, agent)
            second = bed.crew_on(server.connect(), agent)
            async with beside(first.run()):
                while server.newest(bed.names.owner(agent.name)) is None:
                    await server.changed()
                async with beside(second.run()):
                    await asyncio.sleep(TAKES_S / 2)
                    roles = [crew.instances[0].role for crew in (first, second)]
                    await first.owning()
                    return [crew.instances[0].tenures for crew in (first, second)], roles

    tenures, roles = run_virtual(story())

    assert roles == [owner.RECOVERING, owner.STANDBY]
    assert tenures == [1, 0]
