"""A copy that is being written: lines, an index after each block of them, an end, and only then its name."""

import gzip
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from hocket.errors import FileUnwritable
from hocket.storage.line import FORMAT, Chain, Stored, body_of, chained_as

BLOCK_LINES = 200
"""After so many messages an index names them again, so that one that is missing can be named."""

GZIP_LEVEL = 5


class Writing:
    """Writes a copy; the file has its name only when all of it is on the disk.

    Used with `with`: whatever fails inside leaves no file. Raises FileUnwritable.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, block_lines: int = BLOCK_LINES) -> None:
        self.path = path
        self.messages = 0
        self.bytes = 0
        """Before they are compressed."""

        self._header = header
        self._block_lines = block_lines
        self._part = path.with_name(f".{path.name}.part")
        self._chain = Chain()
        self._block: list[tuple[int, int, str, str]] = []
        self._blocks = 0
        self._file: BinaryIO
        self._out: BinaryIO

    @property
    def digest(self) -> str:
        """The chain's digest behind the last line: whoever has noted it can tell this copy from any other."""
        return self._chain.last

    def __enter__(self) -> Self:
        with writable(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("wb")
            self._out = self._file
            if self.path.suffix == ".gz":
                # gzip's stamp of time is left out, so that the same copy is the same file.
                self._out = gzip.GzipFile("", "wb", GZIP_LEVEL, self._file, mtime=0)  # type: ignore[assignment]  # it writes bytes all the same
        try:
            self._write({"hocket": "header", "format": FORMAT, **self._header})
        except FileUnwritable:
            self._drop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()

    def add(self, stored: Stored) -> None:
        """Write a message."""
        message = stored.message
        own = self._write(body_of(stored), chained_as(stored.shard, message.subject))
        self._block.append((stored.shard, message.seq, message.subject, own))
        self.messages += 1
        if len(self._block) >= self._block_lines:
            self._end_block()

    def finish(self, trailer: Mapping[str, Any]) -> None:
        """Write the end, wait until all is on the disk, and give the file its name."""
        self._end_block()
        counts = {"messages": self.messages, "blocks": self._blocks, "keys": len(self._chain.keys)}
        self._write({"hocket": "end", **counts, **trailer})
        with writable(self.path):
            if self._out is not self._file:
                self._out.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _end_block(self) -> None:
        if self._block:
            self._blocks += 1
            block, self._block = self._block, []
            self._write({"hocket": "index", "block": self._blocks, "holds": block})

    def _write(self, body: Mapping[str, Any], key: str | None = None) -> str:
        line, own = self._chain.seal(body, key)
        with writable(self.path):
            self._out.write(line)
        self.bytes += len(line)
        return own

    def _drop(self) -> None:
        # What cannot be flushed any more, since the disk is full, is of no use.
        for opened in (self._out, self._file):
            with suppress(OSError):
                opened.close()
        with suppress(OSError):
            self._part.unlink()


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Say of which file it is that something cannot be written. Raises FileUnwritable."""
    try:
        yield
    except OSError as error:
        raise FileUnwritable(f"{path} cannot be written: {error.strerror or error}") from error


__all__ = ["BLOCK_LINES", "Writing", "writable"]
