"""What a saga may use up, and how that travels with its events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Literal, get_args

import orjson

from hocket_schemas.errors import BadAttribute

Unit = Literal["steps", "tool_calls", "tokens", "cost", "wall"]
UNITS: tuple[Unit, ...] = get_args(Unit)

PER_UNIT: Mapping[Unit, int] = {"cost": 1_000_000, "wall": 1000}
"""Whatever is counted is counted in whole numbers: cost in millionths, time in milliseconds."""

ATTRIBUTE = "hkbudget"


@dataclass(frozen=True, slots=True)
class Budget:
    """What one saga may use up, and what it begins in other sagas with it. A bound that is None does not bind.

    What would go beyond a bound is refused before it is done.
    """

    steps: int | None = None
    """Calls by `ctx.step`, effects included. What the journal answers is no call."""

    tool_calls: int | None = None
    """Calls of effects, each counted once, however often it is tried."""

    tokens: int | None = None
    """Tokens of language models, read and written together."""

    cost: float | None = None
    """Money, in whichever currency all that declare costs agree upon; counted in millionths."""

    wall: timedelta | None = None
    """After so long from its starting event on no call is begun any more."""

    def limits(self) -> dict[Unit, int]:
        """What binds, in whole numbers."""
        wall_s = None if self.wall is None else self.wall.total_seconds()
        bounds: dict[Unit, float | None] = {
            "steps": self.steps,
            "tool_calls": self.tool_calls,
            "tokens": self.tokens,
            "cost": self.cost,
            "wall": wall_s,
        }
        return {unit: round(most * PER_UNIT.get(unit, 1)) for unit, most in bounds.items() if most is not None}


@dataclass(frozen=True, slots=True)
class Account:
    """A saga's budget as its events carry it: enough for whoever spends first to open the account."""

    saga: str
    name: str
    """Of its policy."""

    since_ms: int
    """When its starting event was stored, in milliseconds since the Unix epoch."""

    limits: Mapping[Unit, int]


Purse = tuple[Account, ...]
"""All accounts that a handling draws from: its saga's own first, then those of the sagas that it was begun in."""


def written(purse: Sequence[Account]) -> str:
    """A purse as the attribute of an event."""
    return orjson.dumps(list(purse)).decode()


@lru_cache(maxsize=1024)
def read(text: str) -> Purse:
    """The purse that an event carries. Raises BadAttribute."""
    try:
        purse = tuple(account_of(fields) for fields in orjson.loads(text))
    except (ValueError, TypeError, KeyError):
        purse = ()
    if not purse:
        raise BadAttribute(ATTRIBUTE, text, "a JSON array of accounts")
    return purse


def account_of(fields: Mapping[str, Any]) -> Account:
    """An account from JSON. Raises ValueError, TypeError or KeyError when it is none."""
    saga, name, since_ms, limits = fields["saga"], fields["name"], fields["since_ms"], fields["limits"]
    if not (isinstance(saga, str) and saga and isinstance(name, str) and isinstance(since_ms, int)):
        raise ValueError("an account names its saga, the policy and the start")
    if any(unit not in UNITS or type(most) is not int for unit, most in limits.items()):
        raise ValueError(f"limits are whole numbers of {', '.join(UNITS)}")
    return Account(saga, name, since_ms, limits)


def inherited(purse: Purse, saga: str) -> Purse:
    """What an event of some saga carries that is emitted with this purse: a saga on the way up has those above it."""
    for i, account in enumerate(purse):
        if account.saga == saga:
            return purse[i:]
    return purse
