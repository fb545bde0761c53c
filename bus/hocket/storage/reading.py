"""A copy that is being read: line after line, and what is damaged or missing in it, by name.

Reading never stops at damage. What can be told of a line comes from three places: its own digest, the chains that
go through it, and the index that follows its block.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from hocket.errors import BadCopy, CopyTooNew
from hocket.storage.line import (
    FORMAT,
    LINE_BYTES_MAX,
    ORIGIN,
    Sealed,
    chained_as,
    digest,
    unsealed,
    whose,
)

DAMAGE_MAX = 1000
"""Reading stops looking for more when it has found so much."""

_BEGINS = (b'{"hocket":', b'{"shard":')
_SEAM = re.compile(rb'(?<="\}).(?=\{"(?:hocket|shard)":)', re.DOTALL)
"""Cannot be within a line: there every quotation mark of a payload has a backslash before it."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong with a copy."""

    what: str
    """`damaged` is said of a line, `missing` and `foreign` of a message, `chain` and `key` of a chain that is broken
    there, `index` and `end` of what is missing otherwise."""

    line: int | None
    """Where, from 1; of what is missing the line before which it was missed."""

    key: str | None = None
    id: str | None = None
    subject: str | None = None
    seq: int | None = None
    shard: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        of = f", key {self.key!r}" if self.key is not None else ""
        named = f"{of}, id {self.id} ({self.subject}, {self.seq} on shard {self.shard})" if self.subject else of
        return f"{where}{self.what}{named}{': ' if self.detail else ''}{self.detail}"


@dataclass(slots=True)
class Reading:
    """What reading a copy has found so far."""

    header: dict[str, Any] | None = None
    trailer: dict[str, Any] | None = None
    lines: int = 0
    messages: int = 0
    bytes: int = 0
    """Uncompressed."""

    digest: str = ORIGIN
    damage: list[Damage] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether the copy is whole and nothing in it was changed. Known at the end only."""
        return not self.damage and self.header is not None and self.trailer is not None


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A copy's lines as bytes, compressed or not. Raises BadCopy."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw, "rb") if packed else raw as file:
                yield file  # type: ignore[misc]  # a GzipFile reads bytes as any binary file does
    except OSError as error:
        raise BadCopy(f"{path} cannot be read: {error.strerror or error}") from error


def raw_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a copy; what cannot be decompressed is one last line that no digest fits."""
    try:
        while line := file.readline(LINE_BYTES_MAX):
            yield line
    except (zlib.error, EOFError, gzip.BadGzipFile):
        yield b"what follows cannot be decompressed"


def read(lines: Iterable[bytes], found: Reading) -> Iterator[dict[str, Any]]:
    """Yield what the sound lines of messages say, and note in `found` all that is wrong with the others.

    Raises BadCopy when the first line says that it is no copy, and CopyTooNew.
    """
    block = _Block(found)
    for number, raw in enumerate(_parted(lines), 1):
        line = unsealed(number, raw, found.digest)
        found.lines = number
        found.bytes += len(raw)
        if line.body is None:
            if number == 1 and b'"hocket":"header"' not in raw:
                raise BadCopy("the first line is not that of a copy")
            block.take(line, raw)
        else:
            match line.body.get("hocket"):
                case "header":
                    found.header = dict(line.body)
                    _require_format(found.header)
                    block.take(line, raw)
                case "index":
                    block.take(line, raw)
                    block.end(line.body)
                case "end":
                    block.take(line, raw)
                    found.trailer = dict(line.body)
                    block.close(found.trailer)
                case _:
                    if number == 1:
                        raise BadCopy("the first line is not that of a copy")
                    found.messages += 1
                    block.take(line, raw)
                    yield dict(line.body)
        found.digest = line.chain or found.digest
        if len(found.damage) >= DAMAGE_MAX:
            return
    if found.lines == 0:
        raise BadCopy("the file is empty")
    if found.trailer is None:
        block.close(None)
        found.damage.append(Damage("end", found.lines + 1, detail="the last lines are missing"))
    if found.header is None:
        found.damage.append(Damage("damaged", 1, detail="the header"))


