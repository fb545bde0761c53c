"""The code changes under open runs: they finish, and say what of their past the new code did not ask for."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.fault.services import hosted, journal, written

from hocket import Agent, Context
from hocket.clock import LoopClock
from hocket.log.memory import MemoryServer
from hocket.run import NOTICE, Entry, Run
from hocket.testing import Bed, run_virtual
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
RUNS = 100


class Begun(Event, type="redeploy.begun.v1", catalog=EVENTS):
    pass


class Nudged(Event, type="redeploy.nudged.v1", catalog=EVENTS):
    pass


class Ended(Event, type="redeploy.ended.v1", catalog=EVENTS):
    said: str


async def pack(what: str) -> str:
    return f"packed {what}"


def told(first: Any, second: Any) -> list[dict[str, Any]]:
    """Begin a run with one version of a handler, end it with another; return the notices that it left."""

    def version(handler: Any) -> Agent:
        agent = Agent("mover")

        @agent.on(Begun, emits=[Ended], waits=[Nudged])
        async def begin(event: Begun, ctx: Context) -> Ended:
            return Ended(said=await handler(ctx))

        return agent

    async def story() -> list[dict[str, Any]]:
        server = MemoryServer(clock=LoopClock())
        async with Bed(server=server) as bed:
            for handler, event in ((first, Begun()), (second, Nudged())):
                bed.agents = (version(handler),)
                crew = bed.crew()
                working = asyncio.create_task(crew.run())
                await bed.owned()
                await bed.publish(event, key="k")
                await bed.settled()
                crew.drain()
                await working
            assert len(bed.events(Ended)) == 1
            entries = [Entry.from_json(m.data) for m in server.since(1, [f"{bed.names.root}.jrn.>"], 99)]
            return [entry.result for entry in entries if entry.kind == NOTICE]

    return run_virtual(story())


async def before(ctx: Context) -> str:
    await ctx.step(pack, "books")
    await ctx.step(pack, "plates")
    await ctx.wait(Nudged)
    return "moved"


async def without_the_second(ctx: Context) -> str:
    await ctx.step(pack, "books")
    await ctx.wait(Nudged)
    return "moved"


async def with_other_arguments(ctx: Context) -> str:
    await ctx.step(pack, "books")
    await ctx.step(pack, "glasses")
    await ctx.wait(Nudged)
    return "moved"


async def without_any(ctx: Context) -> str:
    return "moved"


@pytest.mark.parametrize(
    ("after", "notice"),
    [
        (before, []),
        (without_the_second, [{"vanished": ["pack #2"], "changed": []}]),
        (with_other_arguments, [{"vanished": [], "changed": ["pack #2"]}]),
        (without_any, [{"vanished": ["pack", "pack #2", "wait redeploy.nudged.v1"], "changed": []}]),
    ],
    ids=["the same", "a step less", "other arguments", "nothing left"],
)
def test_what_vanished_or_changed_is_told(after: Any, notice: list[dict[str, Any]]) -> None:
    assert told(before, after) == notice


def test_what_was_already_told_is_told_once() -> None:
    """A handling that is repeated after its end does not take its own notice for something that vanished."""

    class Kept:
        async def load(self) -> list[tuple[int, Entry]]:
            return [(0, Entry(NOTICE, 0, NOTICE, ""))]

    run = Run(Kept())  # type: ignore[arg-type]  # of a memory it needs the journal alone

    assert asyncio.run(run.loaded()) == {}
    assert run.notice("") is None


MOVER = """
from hocket import Agent, Context, Event


class Begun(Event, type="move.begun.v1"):
    n: int


class Nudged(Event, type="move.nudged.v1"):
    pass


class Ended(Event, type="move.ended.v1"):
    said: list[str]


mover = Agent("mover", version="{version}")


def pack(n: int) -> str:
    return f"packed {{n}}"


def label(n: int) -> str:
    return f"labelled {{n}}"


def weigh(n: int) -> str:
    return f"weighed {{n}}"


@mover.on(Begun, waits=[Nudged])
async def begin(event: Begun, ctx: Context) -> Ended:
    said = [{before}]
    await ctx.wait(Nudged)
    return Ended(said=[*said, {after}])
"""

MANIFEST = """
name = "mover"
consumes = ["move.begun.v1"]
waits = ["move.nudged.v1"]
emits = ["move.ended.v1"]
"""


def step(name: str, called: str | None = None) -> str:
    return f"await ctx.step_with({name}, event.n, step_name={called or name!r})"


async def test_a_hundred_open_runs_finish_under_changed_code_and_name_what_vanished(
    tmp_path: Path, nats_url: str, domain: str
) -> None:
    old = f"{step('pack')}, {step('label')}, {step('weigh')}"
    renamed = f"{step('pack')}, {step('label', 'stick')}"
    place = written(tmp_path / "mover", MOVER.format(version="1", before=old, after=""), MANIFEST)

    async def publish(kind: str, data: dict[str, int]) -> None:
        await asyncio.gather(
            *(
                bus.publish_envelope(
                    Envelope(id=f"{kind}-{n}", source="/test", type=kind, data=data and {"n": n}, partitionkey=f"k-{n}")
                )
                for n in range(RUNS)
            )
        )

    async with hosted(place, nats_url, domain, output=tmp_path / "output") as (fleet, bus):
        await publish("move.begun.v1", {"n": 0})
        await heads(bus, RUNS)
        (place / "agent.py").write_text(MOVER.format(version="2", before=renamed, after=step("weigh", "weigh late")))
        fleet.kill("mover")
        await fleet.ready(30)
        async with asyncio.timeout(30), bus.subscribe("move.ended.v1", start="start") as ended:
            await publish("move.nudged.v1", {})
            said = {}
            while len(said) < RUNS:
                delivery = await anext(ended)
                said[delivery.address.key] = delivery.envelope.data["said"]
        notices = [entry for entry in await journal(bus, "k-7") if entry.kind == NOTICE]

    assert said == {f"k-{n}": [f"packed {n}", f"labelled {n}", f"weighed {n}"] for n in range(RUNS)}
    assert [notice.result for notice in notices] == [{"vanished": ["label", "weigh"], "changed": []}]
    noted = [line for line in (tmp_path / "output").read_text().splitlines() if "journal differs" in line]
    assert len(noted) == RUNS
    assert all("mover" in line and "label" in line for line in noted)


async def heads(bus: Any, count: int) -> None:
    """Wait until so many runs wait."""
    waiting = set()
    async with asyncio.timeout(30):
        async for message in bus.logs[0].scan([f"{bus.domain}.0.run.mover.>"], follow=True):
            if message.data and orjson.loads(message.data)["waits"]:
                waiting.add(message.subject)
            if len(waiting) == count:
                return
