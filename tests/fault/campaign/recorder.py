"""Reads along, from outside: what the log takes, what the load and the world say, and what waits for whom."""

import asyncio
import time
from collections import Counter, deque
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson
from tests.fault.campaign.checking import Account, Fact, Tour

from hocket.engine.owner import Claim
from hocket.errors import HocketError, LogError, NotFound
from hocket.log.base import Log, Message
from hocket.subjects import Names, address, tokens_of
from hocket_schemas.moment import seconds_of

WINDOW_S = 0.5
"""After the strike, or the heal: what comes to the log within it counts as what had to wait."""

BEHIND_S = 0.25
"""So long after it came a message is looked at: what clients tell of it comes by another way."""

POPS_MAX = 5_000
SWEEP_S = 1.0
AGAIN_S = 0.2
VERIFIED_MAX = 10_000

CONSUMES = {
    "campaign.appended.v1": "counter",
    "campaign.applied.v1": "mirror",
    "campaign.asked.v1": "north",
    "campaign.north.due.v1": "north",
    "campaign.south.due.v1": "south",
    "campaign.booked.v1": "coordinator",
    "campaign.refused.v1": "coordinator",
}
"""Who has to answer an event with one of its own. The waiter answers with an entry in its journal."""

OVER = {"completed", "failed", "expired", "cancelled", "compensated"}


