"""Where a text is found still: in the log, by subject, and in files, such as those of a server's store."""

import gzip
import json
import re
import zlib
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import orjson

from hocket.client import Bus
from hocket.subjects import Names, tokens_of

CHUNK_BYTES = 1 << 20

KINDS = {
    "evt": "event",
    "cmd": "command",
    "act": "state",
    "run": "run",
    "end": "end of a run",
    "jrn": "journal",
    "dead": "dead letter",
    "blob": "large result",
    "ask": "digest of requests",
}
"""What a subject of each kind holds."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One message that holds a text."""

    subject: str
    shard: int
    seq: int
    kind: str


async def traces(bus: Bus, texts: Iterable[str]) -> list[Trace]:
    """The messages of a domain that hold any of some texts, as they are or written as JSON.

    It reads the whole log. What is not found: texts that were changed, cut, compressed or encrypted, and those that two
    pieces of a large result share.
    """
    pattern = _pattern(texts)
    found: list[Trace] = []
    if pattern is None:
        return found
    for shard, log in enumerate(bus.logs):
        async with aclosing(log.scan([Names(bus.domain, shard).everything])) as messages:
            async for message in messages:
                if pattern.search(message.data) or any(pattern.search(v.encode()) for v in message.headers.values()):
                    kind = tokens_of(message.subject)[0]
                    found.append(Trace(message.subject, shard, message.seq, KINDS.get(kind, kind)))
    return found


def traces_in(folder: Path, texts: Iterable[str]) -> list[Path]:
    """The files below a folder that hold any of some texts, packed (`.gz`) or not; unreadable ones are passed over."""
    wanted = _needles(texts)
    pattern = _pattern_of(wanted)
    if pattern is None:
        return []
    overlap = max(map(len, wanted)) - 1
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and _holds(path, pattern, overlap)]


def _holds(path: Path, pattern: re.Pattern[bytes], overlap: int) -> bool:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            kept = b""
            while chunk := file.read(CHUNK_BYTES):
                if pattern.search(kept + chunk):
                    return True
                kept = (kept + chunk)[-overlap:] if overlap else b""
    except (OSError, EOFError, zlib.error):
        return False
    return False


def _pattern(texts: Iterable[str]) -> re.Pattern[bytes] | None:
    return _pattern_of(_needles(texts))


def _pattern_of(needles: set[bytes]) -> re.Pattern[bytes] | None:
    return re.compile(b"|".join(map(re.escape, sorted(needles)))) if needles else None


def _needles(texts: Iterable[str]) -> set[bytes]:
    """The texts as they stand in UTF-8, in JSON, in JSON that is a text in JSON, and in JSON that is ASCII."""
    found: set[bytes] = set()
    for text in filter(None, texts):
        written = orjson.dumps(text)[1:-1]
        found |= {text.encode(), written, orjson.dumps(written.decode())[1:-1], json.dumps(text)[1:-1].encode()}
    return found


__all__ = ["Trace", "traces", "traces_in"]
