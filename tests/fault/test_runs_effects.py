"""Effects on a service of the outside world, with a process that dies at every moment around the call.

HOCKET_EFFECT_ROUNDS sets the number of random rounds.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fault.ledger import CLIENT, Ledger, ledger
from tests.fault.services import written

from hocket.client import Bus, connect
from hocket.host.nursery import Nursery, Nursling
from hocket.observe.runs import effects, open_runs
from hocket.subjects import Names
from hocket_schemas.approvals import EffectResolved
from hocket_schemas.envelope import Envelope

ROUNDS = int(os.environ.get("HOCKET_EFFECT_ROUNDS", "12"))
WAYS = ("verify", "idempotent", "neither")
MOMENTS = ("before intent", "after intent", "before", "after", "after call", "after outcome")
"""Crash points, and between them the moments before and after the service has done what it was asked."""

UNKNOWN = ("after intent", "before", "after", "after call")
"""Where nobody who comes after can tell whether it happened."""

SIDE_BY_SIDE = 4
LOOK_S = 0.05

BUYER = """
from hocket import Agent, Context, Event


class Wanted(Event, type="{name}.wanted.v1"):
    pass


class Had(Event, type="{name}.had.v1"):
    ticket: str


buyer = Agent("{name}")


@buyer.effect(idempotent={once})
async def buy(route: str, *, key: str) -> str:
    return await purchase(key=key, buyer="{name}", once={once})


if {verify}:

    @buy.verify
    async def find(route: str, *, key: str) -> str | None:
        return await purchased(key)


@buyer.on(Wanted)
async def want(event: Wanted, ctx: Context) -> Had:
    return Had(ticket=await ctx.step(buy, "MUC-OSL"))
"""

MANIFEST = """
name = "{name}"
consumes = ["{name}.wanted.v1"]
emits = ["{name}.had.v1"]
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left when one buyer's processes have died and the last one has done its part."""

    deaths: int
    parked: bool
    had: list[str]
    sold: list[str]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the buyers share."""

    folder: Path
    url: str
    bus: Bus
    outside: Ledger
    nursery: Nursery

    @asynccontextmanager
    async def living(self, service: Path, point: str) -> AsyncIterator[Nursling]:
        """One process of a service that dies at a crash point, or at none."""
        ours = {"HOCKET_DOMAIN": self.bus.domain, "HOCKET_CRASH_AT": point}
        arguments = [str(service), "--instance", service.name, "--nats", self.url]
        nothing = os.open(os.devnull, os.O_RDWR)
        try:
            environment = {**os.environ, **self.outside.environment, **ours}
            process = await self.nursery.start(service.name, arguments, environment, stdin=nothing, output=nothing)
        finally:
            os.close(nothing)
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def owned(self, agent: str) -> None:
        """Wait until the agent's cursor begins: what is published from now on is handled."""
        cursor = Names(self.bus.domain, 0).cursor(agent)
        async with aclosing(self.bus.logs[0].scan([cursor], follow=True)) as records:
            async for _ in records:
                return

    async def had(self, agent: str) -> list[str]:
        """The tickets that the agent says it has."""
        return [delivery.envelope.data["ticket"] async for delivery in self.bus.read(f"{agent}.had.v1")]

    async def parked(self, agent: str) -> int:
        """The sequence of the head that says that its run waits for a person; 0: there is none."""
        async for run in open_runs(self.bus):
            if run.agent == agent and run.head.parked:
                head = await self.bus.logs[0].last(Names(self.bus.domain, 0).run(agent, run.key, run.run))
                return head.seq if head else 0
        return 0


