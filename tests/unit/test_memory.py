"""What agents remember: facts of the log, and what is recalled of them as of any moment."""

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from tests.fault.services import coordinator

from hocket import Agent, Context, Event, Saga
from hocket.clock import utc
from hocket.errors import UsageError
from hocket.memory import Memory, Question, Recalled, dispute, index, remember, retract, supersede
from hocket.observe.fact import Fact
from hocket.observe.history import history
from hocket.subjects import address
from hocket.testing import Bed, run_virtual
from hocket_schemas import gate
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Catalog
from hocket_schemas.memory import Disputed, Remembered, Retracted, Superseded
from hocket_schemas.runtime import SagaCompensated, SagaCompleted, SagaFailed

EVENTS = Catalog()
SAYS = [Remembered, Superseded, Disputed, Retracted]
SUBJECTS = [f"person-{n}" for n in range(40)]
WORDS = ["oats", "trains", "windows", "tea", "maps", "rain", "chess", "bread", "boats", "owls"]


class Lesson(Event, type="memory.lesson.v1", catalog=EVENTS):
    facts: Sequence[tuple[str, str]] = ()
    """Subjects and texts."""

    superseded: Sequence[tuple[str, str, str]] = ()
    """Ids, subjects and texts."""

    retracted: Sequence[str] = ()


class Asked(Event, type="memory.asked.v1", catalog=EVENTS):
    words: str = ""
    about: str = ""


class Answered(Event, type="memory.answered.v1", catalog=EVENTS):
    texts: list[str]
    disputed: tuple[str, ...] = ()


class Begun(Event, type="memory.begun.v1", catalog=EVENTS):
    shop: str


class GivenUp(Event, type="memory.given-up.v1", catalog=EVENTS):
    pass


def learner(name: str) -> Agent[None]:
    agent = Agent(name)

    @agent.on(Lesson, emits=SAYS)
    async def learn(lesson: Lesson, ctx: Context) -> None:
        for about, text in lesson.facts:
            remember(ctx, text, about=about)
        for fact, about, text in lesson.superseded:
            ctx.emit(Superseded(fact=fact, about=about, text=text))
        for fact in lesson.retracted:
            retract(ctx, fact)

    return agent


@dataclass
class Folded:
    """What a reader of the whole log makes of it, without any of the code under test."""

    facts: dict[str, tuple[str, str]]
    """Subjects and texts of what stands, by id."""

    ever: dict[str, str]
    """Who stated each fact that was ever stated."""


@cache
def read(body: bytes) -> Envelope:
    return gate.read(body)


def fold(bed: Bed, upto: int = 1 << 60) -> Folded:
    found = Folded({}, {})
    aborted = {
        gate.read(m.data).correlationid
        for m in bed.server.since(1, [bed.names.events_of_type(SagaCompensated.event_type)], 1 << 30)
        if m.seq <= upto
    }
    for message in bed.server.since(1, [bed.names.all_events], 1 << 30):
        said = read(message.data)
        if message.seq > upto or ".memory." not in said.type or said.correlationid in aborted:
            continue
        if said.type in (Superseded.event_type, Retracted.event_type):
            found.facts.pop(said.data["fact"], None)
        if said.type in (Superseded.event_type, Remembered.event_type):
            found.facts[said.id] = (said.data["about"], said.data["text"])
            found.ever[said.id] = address(message.subject).agent
    return found


async def agree(bed: Bed, memory: Memory, position: tuple[int, ...], rng: random.Random) -> None:
    """Some questions have the answers that the fold gives."""
    facts = fold(bed, position[0]).facts
    questions = [Question(most=5000)]
    questions += [Question(word, about=rng.choice(["", *SUBJECTS]), most=5000) for word in WORDS[:5]]
    questions += [Question(about=about, most=5000) for about in rng.sample(SUBJECTS, 3)]
    for question in questions:
        wanted = {
            (fact, about, text)
            for fact, (about, text) in facts.items()
            if question.words in [*text.split(), ""] and question.about in (about, "")
        }
        answers = await memory.ask(bed.bus, question, as_of=position)
        assert {(each.id, each.about, each.text) for each in answers} == wanted
        assert len(answers) == len(wanted)


