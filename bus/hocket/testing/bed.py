"""A small running system on the log's twin, for tests of agents."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Self

import orjson

from hocket.agent import Agent
from hocket.approval import APPROVE
from hocket.client import Bus, Receipt, open_bus
from hocket.clock import Clock, LoopClock, ServerClock
from hocket.crashpoints import Reach, pass_by
from hocket.engine.cursor import Mark
from hocket.engine.requests import TYPES
from hocket.engine.runs import LONGEST_LOOK_S, Head
from hocket.host.crew import Crew, running
from hocket.log.memory import Faults, MemoryLog, MemoryServer
from hocket.observe.runs import decide, open_runs
from hocket.process import Process
from hocket.subjects import Names
from hocket_schemas.approvals import ApprovalDecided
from hocket_schemas.event import Event
from hocket_schemas.gate import event_of, read

QUIET_S = 30.0
"""How long `quiet` waits before it gives up, in the loop's seconds."""


class Bed:
    """Runs agents on a twin of the log and lets a test look at all of it.

    ```python
    async with Bed(pricer) as bed:
        await bed.publish(OrderPlaced(order="o-1"))
        await bed.quiet()
        assert bed.events(OrderPriced) == [OrderPriced(order="o-1", cents=100)]
    ```
    """

    def __init__(self, *agents: Agent[Any], server: MemoryServer | None = None) -> None:
        self.agents = agents
        self.server = server or MemoryServer(clock=LoopClock())
        self.names = Names(self.server.domain, self.server.shard)
        self.bus: Bus
        self._stack = AsyncExitStack()
        self._processes = 0

    async def __aenter__(self) -> Self:
        self.bus = await self._stack.enter_async_context(
            open_bus([self.server.connect()], publisher="test", clock=self.server.clock)
        )
        if self.agents:
            await self._stack.enter_async_context(running(self.crew()))
            await self.owned()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)

    def crew(self, *agents: Agent[Any], faults: Faults | None = None, reach: Reach = pass_by, **options: Any) -> Crew:
        """A crew as one more process of the system would host it; the test runs it."""
        log = self.server.connect(faults)
        return self.crew_on(log, *agents, reach=reach, **options)

    def crew_on(
        self, log: MemoryLog, *agents: Agent[Any], reach: Reach = pass_by, clock: Clock | None = None, **options: Any
    ) -> Crew:
        """The same, on a connection that the test keeps hold of, to cut it. `clock`: its machine's own."""
        self._processes += 1
        process = Process(
            instance=f"process-{self._processes}",
            clock=ServerClock(clock or self.server.clock),
            rng=random.Random(self._processes),
            reach=reach,
        )
        return Crew(agents or self.agents, [log], process=process, **options)

    async def publish(self, event: Event, *, key: str | None = None, **options: Any) -> Receipt:
        """Publish an event from outside."""
        return await self.bus.publish(event, key=key, **options)

    async def decide(self, option: str = APPROVE, *, by: str = "test", reason: str = "", edited: Any = None) -> None:
        """Decide on what is asked, once nothing moves any more; one approval has to be open."""
        await self.settled()
        [(run, asked)] = [(run, run.request) async for run in open_runs(self.bus) if run.request is not None]
        decision = ApprovalDecided(
            approval=asked.approval, digest=asked.digest, option=option, by=by, reason=reason, edited=edited
        )
        await decide(self.bus, run, decision)

    async def owned(self) -> None:
        """Wait until every agent of the bed has an owner with a cursor, and its schedules have begun."""
        wanted = [self.names.cursor(agent.name) for agent in self.agents]
        wanted += [self.names.due(agent.name, schedule) for agent in self.agents for schedule in agent.schedules]
        async with asyncio.timeout(QUIET_S):
            while any(self.server.newest(subject) is None for subject in wanted):
                await self.server.changed()

    async def quiet(self) -> None:
        """Wait until every event that an agent of the bed consumes is finished, and every run has ended."""
        await self._until(lambda agent: self._finished(agent) and not self.runs(agent))

    async def settled(self) -> None:
        """Wait until nothing moves any more: what is not finished waits, for a time or for an event."""
        await self._until(lambda agent: self._finished(agent) and all(map(self._waits, self.runs(agent))))

    async def pass_time(self, time: timedelta) -> None:
        """Set the log's clock forward, at once, and wait until what came due by that has settled.

        For a log whose clock is a `LoopClock`, as it is unless told otherwise. Give it a virtual loop: it takes some
        seconds of the loop's time until everybody has looked at the clock again.
        """
        clock = self.server.clock
        assert isinstance(clock, LoopClock), "the time of this clock is not ours to set"
        clock.advance(time.total_seconds())
        await asyncio.sleep(LONGEST_LOOK_S + 1)
        await self.settled()

    def events(self, *types: type[Event], key: str | None = None) -> list[Any]:
        """The typed events of these types in the log, in log order; all of one key if it is given."""
        found = []
        for event_type in types:
            pattern = self.names.events_of_key(key, event_type.event_type) if key else None
            filters = [pattern or self.names.events_of_type(event_type.event_type)]
            found += [(m.seq, event_of(read(m.data), event_type)) for m in self.server.since(1, filters, 1 << 30)]
        return [event for _, event in sorted(found, key=lambda pair: pair[0])]

    def dead(self, agent: Agent[Any]) -> list[dict[str, Any]]:
        """The dead letters of an agent, as their records say."""
        pattern = f"{self.names.root}.dead.{agent.name}.>"
        return [orjson.loads(m.data) for m in self.server.since(1, [pattern], 1 << 30)]

    def state(self, agent: Agent[Any], key: str) -> Any:
        """The committed state of an actor; None when it has none."""
        message = self.server.newest(self.names.actor(agent.name, key))
        return agent.state_type.model_validate_json(message.data) if message and agent.state_type else None

    async def _until(self, done: Callable[[Agent[Any]], bool]) -> None:
        async with asyncio.timeout(QUIET_S):
            while not all(done(agent) for agent in self.agents):
                await self.server.changed()

    def _finished(self, agent: Agent[Any]) -> bool:
        record = self.server.newest(self.names.cursor(agent.name))
        if record is None:
            return False
        mark = Mark.from_json(record.data)
        filters = [*map(self.names.events_of_type, {*agent.hears, *TYPES}), self.names.commands_for(agent.name)]
        waiting = self.server.since(mark.floor + 1, filters, 1 << 30)
        return not any(m.seq > mark.upto or m.seq in mark.open for m in waiting)

    def _waits(self, run: Head) -> bool:
        return run.waiting and (run.until_s is None or run.until_s > self.server.clock.now_s())

    def runs(self, agent: Agent[Any]) -> list[Head]:
        """The agent's open runs."""
        heads = self.server.since(1, [self.names.runs(agent.name)], 1 << 30)
        return [Head.from_json(message.data) for message in heads if message.data]
