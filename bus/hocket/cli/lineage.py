"""What models knew, in words: for whoever asks why."""

from collections.abc import Iterator, Sequence

from hocket.cli.output import print_table, short
from hocket.observe.lineage import Call, Traced
from hocket_schemas.lineage import ContextItem

DIGEST_LENGTH = 12
"""So much of a digest is shown: enough to find it again."""

TEXT_LENGTH_MAX = 60


def print_calls(calls: Sequence[Call]) -> None:
    """Print calls of models: what each was asked with and took, and below that what was in the window."""
    print_table(
        ("call", "agent", "model", "template", "prompt", "tokens in", "out", "cost", "answer"),
        (
            (
                call.step,
                call.agent,
                call.made.answered_by or call.made.model,
                _template(call),
                call.made.prompt[:DIGEST_LENGTH],
                call.made.input_tokens,
                call.made.output_tokens,
                "" if call.made.cost is None else f"${call.made.cost:.6f}",
                call.made.output[:DIGEST_LENGTH],
            )
            for call in calls
        ),
        empty="",
    )
    print("\nwhat was in the window, with estimated tokens")
    print_table(
        ("call", "kind", "tokens", "id", "source"),
        (
            (call.step, kind, item.tokens, item.id if item.id != item.digest else item.id[:DIGEST_LENGTH], source)
            for call in calls
            for kind, item, source in _window(call)
        ),
        empty="nothing",
    )


def print_origins(origins: Sequence[Traced]) -> None:
    """Print where the pieces of an event come from, one a line."""
    print_table(
        ("piece", "call", "template", "model", "from", "source"),
        (
            (
                short(piece.text, TEXT_LENGTH_MAX) or piece.path,
                piece.steps[-1] if piece.steps else f"{piece.inquiry}, not in the log",
                piece.template,
                piece.model,
                ", ".join([*(item.id for item in piece.items), *(f"{id} (not in its window)" for id in piece.unknown)]),
                ", ".join(item.source for item in piece.items if item.source),
            )
            for piece in origins
        ),
        empty="",
    )


def _template(call: Call) -> str:
    template = call.made.template
    return f"{template.name}@{template.version}" if template else ""


def _window(call: Call) -> Iterator[tuple[str, ContextItem, str]]:
    """The items of a window, each followed by what it was put together from; then what was left out."""
    for item in call.made.context:
        yield item.kind, item, item.source
        for part in item.items:
            yield f"  {part.kind}", part, part.source
    for item in call.made.left_out:
        yield f"{item.kind}, left out", item, f"{item.source} ({item.reason})" if item.reason else item.source


__all__ = ["print_calls", "print_origins"]
