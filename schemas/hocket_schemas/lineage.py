"""What a model knew when it answered: the record of a call, and what a piece of an event names it by."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TemplateUsed(_Value):
    """The text that a prompt was made of."""

    name: str
    version: str
    digest: str
    """Of the text, as that of a `ContextItem`."""

    variables: str
    """Digest of what was filled in; empty when something of that was redacted."""


class ContextItem(_Value):
    """Something in the window of a model, or left out of it."""

    id: str
    """Of a passage or a memory what the application calls it, of anything else its digest."""

    kind: str
    """`tools`, `output` for a schema of the answer, `instructions`, `answer` for an earlier answer of a model, or the
    kind of a part of a message, such as `system-prompt`, `user-prompt` and `tool-return`. Within a part `passage`,
    `memory`, or what the application says."""

    tokens: int = Field(ge=0)
    """An estimate: a token for each four bytes of UTF-8."""

    digest: str = ""
    """256 bits of BLAKE2b over the content, as hexadecimal: the content's name in the log."""

    size: int = 0
    """Of the content, in bytes."""

    kept: bool = False
    """Whether the log holds the content in pieces of that name."""

    source: str = ""
    """Where it comes from, such as `notes/cursors.md:12`; empty: nobody has said."""

    template: TemplateUsed | None = None
    items: list["ContextItem"] = Field(default_factory=list)
    """What it was put together from, as far as that was said. It is part of it: its tokens are not to be added."""

    reason: str = ""
    """Why it was left out."""


class ModelCall(_Value):
    """One answer of a model: what it was asked, with what, and what that took."""

    inquiry: str
    """The id of the run of the agent that the call was part of: `result.run_id`."""

    agent: str
    """The agent that was asked, not the one whose handler asked it."""

    model: str
    provider: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    prompt: str
    """Digest of the whole prompt: of its items' digests, one a line."""

    template: TemplateUsed | None = None
    """Of the newest prompt in the window that was made of one."""

    context: list[ContextItem]
    """All that was in the window, in its order; tools come first."""

    left_out: list[ContextItem] = Field(default_factory=list)
    """What was at hand and did not get into the window, as far as that was said."""

    tokens_estimated: int
    """Of the context."""

    input_tokens: int = 0
    """As the provider has counted them; 0: it has not said."""

    output_tokens: int = 0
    cache_read_tokens: int = 0
    cost: float | None = None
    """In US dollars as its provider or the list price says; None: no price is known."""

    output: str
    """Digest of the answer."""

    answered_by: str = ""
    """The model as the provider names it."""

    response: str = ""
    """The provider's id of the answer."""

    finish: str = ""
    """Why the answer ended there: `stop`, `length`, `tool_call` and so on."""


class Origin(_Value):
    """Where a piece of an event's data comes from. `hocket why` looks for members of this name in events."""

    inquiry: str
    """That of the call that it was written in; see `ModelCall`."""

    items: list[str]
    """Ids of the passages and memories that it relies on."""
