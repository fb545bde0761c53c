"""How a demo is shown while it plays: a table that changes in a terminal, plain lines everywhere else."""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from hocket.demo.progress import Progress, Step
from hocket.observe.history import Entry
from hocket_schemas.approvals import ApprovalRequested
from hocket_schemas.briefs import Proof

if TYPE_CHECKING:  # it brings the NATS client, which the other commands need not wait for
    from hocket.demo.chaos import Blow

UNREAD_SHOWN_MAX = 5
"""Of the documents that could not be read, so many are named before a decision."""

REFRESH_S = 0.1
"""The longest that a table lags behind, in seconds, as long as events come."""


class Teller:
    """Says what happens, one line for each step, with the seconds since the start."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._began_s = asyncio.get_running_loop().time()
        self._held: list[str] | None = None
        """What is said while the terminal is needed for something else."""

    def say(self, who: str, what: str) -> None:
        """One line."""
        line = self.line(who, what)
        if self._held is None:
            self._put(line)
        else:
            self._held.append(line)

    def line(self, who: str, what: str) -> str:
        """`  1.25 s  librarian    found 79 documents`."""
        return f"{asyncio.get_running_loop().time() - self._began_s:6.2f} s  {who:<12} {printable(what)}"

    def see(self, entry: Entry, progress: Progress, steps: Sequence[Step]) -> None:
        """Something has appeared in the log."""
        for step in steps:
            self.say(step.agent, step.text)

    def strike(self, blow: "Blow") -> None:
        """Somebody was killed on purpose."""
        self.say(blow.strike.target, f"KILLED at {blow.strike.moment}")

    @contextmanager
    def showing(self, agents: Sequence[str]) -> Iterator[None]:
        """For as long as the block lasts there is something to see."""
        yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The terminal is needed for something else: what is said meanwhile comes afterwards."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            for line in held:
                self._put(line)

    def _put(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class LiveTeller(Teller):
    """The same in a terminal, with a line for each agent below that says what it is at."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=out, highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._agents: Sequence[str] = ()
        self._shown_s = 0.0

    def see(self, entry: Entry, progress: Progress, steps: Sequence[Step]) -> None:
        """Something has appeared in the log."""
        super().see(entry, progress, steps)
        now_s = asyncio.get_running_loop().time()
        if self._held is None and (steps or now_s > self._shown_s + REFRESH_S):
            self._shown_s = now_s
            self._live.update(self._table(progress), refresh=True)

    @contextmanager
    def showing(self, agents: Sequence[str]) -> Iterator[None]:
        """Show the table, and take it away at the end."""
        self._agents = agents
        with self._live:
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the table away, and put it back."""
        self._live.stop()
        try:
            with super().paused():
                yield
        finally:
            self._live.start()

    def _put(self, line: str) -> None:
        self._console.print(line)  # above the table

    def _table(self, progress: Progress) -> Any:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        doing = progress.doing()
        for agent in self._agents:
            text = doing.get(agent, "")
            table.add_row("●" if text else "○", agent, printable(text))
        return table


def teller(*, as_json: bool) -> Teller:
    """A live table where somebody looks; what happens goes to standard error when results are JSON."""
    out = sys.stderr if as_json else sys.stdout
    return LiveTeller(out) if out.isatty() else Teller(out)


def preview(request: ApprovalRequested) -> str:
    """What somebody has to know who decides on a brief: its text, if it came along, and how it was made."""
    proof = Proof.model_validate(request.details)
    lines = [*(proof.text or "").splitlines(), ""] if proof.text else []
    lines += [
        f"Title:     {proof.title}",
        f"Contents:  {many(proof.sentences, 'sentence')} from {many(proof.documents, 'document')}",
        *(f"           {heading.subject} ({heading.sentences})" for heading in proof.contents),
        f"To write:  {proof.out}",
        f"           sha256:{proof.digest}",
    ]
    if proof.dropped:
        lines.append(f"Left out:  {many(proof.dropped, 'sentence')} that did not stand up to review")
    if proof.unread:
        lines.append(f"Not read:  {many(len(proof.unread), 'document')}")
        lines += [f"           {unread.document} {unread.reason}" for unread in proof.unread[:UNREAD_SHOWN_MAX]]
        if len(proof.unread) > UNREAD_SHOWN_MAX:
            lines.append(f"           and {len(proof.unread) - UNREAD_SHOWN_MAX} more")
    return "\n".join(["", *map(printable, lines), ""])


async def asked(question: str, within_s: float) -> str:
    """What somebody types at the terminal; empty when nothing was typed in time, or the terminal is gone.

    The loop goes on meanwhile, and Ctrl-C is heard: a thread that reads could not be called off.
    """
    loop = asyncio.get_running_loop()
    typed = asyncio.Event()
    descriptor = sys.stdin.fileno()
    print(question, end="", file=sys.stderr, flush=True)
    loop.add_reader(descriptor, typed.set)
    try:
        async with asyncio.timeout(within_s):
            await typed.wait()
    except (TimeoutError, asyncio.CancelledError) as error:
        print(file=sys.stderr)
        if isinstance(error, asyncio.CancelledError):
            raise  # somebody was faster elsewhere
        return ""
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, 4096).decode(errors="replace")


def many(count: int, noun: str) -> str:
    """`1 sentence`, `2 sentences`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str) -> str:
    """Text without what could steer the terminal: names of documents come from outside."""
    return "".join(char if char.isprintable() else "�" for char in text)


__all__ = ["LiveTeller", "Teller", "asked", "many", "preview", "printable", "teller"]
