"""What a saga has used up of its budget, as its account in the log says."""

from dataclasses import dataclass

from hocket.account import Balance
from hocket.client import Bus
from hocket.subjects import Names
from hocket_schemas.budgets import PER_UNIT, UNITS, Unit


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """One limit of a budget. Cost is in the budget's currency, time in seconds."""

    limit: Unit
    most: float
    spent: float
    """What was reserved or spent; of `wall` how long the saga has gone on."""

    by_agent: dict[str, float]
    by_call: dict[str, dict[str, float]]
    """By agent, and by what it called: a request to a model, a tool, an effect, a step."""


async def budget_of(bus: Bus, saga: str, now_s: float) -> list[BudgetLine]:
    """The limits of a saga's budget and what was spent of each; nothing before the first call that counts."""
    for shard, log in enumerate(bus.logs):
        message = await log.last(Names(bus.domain, shard).account(saga))
        if message is not None:
            return lines(Balance.from_json(message.data), int(now_s * 1000))
    return []


def lines(balance: Balance, now_ms: int) -> list[BudgetLine]:
    """An account, limit by limit."""
    account, found = balance.account, []
    for unit in UNITS:
        if unit in account.limits:
            spent = now_ms - account.since_ms if unit == "wall" else balance.used(unit)
            scale = PER_UNIT.get(unit, 1)
            by_agent, by_call = balance.by_agent(unit), balance.by_call(unit)
            found.append(BudgetLine(unit, account.limits[unit] / scale, spent / scale, by_agent, by_call))
    return found
