"""Prompts that say what they are made of: a template with a name and a version, passages, and what was left out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai import TextContent, ToolReturn

from hocket.blob import Blob
from hocket.calls import as_json
from hocket.errors import UsageError
from hocket_schemas.lineage import ContextItem, TemplateUsed

LINEAGE = "hocket"
"""The key of a content's metadata that says what it is made of. Models do not get to see it."""

BYTES_PER_TOKEN = 4
"""By which tokens are estimated, in UTF-8. Good to about a third for prose; code and tables have more tokens."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Something that a prompt quotes: a paragraph of a document, a memory, a row."""

    id: str
    text: str
    source: str = ""
    """Where it stands, such as `notes/cursors.md:12`."""

    kind: str = "passage"
    """`memory` for what an agent remembers."""

    @property
    def tokens(self) -> int:
        """An estimate."""
        return estimated(self.text)

    def item(self, reason: str = "") -> ContextItem:
        """It as a manifest names it."""
        blob = Blob.of(self.text.encode())
        return ContextItem(
            id=self.id,
            kind=self.kind,
            tokens=self.tokens,
            digest=blob.digest,
            size=blob.size,
            source=self.source,
            reason=reason,
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """Passages that go into a prompt, and those that do not."""

    taken: Sequence[Passage]
    left_out: Sequence[Passage] = ()
    reason: str = ""
    """Why the others are left out."""

    @classmethod
    def within(cls, tokens_max: int, passages: Iterable[Passage]) -> "Choice":
        """The first ones that come to no more than so many tokens, by the estimate; none after the first too many."""
        taken: list[Passage] = []
        left = tokens_max
        rest = list(passages)
        while rest and rest[0].tokens <= left:
            left -= rest[0].tokens
            taken.append(rest.pop(0))
        return cls(taken, rest, f"beyond {tokens_max} tokens" if rest else "")


@dataclass(frozen=True, slots=True)
class Template:
    """The text of a prompt with places in braces, as of `str.format`; a change of the text wants another version."""

    name: str
    version: str
    text: str

    def filled(self, **values: Any) -> TextContent:
        """The prompt, for `ask_model` or as one of several contents. Raises UsageError when a value is missing.

        Passages, one or many, are shown each as `[id] text`, with an empty line in between; of a `Choice` those that
        are taken. Anything else is shown as `str` has it.
        """
        try:
            text = self.text.format_map({name: _shown(value) for name, value in values.items()})
        except (KeyError, IndexError, ValueError) as error:
            raise UsageError(f"template {self.name!r} cannot be filled: {error!r}") from error
        choices = [choice for value in values.values() if (choice := _choice(value)) is not None]
        made_of = Made(
            TemplateUsed(
                name=self.name,
                version=self.version,
                digest=Blob.of(self.text.encode()).digest,
                variables=_digest(values),
            ),
            tuple(passage.item() for choice in choices for passage in choice.taken),
            tuple(passage.item(choice.reason) for choice in choices for passage in choice.left_out),
        )
        return TextContent(text, metadata={LINEAGE: made_of.to_json()})


@dataclass(frozen=True, slots=True)
class Made:
    """What a content is made of."""

    template: TemplateUsed | None = None
    items: Sequence[ContextItem] = field(default_factory=tuple)
    left_out: Sequence[ContextItem] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """It as metadata."""
        return {
            "template": self.template and self.template.model_dump(),
            "items": [item.model_dump(exclude_defaults=True) for item in self.items],
            "left_out": [item.model_dump(exclude_defaults=True) for item in self.left_out],
        }

    def undigested(self) -> "Made":
        """The same without digests of the texts."""
        blank = {"digest": "", "size": 0}
        return Made(
            self.template and self.template.model_copy(update={"variables": ""}),
            tuple(item.model_copy(update=blank) for item in self.items),
            tuple(item.model_copy(update=blank) for item in self.left_out),
        )

    @classmethod
    def of(cls, metadata: object) -> "Made":
        """What metadata say; nothing, unless they are ours."""
        said = metadata.get(LINEAGE) if isinstance(metadata, Mapping) else None
        if not isinstance(said, Mapping):
            return cls()
        return cls(
            TemplateUsed.model_validate(said["template"]) if said.get("template") else None,
            tuple(ContextItem.model_validate(item) for item in said.get("items", ())),
            tuple(ContextItem.model_validate(item) for item in said.get("left_out", ())),
        )


def found(passages: Passage | Sequence[Passage] | Choice, value: Any = None) -> ToolReturn:
    """What a tool returns that has looked something up: the model gets it, and the record of its call names it.

    Without a value of its own the model is shown the passages as a template shows them.
    """
    choice = _choice(passages) or Choice(())
    made_of = Made(
        items=[passage.item() for passage in choice.taken],
        left_out=[passage.item(choice.reason) for passage in choice.left_out],
    )
    shown = _shown(passages) if value is None else value
    return ToolReturn(return_value=shown, metadata={LINEAGE: made_of.to_json()})


def estimated(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)


def _choice(value: object) -> Choice | None:
    """The passages among the values of a template; None for any other value."""
    if isinstance(value, Choice):
        return value
    if isinstance(value, Passage):
        return Choice([value])
    if isinstance(value, Sequence) and value and all(isinstance(each, Passage) for each in value):
        return Choice(value)
    return None


def _shown(value: object) -> str:
    choice = _choice(value)
    if choice is None:
        return str(value)
    return "\n\n".join(f"[{passage.id}] {passage.text}" for passage in choice.taken)


def _digest(values: Mapping[str, object]) -> str:
    """Of what was filled in, as it is shown."""
    return Blob.of(as_json({name: _shown(values[name]) for name in sorted(values)})).digest
