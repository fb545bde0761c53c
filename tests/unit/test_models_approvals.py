"""Tools that want an approval: the call waits in the log for whoever decides."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic_ai import Agent as Asked
from tests.unit.scripted import Case, Script, call, two_days

from hocket import Context
from hocket.llm import Approvals, Durable, ask_model
from hocket_schemas.approvals import ApprovalRequested


def buyer(script: Script, bought: list[int], **durable: Any) -> Asked[None, str]:
    asked = Asked(script.model, name="buyer", capabilities=[Durable(**durable)])

    @asked.tool_plain(requires_approval=True)
    async def buy(cents: int) -> str:
        bought.append(cents)
        return f"bought for {cents}"

    return asked


def test_a_call_that_wants_an_approval_waits_for_two_days_in_the_log() -> None:
    script, bought = Script([call("buy", cents=700)]), list[int]()
    asked = buyer(script, bought)

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "buy")).output

    async def wait(case: Case) -> None:
        await two_days(case)
        assert bought == []
        assert [request.details for request in case.bed.events(ApprovalRequested)] == [{"cents": 700}]
        await case.bed.decide(by="ada")

    assert Case(answer).play(wait) == "['bought for 700']"
    assert (script.requests, bought) == ([0, 1], [700])


@pytest.mark.parametrize(
    ("terms", "decision", "outcome", "spent"),
    [
        ({}, {"edited": {"cents": 100}}, "['bought for 100']", [100]),
        ({}, {"option": "deny", "reason": "too dear"}, "['The call was not approved: too dear.']", []),
        ({"timeout": timedelta(days=1)}, None, "['The call was not approved: expired.']", []),
    ],
    ids=["edited", "denied", "expired"],
)
def test_what_people_decide_is_what_the_tool_and_the_model_get(
    terms: dict[str, Any], decision: dict[str, Any] | None, outcome: str, spent: list[int]
) -> None:
    bought = list[int]()
    asked = buyer(Script([call("buy", cents=700)]), bought, approvals=Approvals(**terms))

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "buy")).output

    async def decide(case: Case) -> None:
        await two_days(case)
        if decision is not None:
            await case.bed.decide(**decision)

    assert Case(answer).play(decide) == outcome
    assert bought == spent


def test_several_approvals_of_one_turn_are_asked_for_one_after_the_other() -> None:
    script, bought = Script([call("buy", cents=1), call("buy", cents=2)]), list[int]()
    asked = buyer(script, bought)

    async def answer(ctx: Context) -> str:
        return (await ask_model(ctx, asked, "buy")).output

    async def decide(case: Case) -> None:
        await case.bed.decide()
        await case.bed.decide("deny", reason="one will do")

    assert Case(answer).play(decide) == "['bought for 1', 'The call was not approved: one will do.']"
    assert (script.requests, bought) == ([0, 1], [1])
