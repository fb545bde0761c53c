"""Real processes on a real server: killed, stopped and continued, deposed; what the log holds afterwards."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import orjson
import pytest

from hocket.client import Bus, Receipt, connect
from hocket.host import health
from hocket.host.supervisor import Fleet
from hocket.log import jetstream
from hocket.log.base import Message, Write
from hocket.subjects import Names
from hocket_schemas.envelope import Envelope

KEYS = 100

COUNTER = """
from pydantic import BaseModel

from hocket import Agent, Context, Event


class Ordered(Event, type="kill.ordered.v1"):
    n: int


class Counted(Event, type="kill.counted.v1"):
    n: int
    place: int


class Applied(BaseModel):
    numbers: list[int] = []


counter = Agent("counter", state=Applied)


@counter.on(Ordered)
async def count(event: Ordered, ctx: Context[Applied]) -> Counted | None:
    ctx.state.numbers.append(event.n)
    return Counted(n=event.n, place=len(ctx.state.numbers)) if event.n % 3 else None
"""

MANIFEST = """
name = "counter"
consumes = ["kill.ordered.v1"]
emits = ["kill.counted.v1"]
"""


@pytest.fixture
def service(tmp_path: Path) -> Path:
    folder = tmp_path / "counter"
    folder.mkdir()
    (folder / "agent.py").write_text(COUNTER)
    (folder / "agent.toml").write_text(MANIFEST)
    return folder


async def order(bus: Bus, n: int) -> Receipt:
    key = f"key-{n % KEYS}"
    data = {"n": n}
    envelope = Envelope(id=f"order-{n}", source="/test", type="kill.ordered.v1", data=data, partitionkey=key)
    return await bus.publish_envelope(envelope, timeout_s=60)


async def states(bus: Bus, agent: str = "counter") -> dict[str, list[int]]:
    names = Names(bus.domain, 0)
    found = {}
    async for message in bus.logs[0].scan([names.actors(agent)]):
        found[message.subject.rpartition(".")[2]] = orjson.loads(message.data)["numbers"]
    return found


async def fold(bus: Bus) -> dict[str, list[int]]:
    """What the states have to be: each key's orders in log order."""
    folded: dict[str, list[int]] = {}
    async for delivery in bus.read("kill.ordered.v1"):
        folded.setdefault(delivery.address.key, []).append(delivery.envelope.data["n"])
    return folded


async def answers(bus: Bus) -> list[int]:
    return sorted([delivery.envelope.data["n"] async for delivery in bus.read("kill.counted.v1")])


async def until_all_finished(bus: Bus, last: int, agent: str = "counter", *, within_s: float = 60) -> None:
    """Wait until an agent's cursor has nothing open up to a sequence."""
    cursor = Names(bus.domain, 0).cursor(agent)
    async with asyncio.timeout(within_s):
        async for message in bus.logs[0].scan([cursor], follow=True):
            mark = orjson.loads(message.data)
            if not mark["open"] and mark["upto"] >= last:
                return


async def test_ten_thousand_events_under_a_kill_each_second_are_each_applied_once_in_order(
    service: Path, nats_url: str, domain: str
) -> None:
    kills = 0
    killed = asyncio.Condition()
    async with Fleet([service], url=nats_url, domain=domain) as fleet, connect(nats_url, domain=domain) as bus:
        await fleet.ready(30)

        async def reap() -> None:
            nonlocal kills
            while True:
                await asyncio.sleep(1)
                await fleet.ready(30)
                fleet.kill("counter")
                async with killed:
                    kills += 1
                    killed.notify_all()

        reaper = asyncio.create_task(reap())
        for first in range(0, 10_000, 500):
            await asyncio.gather(*(order(bus, n) for n in range(first, first + 500)))
            enough = first // 2_000
            async with killed, asyncio.timeout(60):
                await killed.wait_for(lambda enough=enough: kills >= enough)
        reaper.cancel()
        last = max([d.seq async for d in bus.read("kill.ordered.v1")])
        await until_all_finished(bus, last)

        assert kills >= 4, "hardly anything was killed, so nothing was proved"
        assert await states(bus) == await fold(bus)
        assert await answers(bus) == [n for n in range(10_000) if n % 3]


