"""What attempts have failed with, and when: as much of it as is kept."""

from collections.abc import Sequence

FAILURES_MAX = 10
FAILURE_LENGTH_MAX = 300
"""How much is told of the attempts before the last one: of so many, so many characters each."""

Failures = Sequence[tuple[str, str]]
"""The newest ones: when, RFC 3339, and with what."""

NONE: Failures = ()


def with_one_more(failures: Failures, at: str, failure: str) -> Failures:
    """The same once another attempt has failed."""
    return (*failures, (at, failure[:FAILURE_LENGTH_MAX]))[-FAILURES_MAX:]


def told(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}"


__all__ = ["NONE", "Failures", "told", "with_one_more"]
