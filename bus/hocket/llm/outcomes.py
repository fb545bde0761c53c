"""What asking a model has come to when it has come to no answer: pydantic-ai's errors by the names of outcomes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic_ai.exceptions import (
    ContentFilterError,
    OutputTokenLimitExceeded,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
)
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ThinkingPart

from hocket.llm.errors import CutOff, InvalidAnswer, ModelOutcome, NoAnswer, OverLimit, Refused, TooLong
from hocket.llm.inquiry import Inquiry

ENDED = "hocket: ended"
"""The key under which a step remembers that a request has ended without an answer."""


@contextmanager
def named(inquiry: Inquiry, messages: Sequence[ModelMessage]) -> Iterator[None]:
    """Give the errors that end an inquiry their names. What a request or a tool has failed with stays what it is."""
    try:
        yield
    except ModelOutcome:
        raise
    except (ContentFilterError, UsageLimitExceeded, UnexpectedModelBehavior) as error:
        if any(error is failure for failure in inquiry.failures):
            raise  # of the way to the model: another attempt may do better
        raise _kind(error, messages)(f"{inquiry.asked}: {error.message}") from error


def ended(outcome: ModelOutcome) -> dict[str, str]:
    """What a step remembers of a request that has ended so."""
    said = {"said": outcome.said} if isinstance(outcome, CutOff) else {}
    return {ENDED: type(outcome).__name__, "reason": str(outcome), **said}


def is_ended(remembered: object) -> bool:
    """Whether a step remembers no answer."""
    return isinstance(remembered, dict) and ENDED in remembered


def raise_if_ended(remembered: Any) -> None:
    """Raise what a step remembers that a request has ended with."""
    if is_ended(remembered):
        if remembered[ENDED] == CutOff.__name__:
            raise CutOff(remembered["reason"], said=remembered["said"])
        raise Refused(remembered["reason"])


def _kind(error: Exception, messages: Sequence[ModelMessage]) -> type[ModelOutcome]:
    match error:
        case ContentFilterError():
            return Refused
        case UsageLimitExceeded():
            return OverLimit
        case OutputTokenLimitExceeded():
            return TooLong
    answers = [message for message in messages if isinstance(message, ModelResponse)]
    said = answers[-1].parts if answers else []
    is_empty = all(isinstance(part, TextPart | ThinkingPart) for part in said) and not any(
        part.content for part in said if isinstance(part, TextPart)
    )
    return NoAnswer if is_empty else InvalidAnswer