@asynccontextmanager
async def instance(service: Path, url: str, domain: str, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """One more process that hosts the service, as `hocket run` would start it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hocket.host.child", str(service), "--instance", name, "--nats", url,
        env={**os.environ, "HOCKET_DOMAIN": domain},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()


async def until_owner(seen: health.Health, name: str, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while True:
            owner = seen.owner("counter", 0, asyncio.get_running_loop().time())
            if owner is not None and owner.instance == name:
                return
            await asyncio.sleep(0.05)


async def until_standby(seen: health.Health, name: str) -> None:
    async with asyncio.timeout(20):
        while True:
            if name in {card.instance for card in seen.fresh(asyncio.get_running_loop().time())}:
                return
            await asyncio.sleep(0.05)


async def test_a_killed_owner_is_followed_by_the_standby_on_its_machine_without_waiting_for_a_silence(
    service: Path, nats_url: str, domain: str
) -> None:
    patient = COUNTER.replace('"counter", ', '"counter", limits=Limits(silence_s=600, silence_at_start_s=600), ')
    (service / "agent.py").write_text(patient.replace("Event\n", "Event, Limits\n", 1))
    async with AsyncExitStack() as stack:
        logs = await stack.enter_async_context(jetstream.connect(nats_url, domain=domain))
        seen = await stack.enter_async_context(health.listening(logs))
        bus = await stack.enter_async_context(connect(nats_url, domain=domain))
        first = await stack.enter_async_context(instance(service, nats_url, domain, "first"))
        await until_owner(seen, "first", 20)
        await stack.enter_async_context(instance(service, nats_url, domain, "second"))
        await until_standby(seen, "second")
        await asyncio.gather(*(order(bus, n) for n in range(300)))

        first.kill()

        await until_owner(seen, "second", 8)
        await asyncio.gather(*(order(bus, n) for n in range(300, 600)))
        last = max([d.seq async for d in bus.read("kill.ordered.v1")])
        await until_all_finished(bus, last)
        assert await states(bus) == await fold(bus)


async def test_a_stopped_owner_that_continues_changes_nothing_and_stands_by(
    service: Path, nats_url: str, domain: str
) -> None:
    async with AsyncExitStack() as stack:
        logs = await stack.enter_async_context(jetstream.connect(nats_url, domain=domain))
        seen = await stack.enter_async_context(health.listening(logs))
        bus = await stack.enter_async_context(connect(nats_url, domain=domain))
        first = await stack.enter_async_context(instance(service, nats_url, domain, "first"))
        await until_owner(seen, "first", 20)
        await stack.enter_async_context(instance(service, nats_url, domain, "second"))
        await asyncio.gather(*(order(bus, n) for n in range(200)))
        await until_all_finished(bus, 200)

        first.send_signal(signal.SIGSTOP)
        # These wait in the stopped owner's socket: it will handle them, and try to commit, when it continues.
        await asyncio.gather(*(order(bus, n) for n in range(200, 400)))
        await until_owner(seen, "second", 12)
        first.send_signal(signal.SIGCONT)

        assert first.stderr is not None
        async with asyncio.timeout(15):
            while b"stands by" not in await first.stderr.readline():
                pass
        await asyncio.gather(*(order(bus, n) for n in range(400, 600)))
        last = max([d.seq async for d in bus.read("kill.ordered.v1")])
        await until_all_finished(bus, last)
        assert await states(bus) == await fold(bus)
        assert await answers(bus) == [n for n in range(600) if n % 3]
        assert first.returncode is None, "the deposed owner has to stand by, not to end"
        await until_owner(seen, "second", 1)


async def test_what_is_no_event_is_dead_lettered_and_holds_nothing_up(
    service: Path, nats_url: str, domain: str
) -> None:
    names = Names(domain, 0)
    async with Fleet([service], url=nats_url, domain=domain) as fleet, connect(nats_url, domain=domain) as bus:
        await fleet.ready(30)
        pid = fleet.pids["counter"]
        for i, body in enumerate(
            (b"", b"\xff\xfe", b"[1]", b'{"specversion":"1.0"}', b'{"a":' * 70 + b"1" + b"}" * 70)
        ):
            subject = names.event("key-1", "stranger", f"bad-{i}", 0, "kill.ordered.v1")
            await bus.logs[0].append([Write(subject, body)])
        last = await order(bus, 1)
        await until_all_finished(bus, last.seq)

        letters: list[Message] = [message async for message in bus.logs[0].scan([names.all_dead])]
        reasons = [orjson.loads(letter.data)["reason"] for letter in letters]
        assert reasons == ["NotAnEvent", "NotAnEvent", "NotAnEvent", "MissingAttribute", "TooDeep"]
        assert await states(bus) == {"key-1": [1]}
        assert fleet.pids["counter"] == pid, "no process died of it"


@pytest.mark.parametrize("start", ["start", "now"])
async def test_a_copied_service_joins_a_running_crew_and_begins_where_its_manifest_says(
    start: str, service: Path, nats_url: str, domain: str
) -> None:
    services = service.parent
    draft = services.parent / f"draft-{domain}"
    async with Fleet(services, url=nats_url, domain=domain) as fleet, connect(nats_url, domain=domain) as bus:
        await fleet.ready(30)
        pid = fleet.pids["counter"]
        await asyncio.gather(*(order(bus, n) for n in range(200)))

        draft.mkdir()
        (draft / "agent.py").write_text(COUNTER.replace('Agent("counter"', 'Agent("copy"'))
        (draft / "agent.toml").write_text(MANIFEST.replace('"counter"', '"copy"') + f'from = "{start}"\n')
        draft.rename(services / "copy")
        async with asyncio.timeout(20):
            while "copy" not in fleet.pids:
                fleet.changed.clear()
                await fleet.changed.wait()
        await fleet.ready(30)
        await asyncio.gather(*(order(bus, n) for n in range(200, 400)))
        last = max([d.seq async for d in bus.read("kill.ordered.v1")])
        await until_all_finished(bus, last, "copy")

        copied = await states(bus, "copy")
        first = 0 if start == "start" else 200
        assert copied == {key: [n for n in given if n >= first] for key, given in (await fold(bus)).items()}
        assert fleet.pids["counter"] == pid, "nobody else was restarted for it"