def lessons(rng: random.Random, count: int) -> list[tuple[str, str]]:
    return [(rng.choice(SUBJECTS), f"likes {' and '.join(rng.sample(WORDS, 2))} {n}") for n in range(count)]


def test_recall_is_a_fold_of_the_log_after_thousands_of_facts_and_as_of_any_moment(tmp_path: Path) -> None:
    rng = random.Random(7)
    agents = [learner(f"learner-{n}") for n in range(5)]

    async def live() -> None:
        async with Bed(*agents) as bed:

            async def teach(n: int, lesson: Lesson, saga: str = "") -> None:
                await bed.bus.command(lesson, to=agents[n % 5].name, key=f"key-{n % 16}", saga=saga or f"saga-{n}")

            path = tmp_path / "facts.sqlite"
            kept, shown = Memory(path), Memory()
            for n in range(25):
                await teach(n, Lesson(facts=lessons(rng, 80)))
                if n == 12:
                    await Memory(path).position(bed.bus)  # of a process that ends here
            with closing(index.Index(path, 1)) as opened:
                assert opened.position > (0,)
            await bed.quiet()
            learned = await kept.position(bed.bus)
            stated = fold(bed)
            chosen = rng.sample(sorted(stated.facts), 400)
            for n in range(10):
                old = chosen[n * 30 : n * 30 + 30]
                new = [(fact, stated.facts[fact][0], f"likes {WORDS[n]} now") for fact in old]
                await teach(n, Lesson(superseded=new), saga="undone" if n < 2 else "")
            await bed.quiet()
            replaced = await shown.position(bed.bus)
            for n in range(5):
                await teach(n, Lesson(retracted=chosen[300 + n * 20 : 320 + n * 20]))
            await teach(0, Lesson(facts=[("person-0", "likes what never was")]), saga="undone")
            await bed.quiet()
            corrected = await shown.position(bed.bus)
            said = SagaCompensated(name="", saga="undone", reason="it rained")
            await bed.publish(said, key="undone", saga="undone")
            now = await kept.position(bed.bus)

            assert len(stated.facts) == 2000
            assert set(stated.ever.values()) == {agent.name for agent in agents}
            for position in (learned, replaced, corrected, now):
                await agree(bed, kept, position, rng)
            never = Question("never was")
            assert [each.text for each in await shown.ask(bed.bus, never, as_of=corrected)] == ["likes what never was"]
            assert await shown.ask(bed.bus, never) == []
            assert [each for each in bed.events(Remembered) if each.text == "likes what never was"]
            grown, digest = await shown.digest(bed.bus), await kept.digest(bed.bus)
            await kept.rebuild(bed.bus)
            assert {grown, digest} == {await kept.digest(bed.bus)}

    run_virtual(live())


def asker(memory: Memory) -> Agent[None]:
    agent = Agent("asker")

    @agent.on(Asked, emits=SAYS)
    async def answer(asked: Asked, ctx: Context) -> Answered:
        known = await memory.recall(ctx, asked.words, about=asked.about)
        await ctx.sleep(timedelta(hours=1))
        again = await memory.recall(ctx, asked.words, about=asked.about)
        before = [fact.text for fact in known]
        return Answered(texts=[*before, "then", *(fact.text for fact in again)], disputed=tuple(_doubts(again)))

    return agent


def _doubts(facts: list[Recalled]) -> list[str]:
    return [doubt for fact in facts for doubt in fact.disputed]


def test_a_handler_that_runs_again_recalls_what_it_did_the_first_time() -> None:
    memory = Memory()
    agent = asker(memory)

    async def live() -> list[Answered]:
        async with Bed(agent) as bed:
            told = await bed.publish(Remembered(text="likes oats", about="ada"), key="k")
            await bed.publish(Asked(words="what oats?", about="ada"), key="k")
            await bed.settled()
            await bed.publish(Retracted(fact=told.id), key="k")
            await bed.publish(Remembered(text="likes no oats", about="ada"), key="k")
            await bed.publish(Disputed(fact=told.id, reason="too late"), key="k")
            await bed.pass_time(timedelta(hours=2))
            return bed.events(Answered)

    assert run_virtual(live()) == [Answered(texts=["likes oats", "then", "likes no oats"])]


