"""How results are shown: tables for people, JSON for programs."""

import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import orjson
import typer
from pydantic import BaseModel

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]

WIDTH_WITHOUT_TERMINAL = 10_000
"""Whoever reads from a pipe gets lines that are not broken."""


def print_json(value: Any) -> None:
    """Print a value as JSON; dataclasses, models and enumerations are understood."""
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=_as_json).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows below their columns' names; `empty` is what to say when there is none. The last column wraps."""
    listed = [[_cell(value) for value in row] for row in rows]
    if not listed:
        print(empty)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    table.add_column(columns[-1], overflow="fold")
    for row in listed:
        table.add_row(*row)
    if sys.stdout.isatty():
        Console(highlight=False, markup=False, emoji=False).print(table)
        return
    plain = Console(width=WIDTH_WITHOUT_TERMINAL, highlight=False, markup=False, emoji=False, color_system=None)
    with plain.capture() as captured:
        plain.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def say(text: str) -> None:
    """Tell a person what happens; results go to standard output, this does not."""
    print(text, file=sys.stderr, flush=True)


def short(value: Any, most: int = 100) -> str:
    """A value as one line of JSON, cut."""
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    text = text.replace("\n", " ")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def clock_time(moment: str | None) -> str:
    """The readable part of an RFC 3339 moment: `2026-01-31 12:00:01.250`."""
    return moment.replace("T", " ").rstrip("Z") if moment else "-"


def harmless(text: str) -> str:
    """A text that came with an event, such that it cannot steer a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in text)


def _as_json(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else harmless(str(value))


__all__ = ["AsJson", "clock_time", "harmless", "print_json", "print_table", "say", "short"]
