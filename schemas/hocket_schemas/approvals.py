"""Facts about people's decisions: what was asked, what somebody decided, and what did not count."""

from typing import Any

from pydantic import Field

from hocket_schemas.event import Event


class ApprovalRequested(Event, type="hocket.approval.requested.v1"):
    """A run waits for people to decide."""

    approval: str
    """The id to answer to; `{run}.{n}`."""

    agent: str
    """Who asks; decisions are addressed to it."""

    question: str
    details: Any = None
    """Exactly what is to be decided about, as it was shown."""

    digest: str
    """Of question, details and options; a decision names it, and counts for nothing else."""

    options: list[str] = Field(min_length=2)
    """The first one goes ahead, any other does not."""

    approvers: list[str] = Field(default_factory=list)
    """Who may decide; empty: anybody."""

    quorum: int = Field(default=1, ge=1)
    """How many have to choose the first option."""

    expires: str | None = None
    """When it is too late, RFC 3339."""

    escalates: str | None = None
    """When it is asked of a wider circle, unless it is decided by then, RFC 3339; None: never, or it has been."""

    escalate_to: list[str] = Field(default_factory=list)
    """Who may decide as well from then on."""


class ApprovalEscalated(Event, type="hocket.approval.escalated.v1"):
    """Nobody has decided for long, so the same is asked of more people. From here on in the log they may decide."""

    approval: str
    agent: str
    question: str
    details: Any = None
    digest: str
    """The same as before: decisions that were made count."""

    options: list[str] = Field(min_length=2)
    approvers: list[str]
    """All who may decide now."""

    quorum: int = Field(default=1, ge=1)
    expires: str | None = None
    """When it is too late, counted from the first question."""


class ApprovalDecided(Event, type="hocket.approval.decided.v1"):
    """Somebody decided. Travels as a command to the agent that asked."""

    approval: str
    digest: str
    """Of what this person was shown."""

    option: str
    by: str
    reason: str = ""
    edited: Any = None
    """The details as this person wants them, if not as they were; only where one decision is enough."""


class ApprovalRefused(Event, type="hocket.approval.refused.v1"):
    """A decision that counts for nothing, and why."""

    approval: str
    by: str
    reason: str


class EffectResolved(Event, type="hocket.effect.resolved.v1"):
    """Somebody found out whether an effect of unknown outcome happened. Travels as a command to its agent."""

    effect: str
    """The idempotency key of the effect."""

    happened: bool
    result: Any = None
    """What it would have returned."""

    by: str