def _parted(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines as they were written, even where the byte between two of them is no end of a line any more."""
    for raw in lines:
        if all(raw.find(begin, 1) < 0 for begin in _BEGINS):  # as in all but a damaged one
            yield raw
            continue
        start = 0
        for seam in _SEAM.finditer(raw):
            yield raw[start : seam.end()]
            start = seam.end()
        yield raw[start:]


def _require_format(header: dict[str, Any]) -> None:
    if not isinstance(header.get("format"), int) or header["format"] > FORMAT:
        raise CopyTooNew(f"the copy has format {header.get('format')!r}, this hocket knows {FORMAT}")


class _Block:
    """The lines since the last index."""

    def __init__(self, found: Reading) -> None:
        self._found = found
        self._keys: dict[str, str] = {}
        self._key_breaks: dict[str, int] = {}
        self._number = 0
        self._last_was_broken = False
        self._begin()

    def _begin(self) -> None:
        self._lines: list[Sealed] = []
        self._broken: list[int] = []

    def take(self, line: Sealed, raw: bytes) -> None:
        """Hold a line against what came before it."""
        if self._found.trailer is not None:
            self._found.damage.append(Damage("foreign", line.number, detail="it stands behind the end"))
            return
        fits = line.body is not None and line.link == line.chain
        if line.body is not None and not fits and not self._last_was_broken:
            self._broken.append(line.number)
        self._last_was_broken = not fits
        if line.body is None or "hocket" not in line.body:
            self._lines.append(line)
        if line.body is not None and "subject" in line.body:
            key = chained_as(line.body["shard"], line.body["subject"])
            if digest(f"{self._keys.get(key, ORIGIN)}{line.sum}".encode()) != line.of_key:
                self._key_breaks.setdefault(key, line.number)
            self._keys[key] = line.of_key

    def end(self, index: Mapping[str, Any]) -> None:
        """Hold the lines against their index."""
        damage = self._found.damage
        before = len(damage)
        self._number += 1
        skipped = index["block"] - self._number
        self._number = index["block"]
        if skipped > 0:
            at = self._lines[0].number if self._lines else self._found.lines
            damage.append(Damage("index", at, detail=f"{skipped} before it, so the lines up to there have no names"))
        holds = [tuple(entry) for entry in index["holds"]]
        places = {(shard, seq): place for place, (shard, seq, _, _) in enumerate(holds)}
        met: set[int] = set()
        for line in self._lines:
            if line.body is not None:
                place = places.get((line.body["shard"], line.body["seq"]))
                if place is not None and holds[place][3] == line.sum:
                    met.add(place)
        self._name(holds, places, met, judged=skipped <= 0)
        if len(damage) == before:
            for number in self._broken:
                damage.append(self._broken_at(number))
        self._begin()

    def _name(
        self, holds: list[tuple[Any, ...]], places: dict[tuple[int, int], int], met: set[int], *, judged: bool
    ) -> None:
        """Name what is damaged, missing or foreign in a block."""
        damage = self._found.damage
        next_place = 0
        for line in self._lines:
            if line.body is not None:
                place = places.get((line.body["shard"], line.body["seq"]))
                if place is None:
                    if judged:
                        damage.append(
                            _named("foreign", line.number, line.body["shard"], line.body["seq"], line.body["subject"])
                        )
                    continue
                next_place = place + 1
                if place in met:
                    continue
                met.add(place)
                damage.append(_named("damaged", line.number, *holds[place][:3]))
            elif next_place < len(holds) and next_place not in met:
                met.add(next_place)
                damage.append(_named("damaged", line.number, *holds[next_place][:3]))
                next_place += 1
            else:
                damage.append(Damage("damaged", line.number))
        for place, entry in enumerate(holds):
            if place not in met:
                damage.append(_named("missing", self._line_of(place, places), *entry[:3]))

    def _line_of(self, place: int, places: dict[tuple[int, int], int]) -> int:
        """The line before which the message of a place is missed."""
        for line in self._lines:
            if line.body is not None and places.get((line.body["shard"], line.body["seq"]), -1) > place:
                return line.number
        return self._found.lines

    def _broken_at(self, number: int) -> Damage:
        line = next((line for line in self._lines if line.number == number and line.body), None)
        detail = "its digests do not follow from the lines before it"
        if line is None or line.body is None:
            return Damage("chain", number, detail=detail)
        named = _named("chain", number, line.body["shard"], line.body["seq"], line.body["subject"])
        return Damage("chain", number, named.key, named.id, named.subject, named.seq, named.shard, detail)

    def close(self, trailer: dict[str, Any] | None) -> None:
        """Judge what is left when the end, or the end of the file, has come."""
        damage = self._found.damage
        for line in self._lines:
            if line.body is None:
                damage.append(Damage("damaged", line.number))
            elif trailer is not None and trailer["blocks"] <= self._number:
                body = line.body
                damage.append(_named("foreign", line.number, body["shard"], body["seq"], body["subject"]))
        if trailer is not None and trailer["blocks"] > self._number:
            detail = f"{trailer['blocks'] - self._number} blocks are missing before it"
            damage.append(Damage("index", self._found.lines, detail=detail))
        if not damage:
            damage.extend(self._broken_at(number) for number in self._broken)
        named = {(found.shard, found.key) for found in damage if found.key is not None}
        for chain, number in self._key_breaks.items():
            shard, separator, key = chain.partition(" ")
            if separator and (int(shard), key) not in named:
                damage.append(Damage("key", number, key, shard=int(shard), detail="something of it is missing before"))
        self._begin()


def _named(what: str, line: int, shard: int, seq: int, subject: str) -> Damage:
    about = whose(subject)
    return Damage(what, line, about.key, about.id, subject, seq, shard)


__all__ = ["Damage", "Reading", "opened", "raw_lines", "read"]
