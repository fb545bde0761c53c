"""What agents remember, on a real server: what is recalled, what forgetting leaves in its files, and the commands."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.contract.worlds import soon

from hocket import Agent, Context
from hocket.cli import main
from hocket.client import open_bus
from hocket.host.crew import Crew, running
from hocket.log.base import Write
from hocket.log.jetstream import connect
from hocket.log.server import EmbeddedServer
from hocket.memory import Memory, Question, remember
from hocket.memory.forgetting import claims, forget
from hocket.memory.traces import traces, traces_in
from hocket_schemas.event import Catalog, Event
from hocket_schemas.memory import Remembered, Retracted
from hocket_schemas.runtime import SagaCompensated

EVENTS = Catalog()

ROOM = 12 << 20
"""The server cuts such a stream into blocks of 4 MiB."""

TEXT = "Ada likes oats and the quiet carriage"


class Told(Event, type="told.on.jetstream.v1", catalog=EVENTS):
    facts: list[str]


async def test_recall_on_a_stream_is_what_it_is_on_the_twin(nats_url: str, domain: str, tmp_path: Path) -> None:
    learner = Agent("learner")

    @learner.on(Told, emits=[Remembered])
    async def learn(told: Told, ctx: Context) -> None:
        for text in told.facts:
            remember(ctx, text, about="ada")

    memory = Memory(tmp_path / "facts.sqlite")
    async with (
        connect(nats_url, domain=domain, max_bytes=1 << 26) as logs,
        open_bus(logs) as bus,
        bus.subscribe(Remembered) as remembered,
    ):
        crew = Crew([learner], logs)
        async with asyncio.timeout(20), running(crew):
            await crew.owning()
            for n in range(10):
                told = Told(facts=[f"fact {n} {i}" for i in range(40)])
                await bus.publish(told, key=f"k-{n}", saga="undone" if n == 3 else f"s-{n}")
            seen = [await anext(remembered) for _ in range(400)]
        before = await memory.position(bus)
        gone = next(each for each in seen if each.envelope.data["text"] == "fact 1 0")
        await bus.publish(Retracted(fact=gone.envelope.id), key="k-1")
        said = await bus.publish(
            SagaCompensated(name="", saga="undone", reason="it rained"), key="undone", saga="undone"
        )

        then = await memory.ask(bus, Question("fact", most=999), as_of=before)
        now = await memory.ask(bus, Question("fact", most=999), includes=said)

        assert len(then) == 400
        assert {fact.id for fact in then} == {each.envelope.id for each in seen}
        wanted = {fact.id for fact in then if fact.text != "fact 1 0" and not fact.text.startswith("fact 3 ")}
        assert {fact.id for fact in now} == wanted
        digest = await memory.digest(bus)
        await memory.rebuild(bus)
        assert await memory.digest(bus) == digest


async def test_what_is_forgotten_is_gone_for_readers_at_once_and_from_the_files_once_its_block_is_compacted(
    tmp_path: Path,
) -> None:
    async with (
        EmbeddedServer(tmp_path) as server,
        connect(server.url, max_bytes=ROOM) as [log],
        open_bus([log]) as bus,
    ):

        async def write_states() -> None:
            for begin in range(0, 3000, 500):
                await log.append([Write(f"hocket.0.act.a.{n}", b"x" * 1100) for n in range(begin, begin + 500)])

        told = await bus.publish(Remembered(text=TEXT, about="ada"), key="k")
        await write_states()

        done = await forget(bus, "ada", by="ann")

        by_seq = await log._api.ask(f"STREAM.MSG.GET.{log.stream}", {"seq": told.seq}, soon())
        assert by_seq["error"]["description"] == "no message found"
        assert await traces(bus, [TEXT]) == []
        assert [m.seq async for m in log.scan(["hocket.0.evt.*.k.>"])] > [told.seq]
        assert [claim.standing for claim in await claims(bus, "ada")] == [()]
        assert [path.suffix for path in traces_in(tmp_path, done.texts)] == [".blk"]
        await write_states()
        assert traces_in(tmp_path, done.texts) == []


def test_the_commands_ask_forget_and_prove_it(
    nats_url: str, domain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def remember_both() -> None:
        async with connect(nats_url, domain=domain, max_bytes=1 << 26) as logs, open_bus(logs) as bus:
            await bus.publish(Remembered(text=TEXT, about="ada"), key="k")
            await bus.publish(Remembered(text="Bob likes tea", about="bob", confidence=0.5), key="k")
            await logs[0].append([Write(f"{domain}.0.act.copier.k", json.dumps({"seen": "Bob likes tea"}).encode())])

    def hocket(*arguments: str) -> tuple[int, str]:
        code = main.run(["memory", *arguments, "--nats", nats_url, "--domain", domain])
        return code, capsys.readouterr().out

    asyncio.run(remember_both())

    code, printed = hocket("recall", "oats", "--as-of", "1", "--json")
    assert (code, [fact["text"] for fact in json.loads(printed)]) == (0, [TEXT])
    assert "Bob likes tea (50% sure)" in hocket("recall", "--about", "bob")[1]
    assert hocket("recall", "--as-of", "yesterday")[0] == main.EXIT_USAGE
    code, printed = hocket("forget", "ada", "--reason", "she asked for it", "--json")
    assert (code, len(json.loads(printed)["erased"]), json.loads(printed)["left"]) == (0, 1, [])
    assert hocket("forget", "bob")[0] == main.EXIT_BAD_NEWS
    assert hocket("traces", TEXT)[0] == 0
    code, printed = hocket("traces", "Bob likes tea", "--data", str(tmp_path), "--json")
    assert (code, [trace["kind"] for trace in json.loads(printed)["left"]]) == (1, ["state"])
    assert hocket("recall")[1] == "nothing is remembered that answers that\n"
    assert "she asked for it" in hocket("forgotten")[1]
    assert hocket("forget", "eve")[0] == main.EXIT_REFUSED
