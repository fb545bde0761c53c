"""What an inspection has to say: one finding each, with how bad it is."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Something is broken."""

    WARNING = "warning"
    """Something is probably not meant so."""

    NOTE = "note"
    """Something to know, nothing to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an inspection found."""

    severity: Severity
    code: str
    """Which kind of finding it is, a stable name such as `unhandled`."""

    where: str
    """The service, agent, event or stream that it is about."""

    message: str


def worst(findings: Iterable[Finding]) -> Severity | None:
    """The severity of the worst finding; None when there is none."""
    order = list(Severity)
    return min((finding.severity for finding in findings), key=order.index, default=None)


__all__ = ["Finding", "Severity", "worst"]
