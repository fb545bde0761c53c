"""Those who want something of the agents, in a process of their own: writers, and people who decide.

`python -m tests.fault.campaign.load OPTIONS-AS-JSON` works until its standard input says `quiet`, then only answers
questions, until standard input ends. Every operation is told to standard output before it begins and when it has ended.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson
from tests.fault.campaign.events import Appended, Asked, Begun

from hocket.client import Bus, connect
from hocket.errors import HocketError
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested
from hocket_schemas.event import Event
from hocket_schemas.runtime import SagaStuck
from hocket_schemas.undoing import UndoDecided

TICK_S = 0.25
KEYS = 64
WRITERS = 8
EPOCH_OPERATIONS = 150
"""So long a key's list grows before another key takes its place."""

PATIENCE_S = 2.0
IN_FLIGHT_MAX = 6000


@dataclass(frozen=True, slots=True)
class Options:
    """What the load is."""

    url: str
    domain: str
    seed: int
    appends_per_s: float
    sagas_per_s: float
    timers_per_s: float
    timeout_s: float = 15.0


def tell(*said: Any) -> None:
    """Say something to whoever keeps the history."""
    sys.stdout.buffer.write(orjson.dumps(said) + b"\n")


@dataclass(slots=True)
class Load:
    """What is under way."""

    bus: Bus
    options: Options
    tasks: asyncio.TaskGroup
    rng: random.Random
    epochs: list[int] = field(default_factory=lambda: [0] * KEYS)
    begun: Counter[str] = field(default_factory=Counter)
    open: Counter[str] = field(default_factory=Counter)
    retired: set[str] = field(default_factory=set)
    in_flight: int = 0
    n: int = 0
    quiet: bool = False

    async def write(self, kind: str, event: Event, key: str, name: str) -> None:
        """One operation, from its request to its answer."""
        clock, began_s = time.perf_counter, time.perf_counter()
        tell("asked", time.time(), kind, key, name)
        sys.stdout.buffer.flush()  # whoever reads the log as well has to hear of it first
        self.open[key] += 1
        self.in_flight += 1
        try:
            receipt = await self.bus.publish(event, key=key, event_id=name, timeout_s=self.options.timeout_s)
            tell("ok", time.time(), name, clock() - began_s, receipt.seq)
        except HocketError as error:
            tell("refused", time.time(), name, clock() - began_s, type(error).__name__, True)
        except Exception as error:  # noqa: BLE001 - whatever else a client is told is a finding, which must be told
            tell("refused", time.time(), name, clock() - began_s, type(error).__name__, False)
        finally:
            self.in_flight -= 1
            self.open[key] -= 1
            self.retire(key)

    def retire(self, key: str) -> None:
        """Say of a key that nothing more comes of it."""
        if key in self.retired and not self.open[key]:
            tell("closed", time.time(), key)
            self.retired.discard(key)
            del self.open[key], self.begun[key]
        elif key not in self.begun and not self.open[key]:
            del self.open[key]

    async def paced(self, per_s: float, make: Any) -> None:
        """Have something made so often, however long it takes."""
        loop, due = asyncio.get_running_loop(), 0.0
        last_s = loop.time()
        while not self.quiet:
            await asyncio.sleep(TICK_S * (0.8 + 0.4 * self.rng.random()))
            due = min(due + per_s * (loop.time() - last_s), per_s * 2)
            last_s = loop.time()
            while due >= 1:
                due -= 1
                if self.in_flight < IN_FLIGHT_MAX:
                    self.n += 1
                    make()

    def append(self, writer: int) -> None:
        """One more for some key."""
        slot = self.rng.randrange(KEYS)
        key = f"s{slot}-{self.epochs[slot]}"
        self.begun[key] += 1
        self.tasks.create_task(self.write("append", Appended(writer=writer), key, f"w{writer}-{self.n}"))
        if self.begun[key] >= EPOCH_OPERATIONS:
            self.epochs[slot] += 1
            self.retired.add(key)

    def tour(self) -> None:
        """A saga of 3 to 7 positions. A sixth is refused somewhere, and of these a third cannot be undone at once."""
        positions, name = self.rng.randint(3, 7), f"tour-{self.n}"
        refused = self.rng.randint(1, positions - 1) if self.rng.random() < 1 / 6 else None
        jammed = self.rng.randrange(refused) if refused is not None and self.rng.random() < 1 / 3 else None
        tell("tour", time.time(), name, positions, refused, jammed)
        event = Asked(positions=positions, refused_at=refused, undo_fails_at=jammed)
        self.tasks.create_task(self.write("saga", event, name, name))

    def timer(self) -> None:
        """Something that waits for 1 to 8 s, and then for people."""
        name = f"timer-{self.n}"
        event = Begun(delay_s=round(self.rng.uniform(1, 8), 3))
        self.tasks.create_task(self.write("timer", event, name, name))

    async def decide(self) -> None:
        """Be the people: some decide twice, and not the same; what is stuck is tried again."""
        async with self.bus.subscribe(ApprovalRequested, SagaStuck) as deliveries:
            async for delivery in deliveries:
                event = delivery.event
                if isinstance(event, SagaStuck):
                    decision = UndoDecided(decision="retry", by="bob")
                    self.tasks.create_task(self.command(decision, "coordinator", event.saga, PATIENCE_S))
                elif isinstance(event, ApprovalRequested):
                    people = ["ada", "bob"] if self.rng.random() < 0.2 else ["ada"]
                    for who, option in zip(people, self.rng.sample(event.options, 2), strict=False):
                        said = ApprovalDecided(approval=event.approval, digest=event.digest, option=option, by=who)
                        key = delivery.address.key
                        self.tasks.create_task(self.command(said, event.agent, key, self.rng.random()))

    async def command(self, event: Event, to: str, key: str, after_s: float) -> None:
        """Tell an agent something a little later; again when it was not taken."""
        await asyncio.sleep(after_s)
        for _ in range(4):
            try:
                await self.bus.command(event, to=to, key=key, saga=key, timeout_s=self.options.timeout_s)
            except HocketError:
                continue
            return

    def hush(self) -> None:
        """Begin nothing more."""
        self.quiet = True
        self.retired |= set(self.begun)
        for key in list(self.retired):
            self.retire(key)


async def flush() -> None:
    """Pass on what was told."""
    while True:
        await asyncio.sleep(0.1)
        sys.stdout.buffer.flush()


async def work(options: Options) -> None:
    """Do all of it until standard input ends."""
    loop, orders = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with connect(options.url, domain=options.domain, publisher="writers") as bus, asyncio.TaskGroup() as tasks:
        load = Load(bus, options, tasks, random.Random(options.seed))
        beside = [tasks.create_task(flush()), tasks.create_task(load.decide())]
        for writer in range(WRITERS):
            each = options.appends_per_s / WRITERS
            tasks.create_task(load.paced(each, lambda writer=writer: load.append(writer)))
        tasks.create_task(load.paced(options.sagas_per_s, load.tour))
        tasks.create_task(load.paced(options.timers_per_s, load.timer))
        await orders.readline()
        load.hush()
        await orders.read()
        for task in beside:
            task.cancel()
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(work(Options(**orjson.loads(sys.argv[1]))))
