"""What agents remember of a saga that was undone: each actor that took part is told once, and can correct itself."""

import pytest
from pydantic import BaseModel

from hocket import Agent, Context, Event, aborting
from hocket.errors import UsageError
from hocket.observe.knowledge import Knowing, knowledge_of
from hocket.observe.sagas import facts_in
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog
from hocket_schemas.runtime import SagaAborted, SagaCompensated

EVENTS = Catalog()


class Claimed(Event, type="aborted.claimed.v1", catalog=EVENTS):
    claim: str


class Corrected(Event, type="aborted.corrected.v1", catalog=EVENTS):
    claims: list[str]


class Beliefs(BaseModel):
    claims: dict[str, str] = {}
    """By saga."""

    told: list[str] = []


def believer(*, corrects: bool = True) -> Agent[Beliefs]:
    agent = Agent("believer", state=Beliefs)

    @agent.on(Claimed)
    async def believe(event: Claimed, ctx: Context[Beliefs]) -> Corrected | None:
        if event.claim:
            ctx.state.claims[ctx.saga] = event.claim
        return None if corrects else Corrected(claims=[event.claim])

    if corrects:

        @agent.on_aborted
        async def correct(aborted: SagaAborted, ctx: Context[Beliefs]) -> Corrected:
            ctx.state.told.append(f"{aborted.saga}: {aborted.reason}")
            return Corrected(claims=[ctx.state.claims.pop(aborted.saga, "nothing")])

    return agent


async def compensate(bed: Bed, saga: str) -> None:
    """As the coordinator says it."""
    said = SagaCompensated(name="", saga=saga, reason="it rained")
    await bed.publish(said, key=saga, saga=saga)
    await bed.quiet()


def test_each_key_whose_state_took_part_is_told_once_however_often_that_is_said() -> None:
    agent = believer()

    async def live() -> tuple[list[Beliefs], list[Corrected], list[str]]:
        async with Bed(agent) as bed:
            await bed.publish(Claimed(claim="wet"), key="ada", saga="s-1")
            await bed.publish(Claimed(claim="wetter"), key="ada", saga="s-1")
            await bed.publish(Claimed(claim="dry"), key="bob", saga="s-1")
            await bed.publish(Claimed(claim="sunny"), key="ada", saga="s-2")
            await bed.publish(Claimed(claim=""), key="eve", saga="s-1")
            await bed.quiet()
            await compensate(bed, "s-1")
            await compensate(bed, "s-1")
            parts = bed.server.since(1, [f"{bed.names.root}.part.>"], 99)
            return (
                [bed.state(agent, key) for key in ("ada", "bob", "eve")],
                bed.events(Corrected),
                [message.subject for message in parts],
            )

    (ada, bob, eve), corrected, parts = run_virtual(live())

    assert (ada.claims, ada.told) == ({"s-2": "sunny"}, ["s-1: it rained"])
    assert (bob.claims, bob.told) == ({}, ["s-1: it rained"])
    assert eve is None
    assert [event.claims for event in corrected] == [["wetter"], ["dry"]]
    assert parts == [f"hocket.0.part.believer.{part}" for part in ("s-1.ada", "s-1.bob", "s-2.ada")]


def test_more_actors_than_one_append_can_tell_are_told_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aborting, "TOLD_MAX", 2)
    agent = believer()

    async def live() -> list[Beliefs]:
        async with Bed(agent) as bed:
            for n in range(5):
                await bed.publish(Claimed(claim="wet"), key=f"k-{n}", saga="s-1")
            await bed.quiet()
            await compensate(bed, "s-1")
            return [bed.state(agent, f"k-{n}") for n in range(5)]

    assert [(state.claims, len(state.told)) for state in run_virtual(live())] == [({}, 1)] * 5


def test_who_knows_of_a_saga_can_be_listed() -> None:
    corrects, does_not = believer(), believer(corrects=False)
    does_not.name = "gossip"

    async def live() -> list[tuple[str, str, Knowing]]:
        async with Bed(corrects, does_not) as bed:
            for key in ("ada", "bob"):
                await bed.publish(Claimed(claim="wet"), key=key, saga="s-1")
            for key in ("ada", "eve"):
                await bed.publish(Claimed(claim="dry"), key=key, saga="s-2")
            await bed.quiet()
            await compensate(bed, "s-2")
            found = []
            for saga in ("s-1", "s-2"):
                facts = [fact async for fact in facts_in(bed.bus, saga)]
                found += [(k.agent, k.key, k.state) for k in await knowledge_of(bed.bus, saga, facts)]
            return found

    assert run_virtual(live()) == [
        ("believer", "ada", Knowing.CHANGED),
        ("believer", "bob", Knowing.CHANGED),
        ("gossip", "ada", Knowing.POSSIBLE),
        ("gossip", "bob", Knowing.POSSIBLE),
        ("believer", "ada", Knowing.TOLD),
        ("believer", "eve", Knowing.TOLD),
        ("gossip", "ada", Knowing.POSSIBLE),
        ("gossip", "eve", Knowing.POSSIBLE),
    ]


def test_what_cannot_be_corrected_is_refused() -> None:
    async def correct(aborted: SagaAborted) -> None:
        pass

    async def end(event: SagaCompensated) -> None:
        pass

    stateless, handles, corrects = Agent("stateless"), Agent("handles", state=Beliefs), believer()
    handles.on(SagaCompensated)(end)

    with pytest.raises(UsageError, match="no state"):
        stateless.on_aborted(correct)
    with pytest.raises(UsageError, match=r"hears hocket\.saga\.compensated\.v1 itself"):
        handles.on_aborted(correct)
    with pytest.raises(UsageError, match="on_aborted, which hears"):
        corrects.on(SagaCompensated)(end)
