"""The faults of a campaign, one after another and some at once: drawn from the seed, timed, and recovered from."""

import asyncio
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field

from tests.fault.campaign.faults import LONG, MISSED, SERVER, Blow, Fault, Field

BOUND_S = 30.0
"""Recovery takes no longer, on a machine that has other things to do as well."""

PATIENCE_S = 90.0
"""What has not recovered after this will not."""

BOTH = 0.3
"""How often two strike at once."""

CALM_EACH = 20
CALM_S = 12.0
"""After so many faults it is calm for so long: for timers in time, and for the throughput."""

RARELY = 0.3
"""What takes long is drawn so much more rarely."""

FEW = 5
"""A campaign of so few kinds goes on until each has struck."""

TOGETHER = "two at once"


@dataclass(slots=True)
class Told:
    """What is known of one kind of fault."""

    struck: int = 0
    missed: int = 0
    recoveries: list[float] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    """How many operations each overlapped."""


@dataclass(slots=True)
class Storm:
    """Faults until the time is up."""

    where: Field
    kinds: dict[str, Fault]
    pause_s: tuple[float, float] = (0.3, 1.5)
    told: defaultdict[str, Told] = field(default_factory=lambda: defaultdict(Told))
    total: int = 0
    under_way: str = ""
    journal: list[tuple[float, str, str, float | None]] = field(default_factory=list)
    """When, what, on whom, and how long the recovery took."""

    _bag: list[str] = field(default_factory=list)

    async def run(self, until_s: float) -> None:
        """Strike, heal, and wait until all has recovered, again and again."""
        rng, account = self.where.rng, self.where.recorder.account
        account.calm_s = time.time()
        while time.time() < until_s or self._unstruck():
            names = [self._next(rng)]
            if rng.random() < BOTH and not SERVER.intersection(names):
                names.append(self._next(rng))
            account.calm_s = float("inf")
            await self._strike(names)
            account.calm_s = time.time()
            calm = self.total % CALM_EACH < len(names)
            await asyncio.sleep(CALM_S if calm else rng.uniform(*self.pause_s))

    def _unstruck(self) -> bool:
        """Whether some kind has not struck yet, in a campaign too short for that."""
        return len(self.kinds) <= FEW and any(not self.told[name].struck for name in self.kinds)

    def _next(self, rng: random.Random) -> str:
        """Each kind once, in some order, before any comes again; but what takes long only now and then."""
        if not self._bag:
            first = not self.total
            self._bag = [name for name in self.kinds if first or name not in LONG or rng.random() < RARELY]
            rng.shuffle(self._bag)
        return self._bag.pop()

    async def _strike(self, names: list[str]) -> None:
        recorder = self.where.recorder
        self.under_way = " and ".join(names)
        before = recorder.in_flight
        asked = recorder.account.outcomes["asked"]
        began_s = time.time()
        async with asyncio.TaskGroup() as tasks:
            striking = [tasks.create_task(self._one(name)) for name in names]
        blows = [task.result() for task in striking]
        landed = [(name, blow) for name, blow in zip(names, blows, strict=True) if blow.what != MISSED]
        for name, blow in zip(names, blows, strict=True):
            self.told[name].missed += blow.what == MISSED
        if not landed:
            return
        struck = {agent for _, blow in landed for agent in blow.struck}
        since_s = min(blow.since_s for _, blow in landed) if len(landed) == 1 else time.time()
        recovery_s = await recorder.recovered(struck, since_s, PATIENCE_S + time.time() - since_s)
        overlapped = before + recorder.account.outcomes["asked"] - asked
        label = landed[0][0] if len(landed) == 1 else TOGETHER
        for name, blow in landed:
            self.told[name].struck += 1
            self.told[name].in_flight.append(overlapped)
            self.total += 1
            self.journal.append((began_s, name, blow.what, recovery_s))
        if recovery_s is None or recovery_s > BOUND_S:
            waits = {name: list(recorder.queues[name].waiting.items())[:3] for name in struck}
            took = f"{recovery_s:.1f} s" if recovery_s is not None else f"more than {PATIENCE_S:g} s"
            text = (
                f"after {self.under_way} on {[blow.what for _, blow in landed]} recovery took {took}; waiting: {waits}"
            )
            recorder.account.wrong("I10", text)
        else:
            self.told[label].recoveries.append(recovery_s)
        recorder.account.checked["I10"] += 1
        if SERVER.intersection(names):
            await recorder.verify()
        self.under_way = ""

    async def _one(self, name: str) -> Blow:
        return await self.kinds[name](self.where)
