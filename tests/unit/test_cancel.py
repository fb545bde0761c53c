"""Cancelling a saga, a key or a run: what ends, what may still be cleaned up, and what is said of it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from pydantic import ValidationError

from hocket import Agent, Context
from hocket.clock import LoopClock
from hocket.effect import NotDone
from hocket.errors import DecisionRefused
from hocket.host.crew import running
from hocket.ids import cause_of
from hocket.log.memory import MemoryServer
from hocket.observe.runs import asking, effects
from hocket.policy import Limits
from hocket.subjects import address
from hocket.testing import Bed, run_virtual
from hocket_schemas.approvals import ApprovalDecided, ApprovalRefused, ApprovalRequested
from hocket_schemas.cancels import CancelRequested, RunCancelled
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()


class Started(Event, type="cancel.started.v1", catalog=EVENTS):
    n: int = 0


class Answered(Event, type="cancel.answered.v1", catalog=EVENTS):
    pass


class Ended(Event, type="cancel.ended.v1", catalog=EVENTS):
    n: int


class Case:
    """One handler on a bed, what it did in its order, and what was said of its end."""

    def __init__(self, handler: Callable[["Case", Context], Awaitable[None]] | None = None, **options: Any) -> None:
        self.agent = Agent("worker", limits=Limits(window=4), **options)
        self.did: list[str] = []
        self.begun = asyncio.Event()
        self.bed = Bed(self.agent, server=MemoryServer(clock=LoopClock()))

        @self.agent.on(Started, emits=[Ended], waits=[Answered])
        async def start(event: Started, ctx: Context) -> Ended:
            self.did.append(f"began {event.n}")
            if handler is not None:
                await handler(self, ctx)
            return Ended(n=event.n)

    def play(self, script: Callable[["Case"], Awaitable[None]]) -> list[RunCancelled]:
        """Run a script on the bed; return what was said of the runs that were cancelled."""

        async def live() -> list[RunCancelled]:
            async with self.bed:
                await script(self)
                self.open = self.bed.runs(self.agent)
                self.ended = [ended.n for ended in self.bed.events(Ended)]
                return self.bed.events(RunCancelled)

        return run_virtual(live())

    async def start(self, n: int = 0, **options: Any) -> None:
        await self.bed.publish(Started(n=n), key=options.pop("key", "k"), saga=options.pop("saga", "s"), **options)

    async def cancel(self, **scope: str) -> None:
        await self.bed.publish(CancelRequested(by="ada", reason="too dear", **scope), key=scope.get("key", "s"))
        await self.bed.settled()

    def tried(self, what: str) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            self.did.append(what)

        act.__qualname__ = what
        return act


async def waits(case: Case, ctx: Context) -> None:
    try:
        await ctx.step(case.tried("step"))
        await ctx.wait(Answered)
        case.did.append("went on")
    finally:
        case.did.append("finally")
        await ctx.step(case.tried("cleanup"))
        case.did.append("cleaned up")


async def works(case: Case, ctx: Context) -> None:
    try:
        case.begun.set()
        await asyncio.sleep(3600)
        case.did.append("went on")
    finally:
        await ctx.step(case.tried("cleanup"))


def test_a_waiting_run_is_cancelled_at_its_wait_and_its_cleanup_may_be_durable() -> None:
    case = Case(waits)

    async def script(case: Case) -> None:
        await case.start()
        await case.bed.settled()
        await case.cancel(saga="s")

    told = case.play(script)

    assert case.did == ["began 0", "step", "finally", "began 0", "finally", "cleanup", "cleaned up"]
    assert [(t.agent, t.key, t.by, t.reason, t.effects, t.error) for t in told] == [
        ("worker", "k", "ada", "too dear", [], "")
    ]
    assert case.open == []
    assert case.ended == []


def test_a_handler_at_work_is_cancelled_and_its_key_goes_on() -> None:
    async def script(case: Case) -> None:
        await case.start()
        await case.begun.wait()
        await case.cancel(saga="s")
        await case.start(1, saga="other", event_id="other")
        await case.bed.quiet()

    async def works_once(case: Case, ctx: Context) -> None:
        if ctx.saga == "s":
            await works(case, ctx)

    case = Case(works_once)
    told = case.play(script)

    assert case.did == ["began 0", "cleanup", "began 1"]
    assert len(told) == 1
    assert case.ended == [1]


def test_what_waits_for_its_turn_is_dropped_and_so_is_what_comes_later_of_the_saga() -> None:
    async def works_once(case: Case, ctx: Context) -> None:
        if not case.begun.is_set():
            await works(case, ctx)

    async def script(case: Case) -> None:
        for n in range(10):  # more than the agent takes in hand
            await case.start(n)
        await case.begun.wait()
        await case.cancel(saga="s")
        await case.start(10)
        await case.start(11, saga="other")
        await case.bed.quiet()

    case = Case(works_once)
    told = case.play(script)

    assert case.did == ["began 0", "cleanup", "began 11"]
    assert len(told) == 1


def test_of_a_key_only_what_is_older_than_the_request_ends() -> None:
    async def works_once(case: Case, ctx: Context) -> None:
        if not case.begun.is_set():
            await works(case, ctx)

    async def script(case: Case) -> None:
        await case.start(0)
        await case.start(1, saga="other")
        await case.start(2, key="another")
        await case.begun.wait()
        await case.cancel(key="k")
        await case.start(3)
        await case.bed.quiet()

    case = Case(works_once)
    told = case.play(script)

    assert sorted(case.did) == ["began 0", "began 2", "began 3", "cleanup"]
    assert [t.key for t in told] == ["k"]


def test_a_single_run_is_cancelled_among_others() -> None:
    async def script(case: Case) -> None:
        await case.start(0)
        await case.start(1)
        await case.bed.settled()
        run = address(case.bed.runs(case.agent)[0].subject)
        cause = cause_of("worker", "/hocket/test", run.cause)
        await case.cancel(run=cause)
        await case.bed.publish(Answered(), key="k")
        await case.bed.quiet()

    case = Case(waits)
    told = case.play(script)

    assert [t.key for t in told] == ["k"]
    assert case.ended == [1]


def test_a_request_that_is_about_nothing_here_and_one_that_comes_again_bring_nothing_about() -> None:
    async def script(case: Case) -> None:
        await case.cancel(saga="unheard of")
        await case.start()
        await case.bed.settled()
        await case.cancel(saga="s")
        await case.cancel(saga="s")

    assert len(Case(waits).play(script)) == 1


def test_a_request_is_heeded_by_whoever_comes_to_own_the_agent_after_it() -> None:
    async def live(case: Case) -> list[RunCancelled]:
        async with Bed(server=case.bed.server) as bed:
            bed.agents = (case.agent,)
            async with running(bed.crew(case.agent)):
                await bed.owned()
                await bed.publish(Started(n=0), key="k", saga="s")
                await bed.settled()
            await bed.publish(Started(n=1), key="k", saga="s")
            await bed.publish(CancelRequested(saga="s", by="ada"), key="s")
            await bed.publish(Started(n=2), key="k", saga="s")
            async with running(bed.crew(case.agent)):
                await bed.quiet()
            async with running(bed.crew(case.agent)):
                await bed.publish(Started(n=3), key="k", saga="s")
                await bed.quiet()
            return bed.events(RunCancelled)

    case = Case(waits)
    told = run_virtual(live(case))

    assert len(told) == 1
    assert case.did == ["began 0", "step", "finally", "began 0", "finally", "cleanup", "cleaned up"]


def test_an_approval_closes_with_its_run() -> None:
    async def asks(case: Case, ctx: Context) -> None:
        await ctx.approve("Go on?")

    async def script(case: Case) -> None:
        await case.start()
        await case.bed.settled()
        [asked] = case.bed.events(ApprovalRequested)
        await case.cancel(saga="s")
        yes = ApprovalDecided(approval=asked.approval, digest=asked.digest, option="approve", by="bob")
        await case.bed.bus.command(yes, to="worker", key="k")
        await case.bed.settled()
        case.did += [refused.reason for refused in case.bed.events(ApprovalRefused)]
        with pytest.raises(DecisionRefused, match="cancelled by ada: too dear"):
            await asking(case.bed.bus, asked.approval)

    case = Case(asks)
    case.play(script)

    assert case.did == ["began 0", "began 0", "its run was cancelled by ada: too dear"]


def test_of_each_effect_is_said_how_far_it_came() -> None:
    case = Case()
    cancelled = Agent("booker", limits=Limits(cleanup_s=1.0))
    calling = asyncio.Event()

    @cancelled.effect()
    async def book(what: str) -> str:
        if what == "hotel":
            raise NotDone("no room")
        if what == "car":
            calling.set()
            await asyncio.sleep(3600)
        return what

    @cancelled.on(Started)
    async def begin(event: Started, ctx: Context) -> None:
        await ctx.step(book, "flight")
        with suppress(NotDone):
            await ctx.step(book, "hotel")
        await ctx.step(book, "car")

    async def live() -> list[RunCancelled]:
        async with Bed(cancelled, server=case.bed.server) as bed:
            await bed.publish(Started(), key="k", saga="s")
            await calling.wait()
            await bed.publish(CancelRequested(saga="s", by="ada"), key="s")
            await bed.quiet()
            ledger = [effect.idempotency_key for effect in await effects(bed.bus)]
            [told] = bed.events(RunCancelled)
            assert sorted(effect.key for effect in told.effects) == sorted(ledger)
            return [told]

    [told] = run_virtual(live())

    assert [(effect.name.rpartition(".")[2], effect.status) for effect in told.effects] == [
        ("book", "unknown"),
        ("book", "done"),
        ("book", "not started"),
    ]


def test_an_intent_that_was_cut_off_before_its_call_is_not_started() -> None:
    booker = Agent("booker")
    called: list[str] = []
    gate, begun = asyncio.Event(), asyncio.Event()
    gate.set()

    @booker.effect()
    async def book() -> None:
        called.append("book")

    @booker.on(Started)
    async def begin(event: Started, ctx: Context) -> None:
        gate.clear()
        begun.set()
        try:
            await ctx.step(book)
        finally:
            gate.set()

    async def live() -> list[RunCancelled]:
        async with Bed(server=MemoryServer(clock=LoopClock())) as bed:
            bed.agents = (booker,)
            log = bed.server.connect()
            append = log.append

            async def held(*arguments: Any, **options: Any) -> Any:
                await gate.wait()
                return await append(*arguments, **options)

            log.append = held
            async with running(bed.crew_on(log)):
                await bed.owned()
                await bed.publish(Started(), key="k", saga="s")
                await begun.wait()
                await bed.publish(CancelRequested(saga="s", by="ada"), key="s")
                await bed.quiet()
            assert [effect.state for effect in await effects(bed.bus)] == ["not done"]
            return bed.events(RunCancelled)

    [told] = run_virtual(live())

    assert [effect.status for effect in told.effects] == ["not started"]
    assert called == []


def test_a_wait_in_cleanup_ends_it_and_is_told() -> None:
    async def naps(case: Case, ctx: Context) -> None:
        try:
            await ctx.wait(Answered)
        except asyncio.CancelledError:
            await ctx.sleep(60)
            case.did.append("woke")

    async def script(case: Case) -> None:
        await case.start()
        await case.bed.settled()
        await case.cancel(saga="s")

    case = Case(naps)
    [told] = case.play(script)

    assert told.error == "it waits, which cleanup cannot"
    assert "woke" not in case.did


def test_what_cleanup_fails_with_is_told() -> None:
    async def fails(case: Case, ctx: Context) -> None:
        try:
            await ctx.wait(Answered)
        except asyncio.CancelledError:
            raise RuntimeError("the door is stuck") from None

    async def script(case: Case) -> None:
        await case.start()
        await case.bed.settled()
        await case.cancel(saga="s")

    [told] = Case(fails).play(script)

    assert told.error == "RuntimeError: the door is stuck"


def test_whoever_does_not_listen_is_cancelled_again_when_the_time_for_cleanup_is_over() -> None:
    async def deaf(case: Case, ctx: Context) -> None:
        for _ in range(3):
            with suppress(asyncio.CancelledError):
                case.begun.set()
                await asyncio.sleep(3600)
            case.did.append("still here")

    async def script(case: Case) -> None:
        await case.start()
        await case.begun.wait()
        await case.cancel(saga="s")
        case.did.append(f"{asyncio.get_running_loop().time():.0f} s")

    case = Case(deaf)
    told = case.play(script)

    assert len(told) == 1
    assert case.ended == [], "the end of a cancelled handling is void"
    assert case.did[:4] == ["began 0", "still here", "still here", "still here"]


def test_nothing_new_is_done_beside_the_call_at_which_a_run_is_cancelled() -> None:
    async def both(case: Case, ctx: Context) -> None:
        await ctx.step(case.tried("first"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ctx.wait(Answered))
            if case.did.count("began 0") > 1:  # the code has changed meanwhile
                tasks.create_task(ctx.step(case.tried("beside")))
        await ctx.step(case.tried("after"))

    async def script(case: Case) -> None:
        await case.start()
        await case.bed.settled()
        await case.cancel(saga="s")

    case = Case(both)
    told = case.play(script)

    assert case.did == ["began 0", "first", "began 0"]
    assert [t.error for t in told] == [""]


def test_a_retry_that_is_waited_for_does_not_come() -> None:
    async def fails(case: Case, ctx: Context) -> None:
        case.begun.set()
        raise RuntimeError("not yet")

    async def script(case: Case) -> None:
        await case.start()
        await case.begun.wait()
        await asyncio.sleep(0.01)
        await case.cancel(saga="s")
        await case.bed.quiet()
        case.did += [letter["error"] for letter in case.bed.dead(case.agent)]

    case = Case(fails)
    case.play(script)

    assert case.did == ["began 0"]


def test_nothing_durable_is_done_on_the_way_out_of_a_handler_whose_owner_stops() -> None:
    case = Case(works)

    async def live() -> None:
        async with Bed(server=case.bed.server) as bed:
            bed.agents = (case.agent,)
            async with running(bed.crew(case.agent)):
                await bed.owned()
                await bed.publish(Started(), key="k", saga="s")
                await case.begun.wait()

    run_virtual(live())

    assert case.did == ["began 0"]


def test_an_agent_that_looks_after_sagas_goes_on() -> None:
    async def script(case: Case) -> None:
        await case.start()
        await case.bed.settled()
        await case.cancel(saga="s")
        await case.bed.publish(Answered(), key="k")
        await case.bed.quiet()

    case = Case(waits, heeds_cancels=False)
    told = case.play(script)

    assert told == []
    assert case.ended == [0]


def test_a_request_names_exactly_one_thing() -> None:
    for scope in ({}, {"saga": "s", "key": "k"}, {"run": ""}):
        with pytest.raises(ValidationError):
            CancelRequested(by="ada", **scope)


def test_what_is_no_request_becomes_a_dead_letter() -> None:
    async def script(case: Case) -> None:
        envelope = Envelope(id="x", source="/test", type=CancelRequested.event_type, data={"by": "ada"})
        await case.bed.bus.publish_envelope(envelope)
        await case.bed.settled()
        case.did += [letter["reason"] for letter in case.bed.dead(case.agent)]

    case = Case()
    case.play(script)

    assert case.did == ["DataRefused"]
