"""Where chaos strikes, what counts as a hit, and which promises a run breaks: values in, values out."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hocket.demo.account import Account, account_of
from hocket.demo.brief import Problem
from hocket.demo.chaos import EVERYONE, SERVER, Blow, Moment, Storm, Strike, plan
from hocket.demo.invariants import of_saga, of_storm
from hocket.demo.play import Played, Published, Stuck
from hocket.engine.cursor import Mark
from hocket.ids import cause_of
from hocket.log.base import Message, Seq
from hocket.observe.finding import Finding, Severity
from hocket.run import Entry
from hocket.subjects import Names
from hocket_schemas import gate
from hocket_schemas.envelope import Envelope

NAMES = Names("hocket", 0)
CONSUMES = {"ada": frozenset({"a.asked.v1"}), "bob": frozenset({"a.said.v1"}), "eve": frozenset[str]()}
SERVICES = {"ada": "adas", "bob": "bobs", "eve": "eves"}


def event(seq: int, agent: str, event_type: str, cause: Message | None = None, i: int = 0) -> Message:
    """An event at a sequence, stored at that second; of an agent when it has a cause."""
    event_id = f"e{seq}"
    token = event_id
    if cause is not None:
        before = gate.read(cause.data, gate.CONTENT_TYPE)
        token = cause_of(agent, before.source, before.id)
        event_id = f"{token}.{i}"
    envelope = Envelope(
        id=event_id,
        source=f"/hocket/{agent}",
        type=event_type,
        partitionkey="k",
        correlationid="k",
        causationid=before.id if cause is not None else None,
    )
    subject = NAMES.event("k", agent, token, i, event_type)
    return Message(subject, Seq(seq), gate.write(envelope), seq * 10**9)


def log(*, upto: int = 99) -> Sequence[Message]:
    """Two questions, each answered by ada and then by bob."""
    first, second = event(1, "demo", "a.asked.v1"), event(2, "demo", "a.asked.v1")
    said = [event(3, "ada", "a.said.v1", first), event(4, "ada", "a.said.v1", second)]
    heard = [event(5, "bob", "a.heard.v1", said[0]), event(7, "bob", "a.heard.v1", said[1])]
    cursors = [
        Message(NAMES.cursor(agent), Seq(90 + i), Mark(upto).to_json()) for i, agent in enumerate(sorted(CONSUMES))
    ]
    return [*cursors, first, second, *said, *heard]


@pytest.fixture
def account() -> Account:
    return account_of(log(), CONSUMES)


def played(account: Account, data: bytes = b"brief") -> Played:
    return Played("k", Published("e9", Path("brief.md"), data, 1, 1, ()), account, 1.0)


def storm(*blows: Blow, strikes: Sequence[Strike] = ()) -> Storm:
    # What is judged afterwards needs no stage.
    return Storm(stage=None, strikes=tuple(strikes), blows=list(blows))  # type: ignore[arg-type]  # as said above


def blow(target: str, at_s: float, *killed: str) -> Blow:
    return Blow(Strike(target, Moment("a.asked.v1", 1)), killed or (target,), int(at_s * 1e9))


def test_an_account_says_who_did_how_much(account: Account) -> None:
    ada, bob, eve = account.works

    assert (ada.agent, ada.handled, ada.emitted, ada.letters) == ("ada", 2, 2, 0)
    assert (bob.agent, bob.handled, bob.emitted, bob.letters) == ("bob", 2, 2, 0)
    assert (eve.handled, eve.emitted) == (0, 0)
    assert ada.busy_s == 2 + 1
    assert bob.busy_s == 2 + 2
    assert [finding for finding in account.report.findings if finding.severity is Severity.ERROR] == []


def test_what_a_cursor_has_not_passed_is_not_handled() -> None:
    account = account_of(log(upto=1), CONSUMES)

    assert [work.handled for work in account.works] == [1, 0, 0]
    assert [i.text for i in of_saga(played(account)) if not i.holds] == ["nothing was lost"]


def deed(seq: int, i: int, name: str, phase: str) -> Message:
    """An entry of the journal of ada's handling of the first event, stored at that second."""
    subject = f"{NAMES.journal('ada', 'k', cause_of('ada', '/hocket/demo', 'e1'))}.{i}"
    return Message(subject, Seq(seq), Entry(name, 0, "effect", "", phase=phase).to_json(), seq * 10**9)


@pytest.fixture
def asking() -> Account:
    """Ada asks a person, who takes five seconds, and then does two things outside; the second is under way."""
    asked = event(1, "demo", "a.asked.v1")
    question, said = event(2, "ada", "a.question.v1", asked), event(12, "ada", "a.said.v1", asked, 1)
    answer = event(7, "demo", "a.word.v1")._replace(subject=NAMES.command("ada", "k", "e7", 0, "a.word.v1"))
    deeds = [deed(8, 0, "pay", "begun"), deed(10, 1, "pay", "done"), deed(11, 2, "ship", "begun")]
    return account_of([asked, question, answer, *deeds, said], {"ada": frozenset({"a.asked.v1"})})


