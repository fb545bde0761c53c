"""What a decision is worth: judged by values alone, in log order, the same whoever judges and whenever."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import orjson

from hocket_schemas.approvals import ApprovalDecided, ApprovalEscalated

APPROVE = "approve"
DENY = "deny"
EXPIRED = "expired"

SAID = (ApprovalDecided.event_type, ApprovalEscalated.event_type)
"""The types of what is judged."""


class Asked(Protocol):
    """What a decision is judged by."""

    @property
    def digest(self) -> str: ...
    @property
    def options(self) -> Sequence[str]: ...
    @property
    def approvers(self) -> Sequence[str]: ...
    @property
    def escalate_to(self) -> Sequence[str]: ...
    @property
    def quorum(self) -> int: ...
    @property
    def details(self) -> Any: ...


class Terms(NamedTuple):
    """As much of an approval as says which decisions count: without what is decided about."""

    nth: str
    """The end of its id, which begins with its run's."""

    digest: str
    options: tuple[str, ...]
    approvers: tuple[str, ...]
    escalate_to: tuple[str, ...]
    quorum: int
    details: None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of an approval."""

    option: str
    """One of the options, or `expired`."""

    by: tuple[str, ...] = ()
    """Whose decisions made it."""

    reason: str = ""
    details: Any = None
    """What was decided about: as it was asked, or as the person edited it."""

    edited: bool = False
    approved: bool = False
    """Whether to go ahead."""


def digest_of(question: str, details: Any, options: Sequence[str]) -> str:
    """A digest of exactly what is shown: 128 bits of BLAKE2b over canonical JSON."""
    shown = orjson.dumps([question, details, list(options)], option=orjson.OPT_SORT_KEYS)
    return blake2b(shown, digest_size=16).hexdigest()


def judge(
    request: Asked, said: Sequence[ApprovalDecided | ApprovalEscalated]
) -> tuple[Decision | None, list[str | None]]:
    """What is said of an approval, in log order, comes to so far; and for each why it does not count, or None.

    The first option needs a quorum of different people; any other option decides at once. Those to whom it is
    escalated may decide after that and not before, whenever it is judged.
    """
    outcome: Decision | None = None
    in_favour: list[str] = []
    refusals: list[str | None] = []
    approvers = tuple(request.approvers)
    for decision in said:
        if isinstance(decision, ApprovalEscalated):
            approvers = (*request.approvers, *request.escalate_to)
            refusals.append(None)
            continue
        refusal = _refusal(request, decision, approvers, in_favour)
        if outcome is not None:
            refusal = f"it was decided before: {outcome.option} by {', '.join(outcome.by)}"
        refusals.append(refusal)
        if refusal is not None:
            continue
        if decision.option != request.options[0]:
            outcome = Decision(decision.option, (decision.by,), decision.reason, request.details)
            continue
        in_favour.append(decision.by)
        if len(in_favour) == request.quorum:
            edited = decision.edited is not None
            details = decision.edited if edited else request.details
            outcome = Decision(decision.option, tuple(in_favour), decision.reason, details, edited, approved=True)
    return outcome, refusals


def _refusal(
    request: Asked, decision: ApprovalDecided, approvers: Sequence[str], in_favour: Sequence[str]
) -> str | None:
    if decision.digest != request.digest:
        return "it was about something else than what is asked now"
    if approvers and decision.by not in approvers:
        return f"{decision.by} is none of those who may decide: {', '.join(approvers)}"
    if decision.option not in request.options:
        return f"{decision.option!r} is none of the options: {', '.join(request.options)}"
    if decision.by in in_favour:
        return f"{decision.by} has decided before"
    if decision.edited is not None and (request.quorum > 1 or decision.option != request.options[0]):
        return "details can only be edited where one decision in favour is enough"
    return None
