"""Forgetting a subject: what is overwritten, what stays, who notices, and who still holds a copy."""

import gzip
import json
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from hocket import Agent, Context, Event
from hocket.client import open_bus
from hocket.clock import LoopClock
from hocket.errors import NotFound
from hocket.log.base import Write
from hocket.log.memory import Faults, MemoryServer
from hocket.memory import Memory, Question, Recalled, remember
from hocket.memory.forgetting import claims, forget
from hocket.memory.traces import traces, traces_in
from hocket.observe.audit import audit
from hocket.observe.history import history
from hocket.observe.why import why
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog
from hocket_schemas.memory import Disputed, Forgotten, Remembered, Retracted, Superseded

EVENTS = Catalog()


class Asked(Event, type="forgetting.asked.v1", catalog=EVENTS):
    about: str


class Answered(Event, type="forgetting.answered.v1", catalog=EVENTS):
    texts: list[str]


class Notes(BaseModel):
    heard: list[str] = []


def texts(facts: list[Recalled]) -> list[str]:
    return [fact.text for fact in facts]


def test_forgetting_overwrites_what_was_said_of_a_subject_and_nobody_takes_that_for_news(tmp_path: Path) -> None:
    listener = Agent("listener", state=Notes)

    @listener.on(Remembered)
    async def hear(told: Remembered, ctx: Context[Notes]) -> None:
        ctx.state.heard.append(ctx.envelope.id)

    async def live() -> None:
        kept = Memory(tmp_path / "facts.sqlite")
        async with Bed(listener) as bed:
            first = await bed.publish(Remembered(text="Ada likes oats", about="ada"), key="k")
            await bed.publish(Superseded(fact=first.id, text='Ada likes "rye"', about="ada"), key="k")
            await bed.publish(Disputed(fact=first.id, reason="Ada was seen with toast"), key="other")
            bob = await bed.publish(Remembered(text="Bob likes oats", about="bob"), key="k")
            await bed.publish(Retracted(fact=bob.id, reason="he does not"), key="k")
            await bed.publish(Remembered(text="Bob likes tea", about="bob"), key="k")
            await bed.quiet()
            before = await kept.position(bed.bus)
            heard = bed.state(listener, "k")

            done = await forget(bed.bus, "ada", by="ann", reason="she asked for it")
            await bed.quiet()

            assert set(done.texts) == {"Ada likes oats", 'Ada likes "rye"', "Ada was seen with toast"}
            assert await traces(bed.bus, done.texts) == []
            assert not any(b"Ada" in m.data or b'"ada"' in m.data for m in bed.server.since(1, ["hocket.>"], 99))
            assert bed.state(listener, "k") == heard
            assert bed.dead(listener) == []
            assert texts(await kept.ask(bed.bus, Question())) == ["Bob likes tea"]
            assert texts(await kept.ask(bed.bus, Question(), as_of=before)) == ["Bob likes tea"]
            assert traces_in(tmp_path, done.texts) == []
            left = [each.event.text async for each in bed.bus.read(Remembered) if isinstance(each.event, Remembered)]
            assert left == ["Bob likes oats", "Bob likes tea"]
            grown = await kept.digest(bed.bus)
            await kept.rebuild(bed.bus)
            assert await kept.digest(bed.bus) == grown
            [said] = await claims(bed.bus, "ada")
            assert (said.event.by, len(said.event.erased), said.standing) == ("ann", 3, ())
            with pytest.raises(NotFound, match="eve"):
                await forget(bed.bus, "eve", by="ann")
            assert (await forget(bed.bus, "ada", by="ann")).erased == ()
            assert len(bed.events(Forgotten)) == 1

    run_virtual(live())


