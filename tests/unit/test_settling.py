"""What people make of dead letters, with real agents on the twin."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from hocket.agent import Agent
from hocket.client import open_bus
from hocket.errors import Unavailable
from hocket.log.base import Write
from hocket.log.memory import Faults
from hocket.observe.audit import audit
from hocket.observe.fact import Fact
from hocket.observe.history import history
from hocket.observe.letters import DeadLetter, letters
from hocket.observe.settling import discard, merged, redrive, redrive_all
from hocket.policy import Limits, Retry
from hocket.testing import Bed
from hocket.testing.loop import run_virtual
from hocket_schemas.errors import DataRefused, HocketError, MalformedEvent, UnknownType
from hocket_schemas.event import Catalog, Event

LOCAL = Catalog()


class CupOrdered(Event, type="cup.ordered.v1", catalog=LOCAL):
    drink: str
    sugars: int = 0


class CupServed(Event, type="cup.served.v1", catalog=LOCAL):
    drink: str
    sugars: int


class Bar:
    """A barman who cannot serve what is off the menu, and a cashier who hears the same orders."""

    def __init__(self) -> None:
        self.menu = {"tea"}
        self.charged = 0
        self.served: list[str] = []
        self.barman = Agent("barman", version="7", limits=Limits(hops_max=3))
        self.cashier = Agent("cashier")

        @self.barman.on(CupOrdered, retry=Retry(attempts_max=2, first_s=0.01))
        async def serve(event: CupOrdered) -> CupServed:
            if event.drink not in self.menu:
                raise KeyError(event.drink)
            self.served.append(event.drink)
            return CupServed(drink=event.drink, sugars=event.sugars)

        @self.cashier.on(CupOrdered)
        async def charge(event: CupOrdered) -> None:
            self.charged += 1


@pytest.fixture
def bar() -> Bar:
    return Bar()


@pytest.fixture
async def bed(bar: Bar) -> AsyncIterator[Bed]:
    async with Bed(bar.barman, bar.cashier) as bed:
        yield bed


async def the_letters(bed: Bed) -> list[DeadLetter]:
    return [letter async for letter in letters(bed.bus)]


async def died(bed: Bed, *drinks: str) -> list[DeadLetter]:
    """The letters about orders that cannot be served."""
    for number, drink in enumerate(drinks):
        await bed.publish(CupOrdered(drink=drink, sugars=2), key="table-1", event_id=f"order-{number}", saga="evening")
    await bed.quiet()
    return await the_letters(bed)


async def commands(bed: Bed) -> list[Fact]:
    found = [entry for entry in await history(bed.bus, "table-1") if isinstance(entry, Fact)]
    return [fact for fact in found if fact.to is not None]


async def test_a_letter_says_what_happened_where_how_often_and_to_which_version(bed: Bed) -> None:
    [letter] = await died(bed, "mead")

    assert (letter.id, letter.agent, letter.version, letter.attempts) == ("order-0", "barman", "7", 2)
    assert letter.error == "2 attempts, the last: KeyError: 'mead'"
    assert "in serve\n    raise KeyError(event.drink)" in str(letter.trace)
    assert (letter.status, letter.fate, letter.generation, letter.ancestor) == ("open", None, 0, None)


def test_a_handler_that_took_too_long_is_shown_where_it_stood() -> None:
    slow = Agent("slow")

    @slow.on(CupOrdered, timeout_s=1, retry=Retry(attempts_max=1))
    async def ponder(event: CupOrdered) -> None:
        await asyncio.sleep(60)

    async def story() -> list[DeadLetter]:
        async with Bed(slow) as bed:
            return await died(bed, "tea")

    [letter] = run_virtual(story())

    assert letter.reason == "HandlerTimeout"
    assert "in ponder\n    await asyncio.sleep(60)" in str(letter.trace)


async def test_what_is_sent_again_names_the_letter_and_is_a_fact_with_a_person_in_it(bed: Bed, bar: Bar) -> None:
    [letter] = await died(bed, "mead")
    bar.menu.add("mead")

    settled = await redrive(bed.bus, letter, by="ada", reason="mead is back")
    await bed.quiet()

    [now] = await the_letters(bed)
    [again] = await commands(bed)
    sent = (await bed.bus.find(again.id)).envelope
    assert (again.to, again.type, again.key, again.saga) == ("barman", "cup.ordered.v1", "table-1", "evening")
    assert (again.cause, sent.extensions) == ("order-0", {"hkletter": "order-0", "hkgeneration": 1})
    assert (now.status, now.fate) == ("redriven", settled.fate)
    assert (settled.fate.by, settled.fate.reason, settled.fate.redriven_as) == ("ada", "mead is back", again.id)
    assert (bar.served, bar.charged) == (["mead"], 1)


async def test_what_dies_again_is_a_letter_of_the_next_generation_with_its_ancestor(bed: Bed, bar: Bar) -> None:
    [first] = await died(bed, "mead")
    await redrive(bed.bus, first, by="ada")
    await bed.quiet()
    [_, second] = await the_letters(bed)
    await redrive(bed.bus, second, by="ada")
    await bed.quiet()
    [_, _, third] = await the_letters(bed)
    bar.menu.add("mead")
    await redrive(bed.bus, third, by="ada")
    await bed.quiet()

    found = await the_letters(bed)

    assert [(letter.generation, letter.ancestor) for letter in found] == [(0, None), (1, first.id), (2, second.id)]
    assert [letter.status for letter in found] == ["redriven"] * 3
    assert bar.served == ["mead"]


async def test_of_all_who_settle_a_letter_at_once_one_comes_first_and_the_others_learn_who(bed: Bed, bar: Bar) -> None:
    [letter] = await died(bed, "mead")
    bar.menu.add("mead")

    outcomes = await asyncio.gather(
        *(redrive(bed.bus, letter, by=f"person {n}", edit={"sugars": n}, catalog=LOCAL) for n in range(4)),
        *(discard(bed.bus, letter, by=f"person {n}", reason="stale") for n in range(4, 8)),
    )
    await bed.quiet()

    assert [outcome.duplicate for outcome in outcomes].count(False) == 1
    assert len({outcome.fate.by for outcome in outcomes}) == 1
    assert len(await commands(bed)) == len(bar.served) == (outcomes[0].fate.status == "redriven")


async def test_a_person_whose_answer_was_lost_is_not_told_that_somebody_was_faster(bed: Bed, bar: Bar) -> None:
    [letter] = await died(bed, "mead")
    bar.menu.add("mead")
    faults = Faults(lose_answer=1.0)

    async def answer_again() -> None:
        while not await commands(bed):
            await bed.server.changed()
        faults.lose_answer = 0.0

    async with open_bus([bed.server.connect(faults)]) as bus, asyncio.TaskGroup() as tasks:
        tasks.create_task(answer_again())
        settled = await redrive(bus, letter, by="ada", timeout_s=30)
    await bed.quiet()

    assert (settled.duplicate, settled.fate.by) == (False, "ada")
    assert bar.served == ["mead"]


async def test_when_the_log_stays_away_nothing_was_settled(bed: Bed) -> None:
    [letter] = await died(bed, "mead")
    lost = Faults(lose_request=1.0)

    async with open_bus([bed.server.connect(lost)]) as bus:
        with pytest.raises(HocketError):
            await discard(bus, letter, by="ada", reason="stale", timeout_s=0.2)

    assert [found.status for found in await the_letters(bed)] == ["open"]


async def test_an_edit_is_merged_into_the_old_data(bed: Bed, bar: Bar) -> None:
    [letter] = await died(bed, "mead")

    settled = await redrive(bed.bus, letter, by="ada", edit={"drink": "tea", "sugars": None}, catalog=LOCAL)
    await bed.quiet()

    assert bed.events(CupServed) == [CupServed(drink="tea", sugars=0)]
    assert settled.fate.edit == {"drink": "tea", "sugars": None}


@pytest.mark.parametrize(
    ("edit", "error", "says"),
    [
        ({"drink": 7}, DataRefused, "drink"),
        ({"drink": None}, DataRefused, "drink: Field required"),
        ({"milk": True}, DataRefused, "milk"),
        ({"drink": "x" * 1_100_000}, MalformedEvent, "limit"),
    ],
)
async def test_an_edit_that_does_not_fit_changes_nothing(
    bed: Bed, edit: dict[str, object], error: type[HocketError], says: str
) -> None:
    [letter] = await died(bed, "mead")
    before = bed.server.end

    with pytest.raises(error, match=says):
        await redrive(bed.bus, letter, by="ada", edit=edit, catalog=LOCAL)

    assert bed.server.end == before


async def test_an_edit_of_a_type_that_nobody_knows_is_refused(bed: Bed) -> None:
    [letter] = await died(bed, "mead")

    with pytest.raises(UnknownType):
        await redrive(bed.bus, letter, by="ada", edit={"drink": "tea"}, catalog=Catalog())


async def test_what_was_no_event_can_be_replaced_or_discarded_and_not_sent_as_it_is(bed: Bed, bar: Bar) -> None:
    for number in range(2):
        subject = bed.names.event("table-1", "stranger", f"x-{number}", 0, "cup.ordered.v1")
        await bed.bus.logs[0].append([Write(subject, b"\xff not json")])
    await bed.quiet()
    first, second = [letter for letter in await the_letters(bed) if letter.agent == "barman"]

    with pytest.raises(MalformedEvent, match="give all its data as an edit, or discard it"):
        await redrive(bed.bus, first, by="ada")
    await redrive(bed.bus, first, by="ada", edit={"drink": "tea", "sugars": 1}, catalog=LOCAL)
    await discard(bed.bus, second, by="ada", reason="noise")
    await bed.quiet()

    found = [letter.status for letter in await the_letters(bed) if letter.agent == "barman"]
    assert first.id == f"seq-{first.event_seq}"
    assert bed.events(CupServed) == [CupServed(drink="tea", sugars=1)]
    assert found == ["redriven", "discarded"]


async def test_an_event_that_could_be_read_keeps_its_name_whatever_is_wrong_with_it(bed: Bed) -> None:
    class Cup(Event, type="cup.ordered.v1", catalog=Catalog()):
        size: str

    await bed.publish(Cup(size="large"), key="table-1", event_id="order-9", saga="evening")
    await bed.quiet()

    found = [letter async for letter in letters(bed.bus, event_id="order-9")]

    assert {(letter.agent, letter.reason, letter.saga) for letter in found} == {
        ("barman", "DataRefused", "evening"),
        ("cashier", "DataRefused", "evening"),
    }


async def test_a_discarded_letter_stays_readable_and_is_not_sent_again(bed: Bed, bar: Bar) -> None:
    [letter] = await died(bed, "mead")
    bar.menu.add("mead")

    await discard(bed.bus, letter, by="ada", reason="they have left")
    [settled] = await the_letters(bed)
    late = await redrive(bed.bus, letter, by="bob")
    later = await redrive(bed.bus, settled, by="bob")

    assert settled.fate is not None
    assert (settled.status, settled.fate.by, settled.fate.reason) == ("discarded", "ada", "they have left")
    assert (late.duplicate, late.fate) == (later.duplicate, later.fate) == (True, settled.fate)
    assert bar.served == []


async def test_a_history_knows_what_became_of_a_letter(bed: Bed) -> None:
    [letter] = await died(bed, "mead")
    await discard(bed.bus, letter, by="ada", reason="they have left")

    entries = await history(bed.bus, "table-1")

    assert [entry.status for entry in entries if isinstance(entry, DeadLetter)] == ["discarded"]
    assert [e.saga for e in entries if isinstance(e, Fact) and e.type == "hocket.letter.discarded.v1"] == ["evening"]


async def test_many_letters_are_sent_in_log_order_and_what_cannot_be_sent_is_passed_over(bed: Bed, bar: Bar) -> None:
    subject = bed.names.event("table-1", "stranger", "x", 0, "cup.ordered.v1")
    await bed.bus.logs[0].append([Write(subject, b"not json")])
    chosen = [letter for letter in await died(bed, "mead", "rum", "gin") if letter.agent == "barman"]
    bar.menu |= {"mead", "rum", "gin"}

    outcomes = [outcome async for _, outcome in redrive_all(bed.bus, chosen, by="ada")]
    await bed.quiet()

    assert bar.served == ["mead", "rum", "gin"]
    assert [isinstance(outcome, MalformedEvent) for outcome in outcomes] == [True, False, False, False]


async def test_the_rest_of_an_interrupted_redrive_is_sent_when_it_is_asked_again(bed: Bed, bar: Bar) -> None:
    chosen = await died(bed, "mead", "rum", "gin")
    bar.menu |= {"mead", "rum", "gin"}

    async for letter, _ in redrive_all(bed.bus, chosen, by="ada"):
        if letter is chosen[1]:
            break
    again = [outcome async for _, outcome in redrive_all(bed.bus, chosen, by="ada")]
    await bed.quiet()

    assert [not isinstance(o, HocketError) and o.duplicate for o in again] == [True, True, False]
    assert bar.served == ["mead", "rum", "gin"]


def test_a_rate_is_kept_to() -> None:
    bar = Bar()

    async def story() -> float:
        async with Bed(bar.barman) as bed:
            chosen = await died(bed, "mead", "rum", "gin", "ale", "port")
            began_s = asyncio.get_running_loop().time()
            async for _ in redrive_all(bed.bus, chosen, by="ada", per_s=2):
                pass
            return asyncio.get_running_loop().time() - began_s

    assert run_virtual(story()) == pytest.approx(2.0, abs=0.01)


async def test_the_audit_counts_what_is_open_and_misses_what_was_sent_again(bed: Bed, bar: Bar) -> None:
    consumes = {"barman": ["cup.ordered.v1"], "cashier": ["cup.ordered.v1"]}
    first, second, _ = await died(bed, "mead", "rum", "gin")
    bar.menu.add("mead")
    sent = await redrive(bed.bus, first, by="ada")
    await discard(bed.bus, second, by="ada", reason="stale")
    await bed.quiet()

    honest = await audit(bed.bus, consumes)
    again = (await bed.bus.find(str(sent.fate.redriven_as))).message
    bed.server._forget(again)
    del bed.server._newest[again.subject]
    robbed = await audit(bed.bus, consumes)

    assert (honest.letters, honest.open_letters, honest.findings) == (3, 1, ())
    assert "redriven-lost" in {finding.code for finding in robbed.findings}


async def test_a_letter_outlives_its_event(bed: Bed, bar: Bar) -> None:
    [letter] = await died(bed, "mead")
    old = await bed.bus.logs[0].last(letter.event_subject)
    assert old is not None
    bed.server._forget(old)
    del bed.server._newest[old.subject]
    bar.menu.add("mead")

    await redrive(bed.bus, letter, by="ada")
    await bed.quiet()

    report = await audit(bed.bus, {"barman": ["cup.ordered.v1"]})
    assert bed.events(CupServed) == [CupServed(drink="mead", sugars=2)]
    assert "no-cause" not in {finding.code for finding in report.findings}


@pytest.mark.parametrize(
    ("old", "patch", "new"),
    [
        ({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1}, {"b": {"c": None, "d": 1}}, {"a": 1, "b": {"d": 1}}),
        ([1], {"a": None}, {}),
        ({"a": 1}, {}, {"a": 1}),
    ],
)
def test_a_merge_patch_is_applied_as_rfc_7396_says(old: object, patch: object, new: object) -> None:
    assert merged(old, patch) == new


async def test_a_log_that_is_down_is_said_to_be_so(bed: Bed) -> None:
    [letter] = await died(bed, "mead")
    bed.server.stop()

    with pytest.raises(Unavailable):
        await discard(bed.bus, letter, by="ada", reason="stale", timeout_s=0.2)

    bed.server.start()