def test_an_account_tells_work_from_waiting_and_from_what_was_done_outside(asking: Account) -> None:
    told = [(a.kind, a.what, a.asked_ns // 10**9, a.answered_ns // 10**9) for a in asking.answers]

    assert told == [
        ("work", "a.asked.v1", 1, 2),
        ("question", "a.question.v1", 2, 7),
        ("work", "a.word.v1", 7, 12),
        ("effect", "intent of pay", 8, 10),
    ]
    assert asking.works[0].busy_s == 1 + 5
    assert (asking.done, asking.unknown) == (1, ("ship",))
    assert "of every effect it is known whether it happened" in [i.text for i in of_saga(played(asking)) if not i.holds]


def test_whoever_asks_or_does_something_outside_is_struck_then_too(asking: Account) -> None:
    strikes = plan(asking, {"ada": "adas"}, random.Random(1))

    assert {str(strike.moment) for strike in strikes if strike.target == "adas"} == {
        "a.asked.v1 no. 1",
        "a.question.v1 no. 1",
        "a.word.v1 no. 1",
        "intent of pay no. 1",
    }
    assert blow("adas", 4.0).hit(asking, {"ada": "adas"})


@pytest.mark.parametrize("seed", range(20))
def test_each_service_is_struck_at_what_it_answered_and_everyone_early(account: Account, seed: int) -> None:
    strikes = plan(account, SERVICES, random.Random(seed))

    moments: dict[str, list[str]] = {}
    for strike in strikes:
        moments.setdefault(strike.target, []).append(str(strike.moment))
    assert sorted(moments["adas"]) == ["a.asked.v1 no. 1", "a.asked.v1 no. 2"]
    assert sorted(moments["bobs"]) == ["a.said.v1 no. 1", "a.said.v1 no. 2"]
    assert len(moments["eves"]) == 2
    assert moments[EVERYONE] == ["a.asked.v1 no. 1"]
    assert len(moments[SERVER]) == 1


def test_the_same_seed_strikes_the_same(account: Account) -> None:
    plans = {plan(account, SERVICES, random.Random(3)) for _ in range(3)}

    assert len(plans) == 1
    assert len({plan(account, SERVICES, random.Random(seed)) for seed in range(20)}) > 1


@pytest.mark.parametrize(
    ("struck", "hit"),
    [
        (blow("adas", 0.5), False),
        (blow("adas", 1.5), True),
        (blow("adas", 3.5), True),
        (blow("adas", 4.0), False),
        (blow("bobs", 2.5), False),
        (blow("bobs", 6.5), True),
        (blow("bobs", 7.0), False),
        (blow("eves", 3.5), False),
        (blow(SERVER, 6.5), True),
        (blow(SERVER, 7.5), False),
        (blow(EVERYONE, 6.5, "adas", "bobs", "eves"), True),
        (blow(EVERYONE, 7.5, "adas", "bobs", "eves"), False),
    ],
)
def test_a_hit_is_an_event_that_was_there_before_and_was_answered_after(
    account: Account, struck: Blow, hit: bool
) -> None:
    assert struck.hit(account, SERVICES) is hit


def test_a_run_that_keeps_every_promise_passes(account: Account) -> None:
    hit = blow("adas", 1.5)

    kept = of_storm(played(account), played(account), storm(hit, strikes=[hit.strike]), [hit])

    assert [invariant for invariant in kept if not invariant.holds] == []


def broken(calm: Played, stormy: Played) -> list[str]:
    hit = blow("adas", 1.5)
    kept = of_storm(calm, stormy, storm(hit, strikes=[hit.strike]), [hit])
    return [invariant.text for invariant in kept if not invariant.holds]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("doubled", "nothing was handled twice"),
        ("gap", "nothing was handled twice"),
        ("handled-and-dead", "nothing was handled twice"),
        ("unfinished", "nothing was lost"),
        ("never-owned", "nothing was lost"),
        ("open-run", "nothing was lost"),
        ("no-cause", "every event has its cause, and stands after it"),
        ("cause-after-effect", "every event has its cause, and stands after it"),
        ("wrong-cause", "every event has its cause, and stands after it"),
        ("out-of-order", "every agent answered in the log's order"),
        ("something-new", "the audit found nothing else"),
    ],
)
def test_whatever_the_audit_finds_breaks_a_promise(account: Account, code: str, text: str) -> None:
    finding = Finding(Severity.ERROR, code, "e3", "it is wrong")
    wrong = replace(account, report=replace(account.report, findings=(finding,)))

    assert broken(played(account), played(wrong)) == [text]


def test_a_dead_letter_another_brief_another_event_and_no_brief_break_a_promise(account: Account) -> None:
    calm = played(account)
    same = "the brief is the same to the last byte, and every citation holds"
    untrue = replace(calm, ending=Published("e9", Path("b.md"), b"brief", 1, 1, (Problem(3, "says something else"),)))
    letter = replace(account, report=replace(account.report, letters=1))
    more = replace(account, facts=(*account.facts, account.facts[-1]))

    assert broken(calm, played(letter)) == ["no agent gave an event up"]
    assert broken(calm, played(account, b"beief")) == [same]
    assert broken(calm, untrue) == [same]
    assert broken(calm, replace(calm, ending=Stuck("too late"))) == [same]
    assert broken(calm, played(more)) == ["the same events as in the calm run"]


def test_whoever_was_meant_and_not_killed_is_named(account: Account) -> None:
    hit = blow(EVERYONE, 1.5, "adas", "bobs")
    meant = [hit.strike, Strike("adas", Moment("a.asked.v1", 2)), Strike(SERVER, Moment("a.asked.v1", 2))]

    kept = of_storm(played(account), played(account), storm(hit, strikes=meant), [hit])

    [wrong] = [invariant for invariant in kept if not invariant.holds]
    assert (wrong.text, wrong.detail) == ("everybody was killed who was meant", SERVER)


def test_a_run_in_which_nothing_was_hit_is_vacuous(account: Account) -> None:
    miss = blow("adas", 8.0)

    kept = of_storm(played(account), played(account), storm(miss, strikes=[miss.strike]), [])

    [wrong] = [invariant for invariant in kept if not invariant.holds]
    assert wrong.detail.startswith("VACUOUS: 0 of 1 strikes")