@dataclass(frozen=True, slots=True)
class Case:
    """One buyer, and the moments at which its processes die, one after the other."""

    name: str
    way: str
    moments: Sequence[str]

    async def play(self, at: Surroundings) -> Outcome:
        """Live, die, come back, and let a person resolve what only a person can."""
        service = self._written(at.folder / self.name)
        data: dict[str, str] = {}
        wanted = Envelope(id="one", source="/test", type=f"{self.name}.wanted.v1", data=data, partitionkey=self.name)
        deaths = 0
        async with asyncio.timeout(60):
            for n, moment in enumerate(self.moments):
                struck = moment in ("before", "after")
                if struck:
                    at.outside.strike(self.name, moment)
                async with at.living(service, "" if struck else moment) as process:
                    if n == 0:
                        await at.owned(self.name)
                        await at.bus.publish_envelope(wanted)
                    deaths += await self._dies(at, process)
            parked: set[int] = set()
            while not await at.had(self.name):  # a strike that found nothing to hit may still come
                async with at.living(service, "") as process:
                    while process.returncode is None and not await at.had(self.name):
                        since = await at.parked(self.name)
                        if since and since not in parked:
                            await self._resolve(at)
                            parked.add(since)
                        await asyncio.sleep(LOOK_S)
        return Outcome(deaths, bool(parked), await at.had(self.name), at.outside.sold().get(self.name, []))

    def _written(self, place: Path) -> Path:
        once, verify = self.way == "idempotent", self.way == "verify"
        code = CLIENT + BUYER.format(name=self.name, once=once, verify=verify)
        return written(place, code, MANIFEST.format(name=self.name))

    async def _dies(self, at: Surroundings, process: Nursling) -> bool:
        """Wait until the process is killed; False when nothing is left to kill it at: its run is parked, or over."""
        while process.returncode is None:
            if await at.parked(self.name) or await at.had(self.name):
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await process.wait()
        assert process.returncode == -signal.SIGKILL
        return True

    async def _resolve(self, at: Surroundings) -> None:
        """Be the person who looks into the ledger."""
        (effect,) = await effects(at.bus, self.name)
        sold = at.outside.sold().get(self.name, [])
        resolved = EffectResolved(
            effect=effect.idempotency_key, happened=bool(sold), result=sold[0] if sold else None, by="ada"
        )
        await at.bus.command(resolved, to=self.name, key=self.name)


async def play(cases: Sequence[Case], folder: Path, url: str, domain: str) -> list[Outcome]:
    """Play cases side by side, with one ledger."""
    room = asyncio.Semaphore(SIDE_BY_SIDE)
    async with ledger(folder) as outside, Nursery() as nursery, connect(url, domain=domain) as bus:
        at = Surroundings(folder, url, bus, outside, nursery)

        async def one(case: Case) -> Outcome:
            async with room:
                return await case.play(at)

        return await asyncio.gather(*(one(case) for case in cases))


@pytest.mark.parametrize("way", WAYS)
async def test_an_effect_is_done_once_wherever_its_process_dies(
    way: str, tmp_path: Path, nats_url: str, domain: str
) -> None:
    cases = [Case(f"buyer-{n}", way, [moment]) for n, moment in enumerate(MOMENTS)]

    outcomes = await play(cases, tmp_path, nats_url, domain)

    for moment, outcome in zip(MOMENTS, outcomes, strict=True):
        parked = way == "neither" and moment in UNKNOWN
        assert (moment, outcome.deaths, outcome.parked, len(outcome.sold)) == (moment, 1, parked, 1)
        assert outcome.had == outcome.sold


async def test_effects_are_done_once_through_random_deaths(tmp_path: Path, nats_url: str, domain: str) -> None:
    rng = random.Random(7)
    cases = [
        Case(f"buyer-{n}", rng.choice(WAYS), [rng.choice(MOMENTS) for _ in range(rng.randint(1, 3))])
        for n in range(ROUNDS)
    ]

    outcomes = await play(cases, tmp_path, nats_url, domain)

    for case, outcome in zip(cases, outcomes, strict=True):
        assert len(outcome.sold) == 1, f"{case}: {outcome}"
        assert outcome.had == outcome.sold, f"{case}: {outcome}"
        assert outcome.deaths >= 1 or outcome.parked, f"{case}: {outcome}"
    assert sum(outcome.deaths for outcome in outcomes) > ROUNDS
