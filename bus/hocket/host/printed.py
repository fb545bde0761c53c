"""What a process prints: passed on as it comes, while its last lines are kept for whoever asks why it ended."""

import asyncio
import os
from collections import deque
from contextlib import suppress

LINES_KEPT = 20
LINE_LENGTH_MAX = 300
READ_BYTES = 64 * 1024


class Printed:
    """A pipe whose writing end a process gets. It closes itself when nobody can write any more."""

    def __init__(self, target: int) -> None:
        """`target` is the file descriptor that everything is passed on to; it stays the caller's."""
        self.open = True
        self._target = os.dup(target)
        self._read, self.child = os.pipe()
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._rest = b""
        os.set_blocking(self._read, False)
        asyncio.get_running_loop().add_reader(self._read, self._readable)

    @property
    def last(self) -> list[str]:
        """The last lines, cut, with nothing in them that could steer a terminal."""
        lines = [*self._lines, _line(self._rest)] if self._rest else list(self._lines)
        return lines[-LINES_KEPT:]

    def started(self) -> None:
        """The process has its end, so ours is closed: what is left is to read until it ends."""
        if self.child >= 0:
            os.close(self.child)
            self.child = -1

    def drain(self) -> None:
        """Take what is there. Somebody may still write: a process that this one has started and left behind."""
        while self.open and self._readable():
            pass

    def close(self) -> None:
        """Read no more."""
        self.started()
        if self.open:
            self.open = False
            asyncio.get_running_loop().remove_reader(self._read)
            os.close(self._read)
            os.close(self._target)

    def _readable(self) -> bool:
        try:
            received = os.read(self._read, READ_BYTES)
        except BlockingIOError:
            return False
        if not received:
            self.close()
            return False
        with suppress(OSError):  # nobody wants to read it, which is no reason to stop
            os.write(self._target, received)
        *lines, self._rest = (self._rest + received).split(b"\n")
        self._rest = self._rest[-READ_BYTES:]
        self._lines.extend(map(_line, lines[-LINES_KEPT:]))
        return True


def _line(line: bytes) -> str:
    text = line[: LINE_LENGTH_MAX * 4].decode(errors="replace").rstrip()
    return "".join(char if char.isprintable() or char == "\t" else "�" for char in text)[:LINE_LENGTH_MAX]


__all__ = ["Printed"]
