"""What a saga has used up of its budget: how that is counted, and what is refused."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from hocket_schemas.budgets import PER_UNIT, Account, Purse, Unit, account_of

Amounts = Mapping[Unit, int]
"""So much of each unit, in whole numbers."""

NAMES_MAX = 40
"""Most names of calls that an account tells apart for one agent; what comes later is summed up as `others`."""

OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Spends:
    """What one call uses up at most, besides counting as a step or an effect."""

    tokens: int = 0
    cost: float = 0.0
    """In the currency of the budgets; counted in millionths, rounded up."""

    tool_calls: int = 0
    """For a step that is one: an effect counts as one by itself."""

    label: str = ""
    """What it is listed as; the step's or the effect's name unless given."""

    def amounts(self) -> dict[Unit, int]:
        """The same in whole numbers, without what is nothing."""
        cost = math.ceil(round(self.cost * PER_UNIT["cost"], 3))
        found: dict[Unit, int] = {"tokens": self.tokens, "cost": cost, "tool_calls": self.tool_calls}
        return {unit: amount for unit, amount in found.items() if amount}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A limit that something would have gone beyond."""

    limit: Unit
    saga: str
    """Whose account."""

    most: float
    """In the units of the budget's declaration; of `wall` in seconds."""

    count: float
    """What it would have come to."""

    spent: Mapping[str, float]
    """By agent."""

    def __str__(self) -> str:
        return f"{self.limit} of saga {self.saga} would come to {self.count:g}, its budget is {self.most:g}"


@dataclass(frozen=True, slots=True)
class Balance:
    """An account and what was drawn from it; a value, drawing gives another."""

    account: Account
    spent: Mapping[str, Amounts] = field(default_factory=dict)
    """By agent: what is reserved counts as spent, until what was really used up is known."""

    calls: Mapping[str, Mapping[str, Amounts]] = field(default_factory=dict)
    """The same, by agent and by what was called."""

    def used(self, unit: Unit) -> int:
        """How much of a unit, by all agents."""
        return sum(amounts.get(unit, 0) for amounts in self.spent.values())

    def refuses(self, amounts: Amounts, now_ms: int) -> Refusal | None:
        """What stands against drawing so much now; None: nothing."""
        limits = self.account.limits
        count = now_ms - self.account.since_ms
        if "wall" in limits and count > limits["wall"]:
            return self._refusal("wall", count)
        for unit, amount in amounts.items():
            if unit in limits and self.used(unit) + amount > limits[unit]:
                return self._refusal(unit, self.used(unit) + amount)
        return None

    def drawn(self, agent: str, amounts: Amounts, call: str = OTHERS) -> "Balance":
        """The same after an agent has drawn so much, or given back what is negative. Only what is limited counts."""
        limited = {unit: amount for unit, amount in amounts.items() if unit in self.account.limits}
        calls = self.calls.get(agent, {})
        name = call if call in calls or len(calls) < NAMES_MAX else OTHERS
        own = {**calls, name: _sum(calls.get(name, {}), limited)}
        spent = {**self.spent, agent: _sum(self.spent.get(agent, {}), limited)}
        return replace(self, spent=spent, calls={**self.calls, agent: own})

    def by_agent(self, unit: Unit) -> dict[str, float]:
        """How much of a unit each agent has spent, in the units of the budget's declaration."""
        scale = PER_UNIT.get(unit, 1)
        return {agent: amounts[unit] / scale for agent, amounts in self.spent.items() if amounts.get(unit)}

    def by_call(self, unit: Unit) -> dict[str, dict[str, float]]:
        """The same by agent and by what was called."""
        scale = PER_UNIT.get(unit, 1)
        found = {
            agent: {name: amounts[unit] / scale for name, amounts in calls.items() if amounts.get(unit)}
            for agent, calls in self.calls.items()
        }
        return {agent: calls for agent, calls in found.items() if calls}

    def to_json(self) -> bytes:
        """The record's body."""
        return orjson.dumps({"account": self.account, "spent": self.spent, "calls": self.calls})

    @classmethod
    def from_json(cls, body: bytes) -> "Balance":
        """Read a record's body. Raises ValueError, TypeError or KeyError when it is none."""
        fields: dict[str, Any] = orjson.loads(body)
        return cls(account_of(fields["account"]), fields["spent"], fields.get("calls", {}))

    def _refusal(self, unit: Unit, count: int) -> Refusal:
        scale = PER_UNIT.get(unit, 1)
        most = self.account.limits[unit]
        return Refusal(unit, self.account.saga, most / scale, count / scale, self.by_agent(unit))


def counted(purse: Purse, amounts: Amounts) -> Amounts:
    """What of it is limited by any account of a purse."""
    return {unit: amount for unit, amount in amounts.items() if any(unit in account.limits for account in purse)}


def overdue(purse: Purse, now_ms: int) -> bool:
    """Whether the time of any account of a purse is up."""
    return any("wall" in a.limits and now_ms - a.since_ms > a.limits["wall"] for a in purse)


def draw(
    balances: Sequence[Balance], agent: str, amounts: Amounts, now_ms: int, *, call: str = OTHERS, forced: bool = False
) -> Refusal | list[Balance]:
    """Draw the same from all of them, or from none. What is `forced` has been used up already, and is not refused."""
    for balance in balances:
        refusal = None if forced else balance.refuses(amounts, now_ms)
        if refusal is not None:
            return refusal
    return [balance.drawn(agent, amounts, call) for balance in balances]


def _sum(before: Amounts, more: Amounts) -> dict[Unit, int]:
    return {**before, **{unit: before.get(unit, 0) + amount for unit, amount in more.items()}}
