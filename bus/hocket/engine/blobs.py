"""What an agent's journals only name: written beside the entry, in its append, and read when it is asked for."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from hocket.blob import CHUNK_BYTES, INLINE_BYTES_MAX, Blob, Left
from hocket.engine.handling import Handling
from hocket.errors import ResultTooLarge
from hocket.log.base import Log, Write
from hocket.policy import Limits
from hocket.run import Entry
from hocket.subjects import Names

READ_AT_ONCE = (4 << 20) // CHUNK_BYTES
"""How many pieces one question asks for: less than one answer holds, and little enough to wait for."""

RESULT_BYTES_MOST = 480 * CHUNK_BYTES
"""The most that `Limits.result_bytes_max` may come to: one append holds the arguments and the result of an effect."""

LARGE_MEMBERS = ("arguments", "result", "record")
"""What of an entry may be too large to stand in it."""

Large = Sequence[tuple[Blob, bytes]]


class Blobs:
    """The large results of one agent on one shard. Equal ones are stored once, and written again stay longer."""

    def __init__(self, agent: str, log: Log, handling: Handling, limits: Limits) -> None:
        self._agent = agent
        self._log = log
        self._handling = handling
        self._kept = limits.journal_kept
        self._most = min(limits.result_bytes_max, RESULT_BYTES_MOST)
        self._names = Names(log.domain, log.shard)

    def check(self, entry: Entry) -> None:
        """Raise ResultTooLarge for an entry that is to remember more than the log takes."""
        for what, body in (("arguments", entry.arguments), ("result", entry.result)):
            if isinstance(body, bytes) and len(body) > self._most:
                raise ResultTooLarge(
                    f"{entry.name}: {what} of {len(body)} bytes as JSON, the limit is {self._most}; "
                    "keep it elsewhere and return where it is, or do the work in several steps"
                )

    def without(self, entry: Entry) -> Entry:
        """An entry without what is large in it: as much as stands in it for sure."""
        entry, _ = _left(entry)
        large: dict[str, Any] = {name: None for name in LARGE_MEMBERS if _is_large(getattr(entry, name))}
        return replace(entry, **large)

    def apart(self, entry: Entry) -> tuple[Entry, Large]:
        """An entry as it is stored, and what it then only names."""
        entry, contents = _left(entry)
        large = [(Blob.of(content), content) for content in contents]
        named: dict[str, Any] = {}
        for name in LARGE_MEMBERS:
            body = getattr(entry, name)
            if _is_large(body):
                named[name] = Blob.of(body)
                large.append((named[name], body))
        return replace(entry, **named) if named else entry, large

    def writes(self, large: Large) -> list[Write]:
        """Every piece as it will be stored."""
        return [
            Write(f"{self._names.blob(self._agent, blob.digest)}.{i}", piece, ttl=self._kept)
            for blob, body in large
            for i, piece in enumerate(blob.cut(body))
        ]

    async def fetch(self, blob: Blob) -> bytes:
        """Read one for a handler: a log that does not answer is no failure of the handler's. Raises ResultLost."""
        return blob.joined(await self._handling.unless_interrupted(self._pieces(blob)))

    async def _pieces(self, blob: Blob) -> list[bytes | None]:
        where = self._names.blob(self._agent, blob.digest)
        subjects = [f"{where}.{i}" for i in range(blob.chunks)]
        found: dict[str, bytes] = {}
        for first in range(0, len(subjects), READ_AT_ONCE):
            async with aclosing(self._log.scan(subjects[first : first + READ_AT_ONCE])) as messages:
                async for message in messages:
                    found[message.subject] = message.data
        return [found.get(subject) for subject in subjects]


def _left(entry: Entry) -> tuple[Entry, Sequence[bytes]]:
    """An entry with the record that its call has left, and the contents that this names."""
    left = entry.record
    return (replace(entry, record=left.record), left.contents) if isinstance(left, Left) else (entry, ())


def _is_large(body: object) -> bool:
    return isinstance(body, bytes) and len(body) > INLINE_BYTES_MAX
