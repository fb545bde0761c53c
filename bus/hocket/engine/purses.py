"""From which accounts the handling of an event draws: as the event says, or as the policy that it starts has it."""

from collections.abc import Mapping

from hocket_schemas import budgets
from hocket_schemas.budgets import Account, Purse
from hocket_schemas.envelope import Envelope
from hocket_schemas.sagas import Saga

Policies = Mapping[str, Saga]
"""Those with a budget that are known in this process, by the type of their starting event."""


def purse_of(envelope: Envelope, saga: str, stored_ns: int, policies: Policies) -> Purse:
    """The saga's own account first. Raises BadAttribute."""
    purse = budgets.read(envelope.hkbudget) if envelope.hkbudget else ()
    policy = policies.get(envelope.type)
    if policy is None or any(account.saga == saga for account in purse):
        return purse
    return opening(policy, saga, stored_ns, purse)


def opening(policy: Saga, saga: str, stored_ns: int, above: Purse) -> Purse:
    """The purse of a saga that starts, within those above it."""
    assert policy.budget is not None, "only such policies are asked for"
    return (Account(saga, policy.name, stored_ns // 1_000_000, policy.budget.limits()), *above)


def carried(purse: Purse, saga: str) -> dict[str, str]:
    """What an event of some saga carries that is emitted with this purse, by the attribute's name."""
    return {budgets.ATTRIBUTE: budgets.written(budgets.inherited(purse, saga))} if purse else {}