def test_what_is_remembered_supersedes_doubts_and_retracts() -> None:
    memory = Memory()
    agent = Agent("clerk")

    @agent.on(Asked, emits=SAYS)
    async def think(asked: Asked, ctx: Context) -> None:
        [old] = await memory.recall(ctx, about="ada") or [None]
        if old is None:
            remember(ctx, "likes tea", about="ada", kind="preference", scope="subject", confidence=0.5)
        elif asked.words == "doubt":
            dispute(ctx, old, "she was seen with coffee")
        elif asked.words == "retract":
            retract(ctx, old, "it was Bob")
        else:
            supersede(ctx, old, "likes coffee")

    async def live() -> list[list[Recalled]]:
        found = []
        async with Bed(agent) as bed:
            for words in ("learn", "doubt", "learn", "retract"):
                await bed.publish(Asked(words=words), key="k", saga="s", event_id=words + str(len(found)))
                await bed.quiet()
                found.append(await memory.ask(bed.bus, Question(about="ada")))
        return found

    [first], [doubted], [second], none = run_virtual(live())

    assert (first.text, first.kind, first.author, first.confidence) == ("likes tea", "preference", "clerk", 0.5)
    assert (first.sources, first.disputed, first.saga) == (("learn0",), (), "s")
    assert doubted.disputed == ("she was seen with coffee",)
    assert (second.text, second.supersedes, second.scope) == ("likes coffee", first.id, "subject")
    assert none == []


def test_a_failed_saga_takes_its_facts_along_unless_it_is_completed_after_all() -> None:
    async def live() -> list[list[str]]:
        memory, found = Memory(), []
        async with Bed() as bed:

            async def look() -> None:
                found.append([fact.text for fact in await memory.ask(bed.bus, Question())])

            told = await bed.publish(Remembered(text="first"), key="k")
            await bed.publish(Superseded(fact=told.id, text="second"), key="k", saga="s")
            await look()
            failed = SagaFailed(name="n", saga="s", ended_by="e", failure="f")
            await bed.publish(failed, key="s", saga="s")
            await look()
            await bed.publish(SagaCompleted(name="n", saga="s", ended_by="e"), key="s", saga="s")
            await look()
        return found

    assert run_virtual(live()) == [["second"], ["first"], ["second"]]


def test_what_the_coordinator_aborts_is_no_longer_recalled_and_stays_in_history() -> None:
    policy = Saga("errand", starts=Begun, done=Answered, fails=[GivenUp], deadline=timedelta(hours=1))
    agent = Agent("runner")

    @agent.on(Begun, emits=[Remembered])
    async def begin(begun: Begun, ctx: Context) -> GivenUp | None:
        remember(ctx, f"the shop is {begun.shop}", about="shop")
        return None if begun.shop == "open" else GivenUp()

    async def live() -> tuple[list[str], list[str], list[str]]:
        memory = Memory()
        async with Bed(agent, coordinator()) as bed:
            for shop in ("open", "closed"):
                await bed.publish(Begun(shop=shop), key=f"{policy.name}-{shop}")
            await bed.settled()
            known = [fact.text for fact in await memory.ask(bed.bus, Question("shop"))]
            entries = await history(bed.bus, "errand-closed")
            told = [e.data["text"] for e in entries if isinstance(e, Fact) and e.type == Remembered.event_type]
            await bed.pass_time(timedelta(hours=2))
            return known, told, [fact.text for fact in await memory.ask(bed.bus, Question("shop"))]

    assert run_virtual(live()) == (["the shop is open"], ["the shop is closed"], [])


