"""Cancelling from outside: where a request has to go, who has dealt with it, and what had been done until then."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from hocket.client import Bus, Receipt
from hocket.engine.cursor import Mark
from hocket.errors import NotFound
from hocket.ids import fresh
from hocket.observe.runs import OpenRun, open_runs
from hocket.observe.sagas import facts_in
from hocket.subjects import Names, shard_of, tokens_of
from hocket_schemas import gate
from hocket_schemas.cancels import CancelRequested, RunCancelled

LOOK_S = 0.1
"""How often to look whether everybody has dealt with it."""

Place = tuple[str, int]
"""An agent, and a shard."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is in the log."""

    id: str
    asked: CancelRequested
    receipts: tuple[Receipt, ...]
    """One for each shard that holds something of it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request has brought about so far."""

    runs: tuple[RunCancelled, ...]
    """In log order, shard after shard."""

    behind: tuple[str, ...]
    """The agents that have not dealt with it yet, though they are heard."""

    left: tuple[OpenRun, ...]
    """The runs that it is about and that are still open."""

    @property
    def complete(self) -> bool:
        """Whether there is nothing more to come."""
        return not self.behind and not self.left


async def request(bus: Bus, asked: CancelRequested, *, event_id: str | None = None) -> Request:
    """Put a request into the log, on every shard that holds something of what it is about.

    The same `event_id` again is the same request. Raises NotFound for a saga or a run that the log does not know.
    """
    event_id = event_id or fresh()
    kind, name = asked.scope
    keys: dict[int, tuple[str, str]] = {}
    if kind == "key":
        keys[shard_of(name, bus.shards)] = (name, name)
    elif kind == "run":
        run = await _open(bus, name)
        keys[run.shard] = (run.key, run.head.saga or run.key)
    else:
        async for fact in facts_in(bus, name):
            keys.setdefault(fact.shard, (fact.key, name))
        if not keys:
            raise NotFound(f"no event of saga {name!r} is in the log")
        keys[shard_of(name, bus.shards)] = (name, name)  # where the coordinator looks
    receipts = [await bus.publish(asked, key=key, saga=saga, event_id=event_id) for key, saga in keys.values()]
    return Request(event_id, asked, tuple(receipts))


async def outcome(
    bus: Bus, made: Request, *, alive: Callable[[], Iterable[Place]], listen_s: float, timeout_s: float
) -> Outcome:
    """Wait until every agent that is `alive` has dealt with a request, or for so long; say what came of it.

    An agent has when its cursor says so. For the first `listen_s` whoever has not is taken to be alive.
    """
    loop = asyncio.get_running_loop()
    until_s, heard_s = loop.time() + timeout_s, loop.time() + listen_s
    while True:
        places = [place for receipt in made.receipts for place in await _behind(bus, receipt)]
        if loop.time() >= heard_s:
            here = set(alive())
            places = [place for place in places if place in here]
        if not places or loop.time() >= until_s:
            break
        await asyncio.sleep(LOOK_S)
    runs = [run for receipt in made.receipts for run in await _told(bus, receipt, made.id)]
    left = [run async for run in open_runs(bus) if _is_about(made, run)]
    return Outcome(tuple(runs), tuple(sorted({agent for agent, _ in places})), tuple(left))


async def _open(bus: Bus, token: str) -> OpenRun:
    async for run in open_runs(bus):
        if run.run == token:
            return run
    raise NotFound(f"no run {token!r} is open")


async def _behind(bus: Bus, receipt: Receipt) -> list[Place]:
    """Who has not dealt with a request on one shard, as far as the cursors say."""
    found = []
    async with aclosing(bus.logs[receipt.shard].scan([Names(bus.domain, receipt.shard).cursors])) as messages:
        async for message in messages:
            mark = Mark.from_json(message.data)
            if mark.upto < receipt.seq or receipt.seq in mark.open:
                found.append((tokens_of(message.subject)[1], receipt.shard))
    return found


async def _told(bus: Bus, receipt: Receipt, request_id: str) -> list[RunCancelled]:
    names = Names(bus.domain, receipt.shard)
    told = []
    pattern = names.events_of_type(RunCancelled.event_type)
    async with aclosing(bus.logs[receipt.shard].scan([pattern], start=receipt.seq)) as messages:
        async for message in messages:
            event = gate.event_of(gate.read(message.data, None, message.headers), RunCancelled)
            if event.request == request_id:
                told.append(event)
    return told


def _is_about(made: Request, run: OpenRun) -> bool:
    kind, name = made.asked.scope
    if kind == "key":
        return run.key == name and any(run.head.seq < receipt.seq for receipt in made.receipts)
    return name == (run.run if kind == "run" else run.head.saga or run.key)


__all__ = ["Outcome", "Request", "outcome", "request"]
