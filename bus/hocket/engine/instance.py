"""One instance of one agent on one shard: stands by, owns, and starts again at any doubt."""

import asyncio
import logging
import os
import socket
from contextlib import suppress
from typing import Any

import orjson

from hocket.agent import Agent
from hocket.beside import beside, pass_on_cancellation
from hocket.clock import rfc3339
from hocket.engine import owner
from hocket.engine.cancels import Cancels
from hocket.engine.commit import Committer
from hocket.engine.cursor import Cursor, Mark
from hocket.engine.doors import SharedDoors
from hocket.engine.ends import overwrite
from hocket.engine.holds import Holds
from hocket.engine.owner import Others
from hocket.engine.requests import TYPES, Requests
from hocket.engine.schedules import Ticker
from hocket.engine.transition import Tenure
from hocket.engine.worker import Worker
from hocket.errors import Fenced, LogError, MalformedEvent, PermissionDenied, TopologyMismatch
from hocket.log.base import Expect, Log, Seq, Write
from hocket.process import Process
from hocket.subjects import Names
from hocket.telemetry import note

RECOVERY_WAIT_S = (0.05, 2.0)
"""First and longest wait between recoveries that do not get far."""


class Instance:
    """Hosts an agent on a shard for as long as the process lives, as owner or standing by."""

    def __init__(
        self,
        agent: Agent[Any],
        log: Log,
        committer: Committer,
        *,
        process: Process,
        doors: SharedDoors,
        shards: int = 1,
        replay: bool = False,
    ) -> None:
        self.agent = agent
        self.role = owner.STANDBY
        self.tenures = 0
        """How often it has become owner."""

        self._token = Seq(0)
        """Of the newest tenure."""

        self._claim = Seq(0)
        """Of the takeover that is under way, or has led to that tenure."""

        self.owning = asyncio.Event()
        """Set while it is owner."""

        self._log = log
        self._committer = committer
        self._process = process
        self._doors = doors
        self._shards = shards
        self._replay = replay
        self._names = Names(log.domain, log.shard)
        self._others = Others(process.instance)
        self._requests = Requests(log, self._names, agent.name)
        self._worker: Worker | None = None
        self._draining = asyncio.Event()
        self._card = {
            "agent": agent.name,
            "version": agent.version,
            "shard": log.shard,
            "instance": process.instance,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "consumes": agent.consumes,
            "emits": agent.emits,
            "concurrency": agent.limits.concurrency,
        }
        """What it says of itself in each heartbeat and that stays the same."""

    def drain(self) -> None:
        """Ask for a stop in good order: take nothing new, finish what runs, commit, and leave."""
        self._draining.set()

    async def run(self) -> None:
        """Work until drained or cancelled. Raises what recovery cannot mend, PermissionDenied for one."""
        async with (
            self._log.listen(self._names.heartbeat(self.agent.name)) as heard,
            asyncio.TaskGroup() as tasks,
        ):

            async def hear() -> None:
                async for message in heard:
                    self._others.hear(message.data)
                    tenure = self._worker.tenure if self._worker else None
                    if tenure and self._others.newest_token > tenure.token:
                        tenure.end(Fenced(f"{self.agent.name}: a newer owner is heard"))

            background = [tasks.create_task(hear()), tasks.create_task(self._beat())]
            await self._start_over()
            for task in background:
                task.cancel()

    async def _start_over(self) -> None:
        """Stand by, own, and again: there is no other way to start, nor to go on after a doubt."""
        shortest_s, longest_s = RECOVERY_WAIT_S
        wait_s = shortest_s
        loop = asyncio.get_running_loop()
        while not self._draining.is_set():
            began_s = loop.time()
            try:
                stood_by = await self._stand_by()
                if not self._draining.is_set():
                    await self._own(stood_by=stood_by)
            except* (PermissionDenied, TopologyMismatch):
                raise
            except* (LogError, Fenced) as group:
                for cause in _leaves(group):
                    event = "fenced" if isinstance(cause, Fenced) else "recovers"
                    self._note(event, cause=str(cause), error=type(cause).__name__)
            pass_on_cancellation()
            if self._draining.is_set():
                return
            self.role, self._worker, self._claim = owner.STANDBY, None, Seq(0)
            wait_s = shortest_s if loop.time() - began_s > longest_s else min(longest_s, wait_s * 2)
            await asyncio.sleep(wait_s * (0.5 + self._process.rng.random()))

    async def _stand_by(self) -> bool:
        """Wait until there is no owner any more, or for the stop; return whether there was one."""
        limits, waited = self.agent.limits, False
        while holder := await owner.holder(self._log, self._names, self.agent.name, self._process.instance):
            self._note("stands by", owner=holder.claim.instance)
            waited = True
            await self._requests.read(await self._log.end())
            if await self._others.silence(holder, limits, self._draining) or self._draining.is_set():
                break
        return waited

    async def _own(self, *, stood_by: bool) -> None:
        """One tenure: claim, recover, then handle events until drained or until a doubt."""
        name = self.agent.name
        found = await owner.take_over(
            self._log, self._names, name, self._process, own=self._token, meanwhile=self._recover
        )
        self._token = found.token
        mark = found.mark or await self._first_mark(found.token)
        mark = mark.taken_over({head.seq for _, head in found.runs}, unclean=found.in_hand is not None)
        tenure = Tenure(name, self._names, found.token, found.doubt, Cursor(mark), (run for run, _ in found.runs))
        if stood_by:  # where there were two there may soon be two again
            tenure.followed = self._others.followed
        cancels = Cancels(self._process.clock, heeds=self.agent.heeds_cancels)
        holds = Holds(name, heeds=self.agent.heeds_cancels)
        for cancel in self._requests.cancels:
            cancels.know(cancel)
        for word in self._requests.words:
            with suppress(MalformedEvent):  # it becomes a dead letter when it is delivered
                holds.hear(word)
        worker = Worker(
            self.agent,
            self._log,
            self._committer,
            tenure,
            cancels,
            holds,
            self._doors,
            process=self._process,
            shards=self._shards,
            in_hand=found.in_hand,
        )
        ticker = Ticker(self.agent, self._log, self._committer, tenure, process=self._process, shards=self._shards)
        self.role, self._worker = owner.OWNER, worker
        self.tenures += 1
        self.owning.set()
        self._note("owns", token=found.token, floor=mark.floor, runs=len(found.runs))
        await self._tell()
        types = sorted({*self.agent.hears, *TYPES})
        filters = [*map(self._names.events_of_type, types), self._names.commands_for(name)]
        try:
            async with (
                self._log.consume(name, filters, start=mark.floor + 1) as consumption,
                beside(overwrite(self._committer, tenure, found.back)),
                beside(self._requests.digest(self._committer, tenure)),
            ):
                await worker.serve(found.runs, consumption, self._draining, ticker.serve(found.dues, holds.going))
        finally:
            self.owning.clear()
            tenure.end(Fenced(f"{name}: tenure {found.token} is over"))
        # Of those that were cut off one may be why there is too much in memory: then all of them are suspects.
        doubt = None if worker.cut_off and self._process.spent() else found.doubt
        await owner.release(self._log, self._names, name, found.token, doubt, self._process)
        self.role = owner.RELEASED
        self._note("released", token=found.token)
        await self._tell()

    async def _recover(self, token: Seq) -> None:
        """Read what people have asked.

        And be heard from the claim on: a standby would take what is silent for dead, however long recovery takes.
        """
        self.role, self._claim = owner.RECOVERING, token
        await self._requests.read(token)

    async def _first_mark(self, token: Seq) -> Mark:
        """Begin the cursor of an agent that is new to the log: at its start, or with what comes from now on."""
        mark = Mark(0 if self._replay else token)
        fence = Expect(self._names.owner(self.agent.name), token)
        await self._log.append([Write(self._names.cursor(self.agent.name), mark.to_json(), fence)])
        return mark

    async def _beat(self) -> None:
        """Say each second that this instance lives."""
        while True:
            await self._tell()
            await asyncio.sleep(self.agent.limits.heartbeat_s)

    async def _tell(self) -> None:
        """Send the agent's card. Nobody may hear it: then it is told again soon."""
        worker = self._worker
        card = {
            **self._card,
            "role": self.role,
            "token": worker.tenure.token if worker else self._claim,
            "lag": worker.lag if worker else None,
            **(worker.holding.card() if worker else {}),
            "handled": worker.handled if worker else 0,
            "time": rfc3339(self._process.clock.now_s()),
            **self._process.vitals(),
        }
        try:
            await self._log.tell(self._names.heartbeat(self.agent.name), orjson.dumps(card))
        except LogError as error:
            self._note("heartbeat unsent", error=repr(error))

    def _note(self, event: str, **fields: Any) -> None:
        note(
            logging.INFO,
            event,
            agent=self.agent.name,
            shard=self._log.shard,
            instance=self._process.instance,
            **fields,
        )


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    """The single errors of a group of groups."""
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