def test_who_asks_gets_what_is_meant_for_it() -> None:
    async def live() -> list[list[str]]:
        memory = Memory()
        async with Bed() as bed:
            await bed.publish(Remembered(text="for all", about="ada"), key="k")
            await bed.publish(Remembered(text="for its author", about="ada", scope="agent"), key="k")
            await bed.publish(Remembered(text="for who asks about Ada", about="ada", scope="subject"), key="k")
            questions = [
                Question("for", asker="other"),
                Question("for", asker="test"),
                Question("for", asker="other", about="ada"),
                Question("FOR, all!?", asker=None, most=2),
                Question("...", asker=None),
            ]
            return [sorted(fact.text for fact in await memory.ask(bed.bus, each)) for each in questions]

    everybody, author, about, operator, nothing = run_virtual(live())

    assert everybody == ["for all"]
    assert author == ["for all", "for its author"]
    assert about == ["for all", "for who asks about Ada"]
    assert len(operator) == 2
    assert "for all" in operator
    assert nothing == []


def test_what_is_learned_from_a_failure_outlives_it_and_remembering_what_was_remembered_is_a_loop() -> None:
    memory = Memory()
    agent = Agent("ponderer")

    @agent.on(SagaFailed, emits=[Remembered])
    async def learn(failed: SagaFailed, ctx: Context) -> None:
        remember(ctx, "never again", saga="lessons")

    @agent.on(Remembered, emits=[Remembered])
    async def ponder(told: Remembered, ctx: Context) -> None:
        remember(ctx, "on second thoughts", saga=ctx.saga)

    async def live() -> tuple[set[str], list[str]]:
        async with Bed(agent) as bed:
            failed = SagaFailed(name="n", saga="s", ended_by="e", failure="f")
            await bed.publish(failed, key="s", saga="s")
            await bed.quiet()
            found = await memory.ask(bed.bus, Question(most=99))
            return {fact.text for fact in found}, [letter["error"] for letter in bed.dead(agent)]

    texts, [error] = run_virtual(live())

    assert texts == {"never again", "on second thoughts"}
    assert error == "33 hops, the limit is 32"


def test_an_answer_can_be_had_as_of_a_time() -> None:
    async def live() -> tuple[list[str], list[str]]:
        memory = Memory()
        async with Bed() as bed:
            told = await bed.publish(Remembered(text="so it was"), key="k")
            noon = utc(bed.server.clock.now_s())
            await bed.pass_time(timedelta(hours=1))
            await bed.publish(Retracted(fact=told.id), key="k")
            then = await memory.ask(bed.bus, Question(), as_of=noon)
            return [fact.text for fact in then], [fact.text for fact in await memory.ask(bed.bus, Question())]

    assert run_virtual(live()) == (["so it was"], [])


def test_an_answer_includes_what_was_just_written_and_a_file_of_another_log_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "facts.sqlite"

    async def live(text: str) -> list[str]:
        memory = Memory(path)
        async with Bed() as bed:
            await memory.position(bed.bus)
            told = await bed.publish(Remembered(text=text), key="k")
            return [fact.text for fact in await memory.ask(bed.bus, Question(), includes=told)]

    assert run_virtual(live("of one world")) == ["of one world"]
    assert run_virtual(live("of another")) == ["of another"]


def test_a_position_of_another_domain_is_refused() -> None:
    async def live() -> None:
        async with Bed() as bed:
            with pytest.raises(UsageError, match="1 shards"):
                await Memory().ask(bed.bus, Question(), as_of=(1, 2))

    run_virtual(live())


def test_two_processes_share_a_file_and_nothing_counts_twice(tmp_path: Path) -> None:
    one, two = Memory(tmp_path / "facts.sqlite"), Memory(tmp_path / "facts.sqlite")

    async def live() -> list[int]:
        async with Bed() as bed:
            for n in range(30):
                await bed.publish(Remembered(text=f"number {n}"), key="k")
                await (one if n % 3 else two).position(bed.bus)
            return [len(await each.ask(bed.bus, Question(most=99))) for each in (one, two, Memory())]

    assert run_virtual(live()) == [30, 30, 30]


def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("what I know of Ada" * 1000)
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as other:
        other.execute("CREATE TABLE facts (fact)")

    for name in ("notes.txt", "other.sqlite"):
        with pytest.raises(UsageError, match="something else"):
            index.Index(tmp_path / name, 1)

    assert (tmp_path / "notes.txt").read_text().startswith("what I know of Ada")


def test_without_full_text_search_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sqlite3", None)

    with pytest.raises(index.NoFullTextSearch, match="no SQLite"):
        index.Index(None, 1)