@dataclass(slots=True)
class Queue:
    """What waits for one agent, or for the log, in the order in which it came."""

    waiting: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Since when, and of which key or saga."""

    popped: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=POPS_MAX))
    """When something came, and when it was done."""

    def put(self, name: str, key: str, at_s: float) -> None:
        """Something comes."""
        self.waiting.setdefault(name, (at_s, key))

    def pop(self, name: str, at_s: float) -> None:
        """It is done."""
        came = self.waiting.pop(name, None)
        if came:
            self.popped.append((came[0], at_s))

    def done_s(self, until_s: float) -> float | None:
        """When the last was done of what had come until then; None: some of it still waits."""
        if any(came_s <= until_s for came_s, _ in self.waiting.values()):
            return None
        return max((done_s for came_s, done_s in self.popped if came_s <= until_s), default=0.0)


class Recorder:
    """The one who keeps the history, and has it checked as it goes on."""

    def __init__(self, log: Log, within_s: float) -> None:
        self.log = log
        self.account = Account()
        self.queues = {name: Queue() for name in {*CONSUMES.values(), "waiter", "writers"}}
        self.position = 0
        self.events = self.commands = self.emitted = 0
        self.worker_of: dict[str, str] = {}
        """Who owns each agent, by the name of its instance."""

        self.recent: deque[tuple[int, str]] = deque(maxlen=VERIFIED_MAX)
        """The newest events, by their sequence."""

        self.verified = 0
        self.losses = 0
        """How often the tail had to begin anew."""

        self.done = 0
        """Operations of which nothing more is to come."""

        self.looked_at = 0
        """How far what was read was looked at."""

        self._arrived: deque[tuple[float, Message]] = deque()
        self._within_s = within_s
        self._asked: dict[str, tuple[str, str]] = {}
        self._names = Names(log.domain, log.shard)
        self._closed: set[str] = set()

    @property
    def in_flight(self) -> int:
        """Operations that have begun and are not at their end."""
        return self.account.outcomes["asked"] - self.done

    async def follow(self) -> None:
        """Read the log as it grows, from its first message on."""
        names = self._names
        filters = [
            *(names.all_events, f"{names.root}.cmd.>", names.owners, names.all_dead),
            *(names.actors("counter"), names.actors("mirror"), f"{names.root}.jrn.waiter.>"),
        ]
        while True:
            try:
                async with aclosing(self.log.scan(filters, start=self.position + 1, follow=True)) as messages:
                    async for message in messages:
                        if message.seq <= self.position:
                            self.account.wrong("I1", f"sequence {message.seq} came after {self.position}")
                        self.position = message.seq
                        self._arrived.append((time.time(), message))
            except LogError:
                self.losses += 1
                await asyncio.sleep(AGAIN_S)

    async def look(self) -> None:
        """Take what has come, a little later."""
        while True:
            await asyncio.sleep(BEHIND_S / 5)
            while self._arrived and self._arrived[0][0] < time.time() - BEHIND_S:
                at_s, message = self._arrived.popleft()
                self.account.now_s = at_s
                self.take(message)

    def take(self, message: Message) -> None:
        """One message of the log."""
        self.looked_at = message.seq
        self.account.read_s = message.time_ns / 1e9
        kind, *tokens = tokens_of(message.subject)
        match kind:
            case "evt" | "cmd":
                self._event(message)
            case "own":
                claim = Claim.from_json(message.data)
                self.worker_of[tokens[0]] = claim.instance
                self.account.claim(tokens[0], claim.process or claim.instance, released=claim.released)
            case "act":
                ids = orjson.loads(message.data)["ids"] if message.data else []
                self.account.state(tokens[0], tokens[1], ids, message.seq)
            case "jrn":
                self.queues["waiter"].pop(tokens[1], self.account.now_s)
            case "dead":
                letter = orjson.loads(message.data) if message.data else {}
                self.account.letter(tokens[0], tokens[1], tokens[2])
                for queue in self.queues.values():
                    queue.pop(tokens[2], self.account.now_s)
                self.account.outcomes[f"dead letter: {letter.get('reason', '?')}"] += 1

    def _event(self, message: Message) -> None:
        try:
            where = address(message.subject)
            said = orjson.loads(message.data)
        except (NotFound, ValueError):
            self.account.wrong("I2", f"{message.subject} at {message.seq} is no event")
            return
        now_s = self.account.now_s
        self.events += 1
        self.commands += where.kind == "cmd"
        self.emitted += where.agent != "writers"
        cause, saga = said.get("causationid"), said.get("correlationid") or where.key
        at_s = seconds_of(said["time"]) if said.get("time") else now_s
        fact = Fact(
            message.seq, where.kind, where.type, where.key, where.agent, said["id"], cause, saga, said["data"], at_s
        )
        if where.kind == "evt":
            self.recent.append((message.seq, fact.id))
        if cause and fact.agent in self.queues:
            self.queues[fact.agent].pop(cause, now_s)
        if consumer := CONSUMES.get(fact.type):
            over = fact.saga in self.account.verdicts or fact.saga in self._closed
            if consumer in ("counter", "mirror") or not over:
                self.queues[consumer].put(fact.id, fact.saga, now_s)
        elif fact.type == "campaign.begun.v1":
            self.queues["waiter"].put(fact.key, fact.key, now_s)
        elif fact.type.startswith("hocket.saga.") and fact.type.split(".")[2] in OVER:
            self._over(fact.saga)
        ends = fact.type in ("hocket.saga.completed.v1", "hocket.saga.compensated.v1")
        answered = fact.type in ("campaign.mirrored.v1", "campaign.settled.v1")
        self.done += answered or (ends and fact.saga not in self.account.verdicts)
        self.account.fact(fact)

    def _over(self, saga: str) -> None:
        """Nobody has to answer what is still waiting in a saga that is over."""
        self._closed.add(saga)
        for name in ("north", "south", "coordinator"):
            waiting = self.queues[name].waiting
            for event_id in [event_id for event_id, (_, key) in waiting.items() if key == saga]:
                self.queues[name].pop(event_id, self.account.now_s)

    def heard(self, said: list[Any]) -> None:
        """The load tells what it asked for, and what it was told."""
        account, at_s = self.account, said[1]
        match said:
            case ["asked", _, kind, key, name]:
                self._asked[name] = (kind, key)
                account.asked(kind, key, name, at_s)
                self.queues["writers"].put(name, key, at_s)
            case ["tour", _, saga, positions, *_]:
                account.tours[saga] = Tour(positions, at_s)
            case ["ok", _, name, _, seq]:
                self.queues["writers"].pop(name, at_s)
                account.answered(name, *self._asked.pop(name), seq)
            case ["refused", _, name, took_s, error, typed]:
                self.queues["writers"].pop(name, at_s)
                self.done += 1
                self._asked.pop(name)
                account.refused(name, error, took_s, self._within_s, typed=typed)
            case ["closed", _, key]:
                account.closed(key, at_s)

    def witnessed(self, deed: list[Any]) -> None:
        """The world outside tells of a deed."""
        _, do, saga, n, key, changed = deed
        self.account.deed(do, saga, n, key, changed=changed)

    async def sweep(self) -> None:
        """Have judged what is over, again and again."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.account.now_s = time.time()
            waits = {key for name in ("counter", "mirror") for _, key in self.queues[name].waiting.values()}
            self.account.sweep(self.looked_at, waits)

    async def recovered(self, agents: set[str], since_s: float, within_s: float) -> float | None:
        """How long after a moment all was done that had come until shortly after it; None: not within the bound."""
        until_s = since_s + WINDOW_S
        while time.time() < since_s + within_s:
            if time.time() > until_s + 2 * BEHIND_S:
                done = [self.queues[name].done_s(until_s) for name in agents]
                if None not in done:
                    return max(0.0, max(done_s for done_s in done if done_s is not None) - since_s)
            await asyncio.sleep(0.1)
        return None

    def behind(self) -> dict[str, int]:
        """What waits now."""
        return {name: len(queue.waiting) for name, queue in self.queues.items() if queue.waiting}

    async def verify(self) -> None:
        """Look whether the newest that was seen is still in the log, as it was."""
        wanted = dict(list(self.recent)[-VERIFIED_MAX:])
        if not wanted:
            return
        last = max(wanted)
        found: Counter[int] = Counter()
        try:
            async with aclosing(self.log.scan([self._names.all_events], start=min(wanted))) as messages:
                async for message in messages:
                    if message.seq > last:
                        break
                    if message.seq in wanted:
                        found[message.seq] += orjson.loads(message.data)["id"] == wanted[message.seq]
        except HocketError:
            return  # it is looked at again after the next fault
        gone = sorted(seq for seq in wanted if not found[seq])
        self.verified += len(wanted) - len(gone)
        self.account.checked["I1 again"] += len(wanted)
        if gone:
            end = "postfix" if gone == sorted(wanted)[-len(gone) :] else "middle"
            examples = [(seq, wanted[seq]) for seq in gone[:5]]
            self.account.wrong("I1", f"{len(gone)} events were in the log and are no more (a {end}): {examples}")
