"""Every way in which an event can go wrong within its process: a dead letter each, and no harm to any other key."""

import asyncio
from typing import Any

import orjson
from pydantic import BaseModel

from hocket import Agent, Context, Retry
from hocket.observe.letters import letters
from hocket.observe.settling import redrive
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()
ATTEMPTS = 3


class Given(Event, type="poison.given.v1", catalog=EVENTS):
    kind: str = ""
    n: int = 0


class Taken(Event, type="poison.taken.v1", catalog=EVENTS):
    n: Any


class Undeclared(Event, type="poison.undeclared.v1", catalog=EVENTS):
    n: int = 0


class Seen(BaseModel):
    n: Any = 0


async def hang() -> None:
    await asyncio.Event().wait()


async def give(value: Any) -> Any:
    return value


async def await_cancelled() -> None:
    task = asyncio.ensure_future(asyncio.sleep(10))
    task.cancel()
    await task


async def poison(kind: str, ctx: Context[Seen]) -> Any:
    """Go wrong in some way."""
    match kind:
        case "raises":
            raise ValueError("no")
        case "raises a group":
            raise ExceptionGroup("no", [ValueError("no"), KeyError("no")])
        case "runs out of memory":
            raise MemoryError
        case "recurses":
            return await poison(kind, ctx)
        case "hangs":
            await hang()
        case "hangs in a step":
            await ctx.step_with(hang, step_timeout_s=0.5)
        case "hangs in a step that is tried again":
            await ctx.step_with(hang, step_timeout_s=0.5, step_retry=Retry(attempts_max=2, first_s=0.1))
        case "awaits what was cancelled":
            await await_cancelled()
        case "cancels itself":
            raise asyncio.CancelledError
        case "cancels its own task" | "cancels its own task and waits" | "cancels its own task before a step":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if kind.endswith("waits"):
                await hang()
            if kind.endswith("step"):
                await ctx.step(give, 1)
            return Taken(n="all went well")
        case "returns no event":
            return "text"
        case "returns a list of no events":
            return [Taken(n=1), 2]
        case "returns an undeclared event":
            return Undeclared()
        case "returns what no JSON can hold":
            return Taken.model_construct(n=object())
        case "returns a lone surrogate":
            return Taken(n="\ud800")
        case "returns too much":
            return Taken(n="x" * 2_000_000)
        case "emits what no JSON can hold and waits":
            ctx.emit(Taken.model_construct(n=object()))
            await ctx.sleep(1)
        case "leaves a state that no JSON can hold":
            ctx.state.n = object()
        case "leaves a state that no JSON can hold and waits":
            ctx.state.n = object()
            await ctx.sleep(1)
        case "has a step return what no JSON can hold":
            await ctx.step(give, object())
        case _:
            raise AssertionError(kind)
    return None


KINDS = {
    "raises": "AttemptsExhausted",
    "raises a group": "AttemptsExhausted",
    "runs out of memory": "AttemptsExhausted",
    "recurses": "AttemptsExhausted",
    "hangs": "HandlerTimeout",
    "hangs in a step": "StepTimeout",
    "hangs in a step that is tried again": "StepFailed",
    "awaits what was cancelled": "HandlerCancelled",
    "cancels itself": "HandlerCancelled",
    "cancels its own task": "HandlerCancelled",
    "cancels its own task and waits": "HandlerCancelled",
    "cancels its own task before a step": "HandlerCancelled",
    "returns no event": "BadReturn",
    "returns a list of no events": "BadReturn",
    "returns an undeclared event": "UndeclaredEvent",
    "returns what no JSON can hold": "BadReturn",
    "returns a lone surrogate": "BadReturn",
    "returns too much": "BadReturn",
    "emits what no JSON can hold and waits": "BadReturn",
    "leaves a state that no JSON can hold": "BadReturn",
    "leaves a state that no JSON can hold and waits": "BadReturn",
    "has a step return what no JSON can hold": "UsageError",
}


def test_every_kind_of_poison_is_a_dead_letter_holds_up_no_other_key_and_is_handled_once_when_it_is_mended() -> None:
    agent, tries, mended = Agent("victim", state=Seen), dict.fromkeys(KINDS, 0), False

    @agent.on(Given, emits=[Taken], timeout_s=2.0, retry=Retry(attempts_max=ATTEMPTS, first_s=0.1))
    async def take(event: Given, ctx: Context[Seen]) -> Any:
        if not event.kind or mended:
            return Taken(n=event.kind or event.n)
        tries[event.kind] += 1
        return await poison(event.kind, ctx)

    async def story() -> tuple[dict[str, str], list[Any], list[Any], list[Any]]:
        nonlocal mended
        async with Bed(agent) as bed:
            for n, kind in enumerate(KINDS):
                await bed.publish(Given(kind=kind), key=f"bad-{n}")
                await bed.publish(Given(n=-n - 1), key=f"bad-{n}")
            for n in range(50):
                await bed.publish(Given(n=n), key=f"good-{n % 10}")
            await bed.quiet()
            taken = [event.n for event in bed.events(Taken)]
            dead = {letter["id"]: letter for letter in bed.dead(agent)}
            reasons = {event_kind(letter): letter["reason"] for letter in dead.values()}
            mended = True
            for letter in [each async for each in letters(bed.bus)]:
                await redrive(bed.bus, letter, by="test", catalog=EVENTS)
                await redrive(bed.bus, letter, by="test", catalog=EVENTS)
            await bed.quiet()
            again = [event.n for event in bed.events(Taken)][len(taken) :]
            return reasons, taken, again, bed.dead(agent)

    reasons, taken, again, dead = run_virtual(story())

    assert reasons == KINDS
    assert sorted(taken) == [*range(-len(KINDS), 0), *range(50)]
    assert max(tries.values()) == ATTEMPTS
    assert sorted(again) == sorted(KINDS)
    assert len(dead) == len(KINDS)


def event_kind(letter: dict[str, Any]) -> str:
    kind: str = orjson.loads(letter["event"])["data"]["kind"]
    return kind
