"""What a saga may use up: reserved before the call, counted once, with what its children use up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import orjson
import pytest

from hocket import Agent, Context
from hocket.account import NAMES_MAX, Balance, Spends
from hocket.cli import looking
from hocket.effect import NotDone
from hocket.errors import BudgetExceeded
from hocket.log.base import Write
from hocket.observe.budgets import lines
from hocket.policy import Retry
from hocket.run import SPEND, Entry
from hocket.subjects import type_of
from hocket.testing import Bed, run_virtual
from hocket_schemas.budgets import Account, Budget, inherited, read, written
from hocket_schemas.errors import BadAttribute, BadSaga
from hocket_schemas.event import Catalog, Event
from hocket_schemas.limits import LimitExceeded
from hocket_schemas.sagas import Saga

EVENTS = Catalog()
HOUR = timedelta(hours=1)


class Asked(Event, type="budget.asked.v1", catalog=EVENTS):
    """Starts a saga with a budget."""

    calls: int = 1


class Delegated(Event, type="budget.delegated.v1", catalog=EVENTS):
    """Starts a child with a budget of its own."""

    calls: int = 1


class Freely(Event, type="budget.freely.v1", catalog=EVENTS):
    """Starts a saga without a budget."""

    calls: int = 1


class Passed(Event, type="budget.passed.v1", catalog=EVENTS):
    """Goes on with the saga that it is in."""

    calls: int = 1


class Done(Event, type="budget.done.v1", catalog=EVENTS):
    pass


class AlsoDone(Event, type="budget.also.done.v1", catalog=EVENTS):
    pass


BUDGET = Budget(tokens=1000, cost=0.5, tool_calls=20, wall=HOUR)


@pytest.fixture(autouse=True)
def policies() -> tuple[Saga, ...]:
    """Declared for one test only: who knows of a budget looks for it."""
    crew = Saga("crew", starts=Asked, done=Done, deadline=HOUR * 9, budget=BUDGET)
    child = Saga("child", starts=Delegated, done=AlsoDone, deadline=HOUR * 9, budget=Budget(tokens=300, steps=50))
    return crew, child


class Outside:
    """Models that are called."""

    def __init__(self) -> None:
        self.calls: list[str] = []


Handler = Callable[[Any, Context, "Asker"], Awaitable[None]]


class Asker:
    """An agent that calls a model for 100 tokens a call, which really takes 60."""

    def __init__(self, outside: Outside, handler: Handler, *, name: str = "asker") -> None:
        self.agent = Agent(name)

        @self.agent.effect(spends=Spends(tokens=100, cost=0.01), idempotent=True, retry=Retry(attempts_max=3))
        async def ask(question: str, *, key: str) -> str:
            outside.calls.append(question)
            if question == "hiccup" and outside.calls.count(question) < 2:
                raise NotDone("busy")
            return "an answer"

        self.ask = ask

        for event in (Asked, Delegated, Freely, Passed):

            async def handle(event: Any, ctx: Context) -> None:
                await handler(event, ctx, self)

            self.agent.on(event, emits=[Done, Delegated, Passed, AlsoDone])(handle)


async def calls(event: Any, ctx: Context, asker: Asker) -> None:
    for n in range(event.calls):
        await ctx.step(asker.ask, f"{ctx.saga} {n}")


class Played:
    """What there is to see after some events were handled."""

    def __init__(self, bed: Bed, agents: Sequence[Agent[Any]]) -> None:
        self.trips = bed.events(LimitExceeded)
        self.letters = [(letter["reason"], letter["error"]) for agent in agents for letter in bed.dead(agent)]
        accounts = bed.server.since(1, [f"{bed.names.root}.acc.*"], 1 << 30)
        self.balances = {(b := Balance.from_json(m.data)).account.saga: b for m in accounts}
        journal = bed.server.since(1, [f"{bed.names.root}.jrn.>"], 1 << 30)
        self.draws = [entry for m in journal if (entry := Entry.from_json(m.data)).kind == SPEND]
        events = bed.server.since(1, [f"{bed.names.root}.evt.>", f"{bed.names.root}.cmd.>"], 1 << 30)
        self.envelopes = [orjson.loads(m.data) for m in events]
        self.stored = [type_of(m.subject) for m in bed.server.history if ".evt." in m.subject]

    def spent(self, saga: str) -> dict[str, dict[str, int]]:
        return {agent: dict(amounts) for agent, amounts in self.balances[saga].spent.items()}


def play(
    *published: Event, agents: Sequence[Agent[Any]], saga: str = "crew-1", wait: timedelta | None = None
) -> Played:
    async def story() -> Played:
        async with Bed(*agents) as bed:
            for event in published:
                await bed.publish(event, key="k", saga=saga)
                await bed.settled()
                if wait is not None:
                    await bed.pass_time(wait)
            await bed.settled()
            return Played(bed, agents)

    return run_virtual(story())


def test_the_call_that_does_not_fit_is_not_made_and_an_event_says_so() -> None:
    outside = Outside()
    asker = Asker(outside, calls)

    seen = play(Asked(calls=12), agents=[asker.agent])

    assert len(outside.calls) == 10
    assert [(t.limit, t.most, t.count, t.agent, t.account) for t in seen.trips] == [
        ("tokens", 1000, 1100, "asker", "crew-1")
    ]
    assert seen.trips[0].spent == {"asker": 1000}
    assert seen.trips[0].what.endswith("ask")
    assert seen.letters == [("BudgetExceeded", "tokens of saga crew-1 would come to 1100, its budget is 1000")]
    assert seen.spent("crew-1") == {"asker": {"tokens": 1000, "cost": 100_000, "tool_calls": 10}}


def test_a_saga_without_a_budget_pays_nothing() -> None:
    outside = Outside()
    asker = Asker(outside, calls)

    seen = play(Freely(calls=12), agents=[asker.agent])

    assert len(outside.calls) == 12
    assert (seen.balances, seen.draws, seen.letters) == ({}, [], [])
    assert not any("hkbudget" in envelope for envelope in seen.envelopes)


def test_what_was_not_used_up_is_given_back() -> None:
    outside = Outside()
    asker = Asker(outside, calls)
    asker.ask.spent(lambda answer: Spends(tokens=60))

    seen = play(Asked(calls=17), agents=[asker.agent])

    # 15 calls came to 900, so there was room for the hundred that the sixteenth might have taken; then for none.
    assert len(outside.calls) == 16
    assert seen.spent("crew-1") == {"asker": {"tokens": 960, "cost": 0, "tool_calls": 16}}
    assert [letter[0] for letter in seen.letters] == ["BudgetExceeded"]


def test_the_budget_goes_with_the_events_of_the_saga() -> None:
    outside = Outside()

    async def pass_on(event: Any, ctx: Context, asker: Asker) -> None:
        await calls(event, ctx, asker)
        if isinstance(event, Asked):
            ctx.emit(Passed(calls=8))

    first = Asker(outside, pass_on)

    seen = play(Asked(calls=5), agents=[first.agent])

    assert len(outside.calls) == 10
    assert seen.spent("crew-1")["asker"]["tokens"] == 1000


def test_an_event_from_outside_draws_from_the_budget_of_the_saga_that_it_joins() -> None:
    outside = Outside()
    asker = Asker(outside, calls)

    seen = play(Asked(calls=0), Passed(calls=12), agents=[asker.agent])

    assert len(outside.calls) == 10
    assert seen.spent("crew-1")["asker"]["tokens"] == 1000


def test_children_draw_from_their_own_budget_and_from_their_parents() -> None:
    outside = Outside()

    async def begin(event: Any, ctx: Context, asker: Asker) -> None:
        if isinstance(event, Asked):
            await calls(event, ctx, asker)
            for n in range(3):
                ctx.start(Delegated(calls=2 + n), saga=f"child-{n}", key="k")
        else:
            await calls(event, ctx, asker)

    asker = Asker(outside, begin)

    seen = play(Asked(calls=2), agents=[asker.agent])

    # The third wants a fourth call, for which its own budget is too small.
    assert len(outside.calls) == 2 + 2 + 3 + 3
    assert seen.spent("crew-1")["asker"] == {"tokens": 1000, "cost": 100_000, "tool_calls": 10}
    assert [seen.spent(f"child-{n}")["asker"]["tokens"] for n in range(3)] == [200, 300, 300]
    assert [(trip.account, trip.limit) for trip in seen.trips] == [("child-2", "tokens")]


async def ten_children(event: Any, ctx: Context, asker: Asker) -> None:
    if isinstance(event, Asked):
        for n in range(10):
            ctx.start(Delegated(calls=2), saga=f"child-{n}", key=f"key-{n}")
    else:
        await asyncio.gather(*(ctx.step(asker.ask, f"{ctx.saga} {n}") for n in range(event.calls)))


def test_ten_children_at_once_in_three_processes_never_overspend() -> None:
    outside = Outside()
    agents = [Asker(outside, ten_children, name=f"asker-{n}").agent for n in range(3)]

    async def story() -> Played:
        async with Bed() as bed, asyncio.TaskGroup() as tasks:
            bed.agents = agents  # type: ignore[assignment]  # one process for each, so that they race
            crews = [tasks.create_task(bed.crew(agent).run()) for agent in agents]
            await bed.owned()
            await bed.publish(Asked(), key="k", saga="crew-1")
            await bed.settled()
            for crew in crews:
                crew.cancel()
            return Played(bed, agents)

    seen = run_virtual(story())

    # Each of the three starts the same ten children, and each child is called for by each of them: 180 calls.
    assert len(outside.calls) == 10
    assert sum(amounts["tokens"] for amounts in seen.spent("crew-1").values()) == 1000
    refused = [draw for draw in seen.draws if draw.error]
    assert len(refused) >= 10
    assert all(trip.account == "crew-1" for trip in seen.trips if trip.count > 300)


def test_a_refusal_is_remembered_and_told_once() -> None:
    outside = Outside()

    async def insists(event: Any, ctx: Context, asker: Asker) -> None:
        for _ in range(3):
            with pytest.raises(BudgetExceeded, match="tokens of saga crew-1 would come to 5000, its budget is 1000"):
                await ctx.spend(tokens=5000)
        await ctx.sleep(1)
        await ctx.spend(tokens=1000)
        ctx.emit(Done())

    seen = play(Asked(), agents=[Asker(outside, insists).agent], wait=HOUR / 2)

    assert seen.letters == []
    assert seen.stored.count(LimitExceeded.event_type) == 1
    assert seen.spent("crew-1") == {"asker": {"tokens": 1000}}


def test_an_effect_counts_once_however_often_it_is_tried() -> None:
    outside = Outside()

    async def hiccups(event: Any, ctx: Context, asker: Asker) -> None:
        await ctx.step(asker.ask, "hiccup")
        await ctx.sleep(1)
        await ctx.step(asker.ask, "fine")

    seen = play(Asked(), agents=[Asker(outside, hiccups).agent], wait=HOUR / 2)

    assert outside.calls == ["hiccup", "hiccup", "fine"]
    assert seen.spent("crew-1")["asker"]["tool_calls"] == 2


def test_steps_count_where_they_are_limited() -> None:
    outside = Outside()

    async def steps(event: Any, ctx: Context, asker: Asker) -> None:
        for n in range(60):
            await ctx.step(lambda n: n, n)

    seen = play(Delegated(), agents=[Asker(outside, steps).agent], saga="child-1")

    assert [(trip.limit, trip.count) for trip in seen.trips] == [("steps", 51)]
    assert seen.spent("child-1") == {"asker": {"steps": 50}}


def test_when_its_time_is_up_no_call_is_begun_any_more() -> None:
    outside = Outside()

    async def late(event: Any, ctx: Context, asker: Asker) -> None:
        await ctx.step(asker.ask, "in time")
        await ctx.sleep(2 * HOUR)
        await ctx.step(asker.ask, "late")

    seen = play(Asked(), agents=[Asker(outside, late).agent], wait=2 * HOUR)

    assert outside.calls == ["in time"]
    assert [(trip.limit, trip.most) for trip in seen.trips] == [("wall", 3600)]


def test_a_purse_travels_as_text() -> None:
    parent = Account("trip/7", "trip", 1_767_225_600_000, {"tokens": 10, "wall": 1000})
    child = Account("a", "part", 1_767_225_600_001, {"cost": 1})

    assert read(written((child, parent))) == (child, parent)
    assert inherited((child, parent), "trip/7") == (parent,)
    assert inherited((child, parent), "another") == (child, parent)


@pytest.mark.parametrize(
    "text",
    ["", "{", "{}", "[]", "[1]", '[{"saga": "a"}]', '[{"saga":"a","name":"b","since_ms":1,"limits":{"love":1}}]'],
)
def test_what_is_no_purse_is_refused(text: str) -> None:
    with pytest.raises(BadAttribute, match="hkbudget"):
        read(text)


def test_a_budget_is_not_less_than_nothing() -> None:
    with pytest.raises(BadSaga, match="budget of tokens is less than nothing"):
        Saga("parcel", starts=Freely, done=Done, deadline=HOUR, budget=Budget(tokens=-1))


def test_an_account_is_shown_limit_by_limit(capsys: pytest.CaptureFixture[str]) -> None:
    account = Account("a", "b", 0, Budget(tokens=100, cost=1.5, wall=HOUR).limits())
    balance = Balance(account).drawn("x", {"tokens": 60, "cost": 500_000}, "ask").drawn("y", {"tokens": 20}, "tell")

    looking._print_budget(lines(balance, 60_000))

    lined = capsys.readouterr().out.splitlines()[2:]
    rows = [line.split() for line in lined if not line.startswith("─")]
    assert rows == [
        ["tokens", "100", "80", "x", "60,", "y", "20"],
        ["cost", "1.5", "0.5", "x", "0.5"],
        ["wall", "3600", "60", "-"],
        [],
        ["agent", "what", "it", "called", "tokens", "cost"],
        ["x", "ask", "60", "0.5"],
        ["y", "tell", "20", "0"],
    ]


def test_an_account_tells_only_so_many_calls_apart() -> None:
    balance = Balance(Account("a", "b", 0, Budget(tokens=1000).limits()))

    for n in range(NAMES_MAX + 5):
        balance = balance.drawn("x", {"tokens": 1}, f"call {n}")

    by_call = Balance.from_json(balance.to_json()).by_call("tokens")["x"]
    assert (len(by_call), by_call["others"]) == (NAMES_MAX + 1, 5)


def test_cost_is_counted_without_drift() -> None:
    balance = Balance(Account("a", "b", 0, Budget(cost=1.0).limits()))

    for _ in range(10):
        balance = balance.drawn("x", Spends(cost=0.1).amounts())

    assert balance.refuses({}, 0) is None
    refusal = balance.refuses(Spends(cost=0.000001).amounts(), 0)
    assert refusal is not None
    assert str(refusal) == "cost of saga a would come to 1, its budget is 1"


@pytest.mark.parametrize("record", [b"", b"null", b"[]", b'{"account": 1}', b"no JSON"])
def test_an_account_that_nobody_can_read_fails_what_draws_from_it_and_nothing_else(record: bytes) -> None:
    outside = Outside()
    asker = Asker(outside, calls)

    async def story() -> list[str]:
        async with Bed(asker.agent) as bed:
            await bed.server.connect().append([Write(bed.names.account("crew-1"), record)])
            await bed.publish(Asked(), key="k", saga="crew-1")
            await bed.publish(Asked(calls=2), key="k", saga="crew-2")
            await bed.quiet()
            return [letter["reason"] for letter in bed.dead(asker.agent)]

    assert run_virtual(story()) == ["AccountLost"]
    assert outside.calls == ["crew-2 0", "crew-2 1"]
