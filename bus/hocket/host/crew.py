"""Several agents in one process: they share its committers, and stop together in good order."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from hocket.agent import Agent
from hocket.beside import beside
from hocket.engine.commit import Committer
from hocket.engine.doors import SharedDoors
from hocket.engine.instance import Instance
from hocket.engine.timekeeping import right
from hocket.log.base import Log
from hocket.policy import Limits
from hocket.process import Process


class Crew:
    """The instances of some agents on every shard of a domain."""

    def __init__(
        self,
        agents: Sequence[Agent[Any]],
        logs: Sequence[Log],
        *,
        process: Process | None = None,
        replay: Mapping[str, bool] | None = None,
    ) -> None:
        self.process = replace(process or Process(), logs=tuple(logs))
        limits = agents[0].limits if agents else Limits()
        self.committers = [Committer(log, limits, self.process.reach) for log in logs]
        doors = SharedDoors(logs, self.process)
        self.instances = [
            Instance(
                agent,
                log,
                committer,
                process=self.process,
                doors=doors,
                shards=len(logs),
                replay=(replay or {}).get(agent.name, False),
            )
            for agent in agents
            for log, committer in zip(logs, self.committers, strict=True)
        ]

    async def owning(self) -> None:
        """Wait until every instance owns its shard; for a crew that shares its agents with no other."""
        for instance in self.instances:
            await instance.owning.wait()

    def drain(self) -> None:
        """Ask all of them to stop in good order."""
        for instance in self.instances:
            instance.drain()

    async def run(self) -> None:
        """Work until drained or cancelled; the first that fails ends them all."""
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(committer.run()) for committer in self.committers]
            others += [tasks.create_task(right(self.process.clock, log)) for log in self.process.logs[:1]]
            await _all(instance.run() for instance in self.instances)
            for task in others:
                task.cancel()


@asynccontextmanager
async def running(crew: Crew) -> AsyncIterator[Crew]:
    """A crew at work for as long as the block lasts; at its end it is drained."""
    async with beside(crew.run()) as (task,):
        yield crew
        crew.drain()
        await task


async def _all(coroutines: Any) -> None:
    async with asyncio.TaskGroup() as tasks:
        for coroutine in coroutines:
            tasks.create_task(coroutine)
