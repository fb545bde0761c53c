"""How many runs one owner has open, as each of its cursors says in the log."""

from collections.abc import Iterable

from hocket.log.base import Write


class Tally:
    """The open runs of one tenure, by the subjects of their heads."""

    def __init__(self, pattern: str, runs: Iterable[str]) -> None:
        """`pattern`: of all run heads of the agent; it ends with a wildcard."""
        self._begins = pattern.removesuffix(">")
        self._open = dict.fromkeys(runs)  # a set takes four times as much
        self._coming: dict[str, bool] = {}

    def after(self, records: Iterable[Write]) -> int:
        """How many runs are open once an append with these records is stored, of which no two have one subject."""
        self._coming = {w.subject: bool(w.data) for w in records if w.subject.startswith(self._begins)}
        return len(self._open) + sum(now - (run in self._open) for run, now in self._coming.items())

    def advance(self) -> None:
        """The append that was asked about last is stored."""
        for run, now in self._coming.items():
            if now:
                self._open[run] = None
            else:
                self._open.pop(run, None)
        self._coming = {}