def test_what_was_forgotten_keeps_its_place_among_causes_and_effects() -> None:
    clerk = Agent("clerk")

    @clerk.on(Asked, emits=[Remembered])
    async def learn(asked: Asked, ctx: Context) -> None:
        remember(ctx, "likes oats", about=asked.about)

    @clerk.on(Remembered)
    async def greet(told: Remembered, ctx: Context) -> Answered:
        return Answered(texts=["noted"])

    async def live() -> None:
        async with Bed(clerk) as bed:
            for about in ("ada", "bob"):
                await bed.publish(Asked(about=about), key="k", event_id=about)
                await bed.quiet()
            before = [(entry.seq, type(entry)) for entry in await history(bed.bus, "k")]
            await forget(bed.bus, "ada", by="ann")
            await bed.quiet()

            assert [(entry.seq, type(entry)) for entry in await history(bed.bus, "k")] == before
            report = await audit(bed.bus, {"clerk": [Asked.event_type, Remembered.event_type]})
            assert (report.findings, report.handled) == ((), 4)
            [answer, _] = [each async for each in bed.bus.read(Answered)]
            led_to = (await why(bed.bus, "ada")).led_to
            assert [fact.type for fact in led_to] == [Remembered.event_type, Answered.event_type]
            chain = await why(bed.bus, answer.envelope.id)
            assert [fact.type for fact in chain.facts] == [Asked.event_type, Remembered.event_type, Answered.event_type]
            assert "oats" not in str(chain)

    run_virtual(live())


def test_what_a_forgotten_fact_has_superseded_does_not_come_back() -> None:
    async def live() -> list[str]:
        memory = Memory()
        async with Bed() as bed:
            told = await bed.publish(Remembered(text="the desk is Bob's", about="desk"), key="k")
            await bed.publish(Superseded(fact=told.id, text="the desk is Ada's", about="ada"), key="k")
            await forget(bed.bus, "ada", by="ann")
            found = texts(await memory.ask(bed.bus, Question()))
            await memory.rebuild(bed.bus)
            return found + texts(await memory.ask(bed.bus, Question()))

    assert run_virtual(live()) == []


def test_what_is_forgotten_is_told_also_when_the_answer_of_the_append_is_lost() -> None:
    faults = Faults()

    async def live() -> None:
        async with Bed() as bed:
            await bed.publish(Remembered(text="likes oats", about="ada"), key="k")
            async with open_bus([bed.server.connect(faults)], publisher="test", clock=bed.server.clock) as bus:
                faults.lose_answer = 1.0

                done = await forget(bus, "ada", by="ann")

                assert (done.texts, len(done.erased), len(done.events)) == (("likes oats",), 1, 1)
                assert len(await claims(bus, "ada")) == 1

    run_virtual(live())


def test_a_copy_in_a_state_is_named_and_a_journal_holds_none() -> None:
    memory = Memory()
    clerk = Agent("clerk", state=Notes)

    @clerk.on(Asked)
    async def answer(asked: Asked, ctx: Context[Notes]) -> Answered:
        known = texts(await memory.recall(ctx, about=asked.about))
        await ctx.sleep(timedelta(days=1))
        ctx.state.heard = known
        return Answered(texts=texts(await memory.recall(ctx, about=asked.about)))

    async def live() -> tuple[list[str], list[str], list[Answered]]:
        async with Bed(clerk) as bed:
            await bed.publish(Remembered(text="likes oats", about="ada"), key="k")
            await bed.publish(Remembered(text="likes tea", about="bob"), key="k")
            for about in ("ada", "bob"):
                await bed.publish(Asked(about=about), key=about)
            await bed.settled()
            ada = await forget(bed.bus, "ada", by="ann")
            early = [trace.subject for trace in await traces(bed.bus, ada.texts)]
            await bed.pass_time(timedelta(days=2))
            bob = await forget(bed.bus, "bob", by="ann")
            late = [trace.kind for trace in await traces(bed.bus, bob.texts)]
            return early, late, bed.events(Answered)

    early, late, answers = run_virtual(live())

    assert early == []
    assert sorted(late) == ["event", "state"]
    assert sorted(answers, key=lambda answer: answer.texts) == [Answered(texts=[]), Answered(texts=["likes tea"])]


