"""How asking a model can end without an answer, each way by its name.

HandlingFailed
└── FinalFailure
    └── ModelOutcome            asking has ended without an answer, and would again
        ├── Refused             the model or its provider would not answer
        ├── NoAnswer            the answers were empty
        ├── InvalidAnswer       answers or calls of tools did not fit their types, after all repairs
        ├── TooLong             the answer was cut off at its longest
        ├── RepeatedCall        the same tool was called with the same arguments again and again
        ├── OverLimit           `usage_limits` of the inquiry are used up
        ├── Denied              a guard has denied the request
        └── CutOff              a moderator has cut the answer off
UsageError
├── UnknownPrice                a budget binds the cost, and nobody knows what the model costs
└── UnguardedTool               a model could call what nothing can undo, with nobody asked first
"""

from pydantic_ai.exceptions import ContentFilterError, UnexpectedModelBehavior, UsageLimitExceeded

from hocket.errors import FinalFailure, UsageError


class ModelOutcome(FinalFailure):
    """Asking a model has ended without an answer, in a way that the journal remembers.

    The handler gets no further attempt by itself: what has led here would be read from the journal. Catch it, have
    `ask_model(…, again={InvalidAnswer: 2})` ask anew, or say by `on_exhausted` what follows.
    """


class Refused(ModelOutcome, ContentFilterError):
    """The model, or a filter of its provider, would not answer."""


class NoAnswer(ModelOutcome, UnexpectedModelBehavior):
    """The model has answered nothing, as often as it was asked for something."""


class InvalidAnswer(ModelOutcome, UnexpectedModelBehavior):
    """What the model has answered, or called a tool with, did not fit its type, after as many repairs as it had."""


class TooLong(ModelOutcome, UnexpectedModelBehavior):
    """The answer was cut off at the longest that was allowed, before anything could be made of it: `max_tokens`."""


class OverLimit(ModelOutcome, UsageLimitExceeded):
    """Asking would have gone beyond the `usage_limits` that it was given. What a saga may use up is another matter."""


class RepeatedCall(ModelOutcome):
    """The model has called the same tool with the same arguments again and again.

    `Durable(repeats_max=…)` says how often it may, a tool's metadata `{"hocket_polls": True}` that it is meant to.
    """

    def __init__(self, message: str, *, tool: str = "", count: int = 0) -> None:
        super().__init__(message)
        self.tool = tool
        self.count = count


class Denied(ModelOutcome):
    """A guard has denied the request to the model. A tool that is denied ends nothing: the model is told."""


class CutOff(ModelOutcome):
    """A moderator has cut an answer off while it came; see `ask_model(…, live=True, moderator=…)`."""

    def __init__(self, message: str, *, said: str = "") -> None:
        super().__init__(message)
        self.said = said
        """What was said until then."""


class UnknownPrice(UsageError):
    """A saga has a budget of cost, and nobody knows what the model costs; it was not asked.

    Say what it costs, by `Durable(estimate=Estimate(prices={name: Price(…)}))`; or have the budget bind tokens.
    """

    def __init__(self, model: str, saga: str) -> None:
        super().__init__(
            f"saga {saga} has a budget of cost, and it is not known what model {model!r} costs; "
            "name its price, or budget tokens"
        )
        self.model = model
        self.saga = saga


class UnguardedTool(UsageError):
    """An effect that nothing can undo was made a tool, and a model could call it with nobody asked first.

    Make it `effect_tool(…, requires_approval=True)`; or `cleared_before=True`, if an approval or a pivot comes before
    the agent is asked.
    """

    def __init__(self, effect: str) -> None:
        super().__init__(
            f"{effect} cannot be undone, and a model could call it with nobody asked first; "
            "effect_tool(…, requires_approval=True) has each call approved"
        )
        self.effect = effect


__all__ = [
    "CutOff",
    "Denied",
    "InvalidAnswer",
    "ModelOutcome",
    "NoAnswer",
    "OverLimit",
    "Refused",
    "RepeatedCall",
    "TooLong",
    "UnguardedTool",
    "UnknownPrice",
]
