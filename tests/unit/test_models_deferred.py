"""Calls that somebody else decides about or executes: they wait in the log, and what was decided is not asked again."""

from typing import Any

import pytest
from pydantic_ai import Agent as Asked
from pydantic_ai import ApprovalRequired, CallDeferred, DeferredToolRequests, DeferredToolResults, RunContext
from pydantic_ai.capabilities import HandleDeferredToolCalls
from pydantic_ai.toolsets import FunctionToolset
from tests.unit.scripted import EVENTS, Case, Script, asking, breaks, call, two_days

from hocket import Context
from hocket.llm import ask_model
from hocket_schemas.approvals import ApprovalRequested
from hocket_schemas.event import Event


class Measured(Event, type="measure.taken.v1", catalog=EVENTS):
    call: str
    value: int


async def approved(case: Case) -> None:
    await two_days(case)
    await case.bed.decide()


def test_a_tool_may_want_an_approval_for_some_of_its_calls() -> None:
    script, bought = Script([call("buy", cents=1), call("buy", cents=900)]), list[int]()
    asked = Asked(script.model, name="buyer")

    @asked.tool
    async def buy(run: RunContext[None], cents: int) -> int:
        if cents > 100 and not run.tool_call_approved:
            raise ApprovalRequired
        bought.append(cents)
        return cents

    case = Case(asking(asked))

    assert case.play(approved) == "[1, 900]"
    assert (script.requests, bought) == ([0, 1], [1, 900])


def test_a_toolset_may_want_approvals() -> None:
    async def buy(cents: int) -> int:
        bought.append(cents)
        return cents

    script, bought = Script([call("buy", cents=900)]), list[int]()
    shop = FunctionToolset[Any]([buy], id="shop").approval_required(lambda run, tool, given: given["cents"] > 100)
    asked = Asked(script.model, name="buyer", toolsets=[shop])

    assert Case(asking(asked)).play(approved) == "[900]"
    assert (script.requests, bought) == ([0, 1], [900])


def test_a_call_that_wants_an_approval_does_not_hold_up_those_beside_it() -> None:
    script, done = Script([call("buy", cents=900), call("look", x=1)]), list[int]()
    asked = Asked(script.model, name="buyer")

    @asked.tool_plain(requires_approval=True)
    async def buy(cents: int) -> int:
        done.append(cents)
        return cents

    @asked.tool_plain
    async def look(x: int) -> int:
        done.append(x)
        return x

    async def script_of(case: Case) -> None:
        await two_days(case)
        assert done == [1]
        await case.bed.decide()

    assert Case(asking(asked)).play(script_of) == "[900, 1]"
    assert done == [1, 900]


def test_approvals_of_several_turns_wait_one_by_one() -> None:
    script, bought = Script([call("buy", cents=1)], [call("buy", cents=2)]), list[int]()
    asked = Asked(script.model, name="buyer")

    @asked.tool_plain(requires_approval=True)
    async def buy(cents: int) -> int:
        bought.append(cents)
        return cents

    async def script_of(case: Case) -> None:
        for turn in (1, 2):
            await two_days(case)
            assert len(case.bed.events(ApprovalRequested)) == turn
            await case.bed.decide()

    assert Case(asking(asked)).play(script_of) == "[1, 2]"
    assert (script.requests, bought) == ([0, 1, 2], [1, 2])


def test_a_tool_that_puts_its_call_off_is_answered_by_an_event() -> None:
    script, fail = Script([call("measure", what="wind")]), breaks(1)
    asked = Asked[None, Any](script.model, name="asked", output_type=[str, DeferredToolRequests])

    @asked.tool_plain
    async def measure(what: str) -> int:
        raise CallDeferred

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, "?")
        [wanted] = result.output.calls
        measured = await ctx.wait(Measured, where=lambda event: event.call == wanted.tool_call_id)
        results = DeferredToolResults(calls={wanted.tool_call_id: measured.value})
        history = result.all_messages()
        result = await ask_model(ctx, asked, None, message_history=history, deferred_tool_results=results)
        fail()
        return str(result.output)

    async def measured(case: Case) -> None:
        await two_days(case)
        await case.bed.publish(Measured(call="measure-wind", value=7), key="k")

    case = Case(answer, waits=[Measured])

    assert case.play(measured) == "[7]"
    assert script.requests == [0, 1]


def test_a_call_that_nobody_answers_is_told_when_the_output_has_no_place_for_it() -> None:
    asked = Asked(Script([call("measure", what="wind")]).model, name="asked")

    @asked.tool_plain
    async def measure(what: str) -> int:
        raise CallDeferred

    assert "DeferredToolRequests" in Case(asking(asked)).play()


@pytest.mark.parametrize("approves", [True, False], ids=["approved", "denied"])
def test_the_handler_may_decide_for_people(approves: bool) -> None:
    script, bought = Script([call("buy", cents=1)]), list[int]()
    asked = Asked(script.model, name="buyer")

    @asked.tool_plain(requires_approval=True)
    async def buy(cents: int) -> int:
        bought.append(cents)
        return cents

    async def decide(run: RunContext[None], requests: DeferredToolRequests) -> DeferredToolResults:
        return (
            requests.build_results(approve_all=True)
            if approves
            else requests.build_results(approvals={each.tool_call_id: False for each in requests.approvals})
        )

    answer = Case(asking(asked, capabilities=[HandleDeferredToolCalls(decide)])).play()

    assert answer == ("[1]" if approves else "['The tool call was denied.']")
    assert bought == ([1] if approves else [])