def test_a_handling_that_is_under_way_for_what_is_forgotten_ends_without_it() -> None:
    sleeper = Agent("sleeper")

    @sleeper.on(Remembered)
    async def think_it_over(told: Remembered, ctx: Context) -> Answered:
        await ctx.sleep(timedelta(days=1))
        return Answered(texts=[told.text])

    async def live() -> tuple[list[Answered], list[str]]:
        async with Bed(sleeper) as bed:
            await bed.publish(Remembered(text="likes oats", about="ada"), key="k")
            await bed.settled()
            done = await forget(bed.bus, "ada", by="ann")
            await bed.pass_time(timedelta(days=2))
            assert await traces(bed.bus, done.texts) == []
            return bed.events(Answered), [letter["error"] for letter in bed.dead(sleeper)]

    answers, [error] = run_virtual(live())

    assert answers == []
    assert "forgotten" in error


def test_a_subject_is_forgotten_on_every_shard() -> None:
    async def live() -> None:
        clock = LoopClock()
        servers = [MemoryServer(shard=shard, clock=clock) for shard in range(2)]
        async with open_bus([server.connect() for server in servers], publisher="test", clock=clock) as bus:
            told = [await bus.publish(Remembered(text=f"fact {n}", about="ada"), key=f"key-{n}") for n in range(10)]
            elsewhere = next(key for n in range(10) if told[n].shard != told[0].shard for key in [told[n].key])
            await bus.publish(Retracted(fact=told[0].id, reason="fact 0 is none"), key=elsewhere)
            memory = Memory()
            assert len(await memory.ask(bus, Question("fact", most=99))) == 9
            before = await memory.position(bus)

            done = await forget(bus, "ada", by="ann")

            assert len(done.erased) == 11
            assert len(done.events) == len({receipt.shard for receipt in told}) == 2
            assert await traces(bus, done.texts) == []
            assert await memory.ask(bus, Question(), as_of=before) == []

    run_virtual(live())


def test_a_log_that_was_brought_back_is_recalled_on_every_shard(tmp_path: Path) -> None:
    async def live() -> list[str]:
        clock, path = LoopClock(), tmp_path / "facts.sqlite"
        servers = [MemoryServer(shard=shard, clock=clock) for shard in range(2)]
        async with open_bus([server.connect() for server in servers], publisher="test", clock=clock) as bus:
            for n in range(10):
                await bus.publish(Remembered(text=f"fact {n}", about="ada"), key=f"key-{n}")
            copied = servers[1].since(1, ["hocket.1.>"], 99)
            servers[1].store([Write(f"hocket.1.act.later.{n}", b"{}") for n in range(3)])
            known = texts(await Memory(path).ask(bus, Question(most=99)))
        restored = MemoryServer(shard=1, clock=clock)
        for message in copied:
            restored.store([Write(message.subject, message.data, headers=message.headers)])
        logs = [servers[0].connect(), restored.connect()]
        async with open_bus(logs, publisher="test", clock=clock) as bus:
            assert sorted(texts(await Memory(path).ask(bus, Question(most=99)))) == sorted(known)
        return known

    assert len(run_virtual(live())) == 10


def test_a_lie_about_what_was_forgotten_is_found() -> None:
    async def live() -> tuple[str, ...]:
        async with Bed() as bed:
            told = await bed.publish(Remembered(text="likes oats", about="ada"), key="k")
            lie = Forgotten(subject="0" * 64, by="eve", erased=[{"id": told.id, "digest": "0" * 64}])  # type: ignore[list-item]  # read as a model
            await bed.publish(lie, key="memory")
            [claim] = await claims(bed.bus)
            return claim.standing == (told.id,) and claim.standing

    assert run_virtual(live())


def test_files_are_looked_through_and_so_are_copies_of_the_log(tmp_path: Path) -> None:
    event = json.dumps({"text": 'Ada said "oats"'})
    (tmp_path / "plain").write_bytes(b"x" * (1 << 20) + event.encode())
    (tmp_path / "border").write_bytes(b"x" * ((1 << 20) - 7) + event.encode())
    (tmp_path / "copy.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": event}).encode()))
    (tmp_path / "broken.gz").write_bytes(b"no gzip")
    (tmp_path / "other").write_text("Bob said oats")

    found = traces_in(tmp_path, ['Ada said "oats"'])

    assert [path.name for path in found] == ["border", "copy.jsonl.gz", "plain"]
    assert traces_in(tmp_path, []) == []
