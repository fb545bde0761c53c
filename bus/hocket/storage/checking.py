"""Whether a copy is sound: read from end to end, with everything that is wrong in it by name."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hocket.errors import BadCopy
from hocket.storage.line import Stored, stored_of
from hocket.storage.reading import Damage, Reading, opened, raw_lines, read

SUFFIXES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, slots=True)
class Checked:
    """What reading a whole copy has come to."""

    path: str
    sound: bool
    domain: str
    shards: int
    messages: int
    bytes: int
    """Uncompressed."""

    taken: str | None
    """The moment that the copy shows, RFC 3339; None: its end is missing."""

    ends: tuple[int, ...]
    firsts: tuple[int, ...]
    digest: str
    damage: tuple[Damage, ...]
    kind: str
    """`backup`, or `archive`: then it holds some facts only, and cannot be restored."""


def check(path: Path, *, digest: str | None = None) -> Checked:
    """Read a copy from end to end. With `digest`, what was printed when it was taken, it has to be that very copy.

    Raises BadCopy for what is no copy at all, and CopyTooNew.
    """
    found = Reading()
    with opened(path) as file:
        for _ in read(raw_lines(file), found):
            pass
    damage = list(found.damage)
    if digest is not None and digest != found.digest and not damage:
        damage.append(
            Damage("chain", None, detail=f"the digest is {found.digest}, so it is another copy than {digest}")
        )
    header: dict[str, Any] = found.header or {}
    trailer: dict[str, Any] = found.trailer or {}
    return Checked(
        path=str(path),
        sound=not damage and found.sound,
        domain=header.get("domain", ""),
        shards=header.get("shards", 0),
        messages=found.messages,
        bytes=found.bytes,
        taken=trailer.get("taken"),
        ends=tuple(trailer.get("ends", ())),
        firsts=tuple(trailer.get("firsts", ())),
        digest=found.digest,
        damage=tuple(damage),
        kind=header.get("kind", ""),
    )


def messages_of(path: Path) -> Iterator[Stored]:
    """What a copy holds, each shard in the order of its log. Raises BadCopy at the first damage."""
    found = Reading()
    with opened(path) as file:
        for body in read(raw_lines(file), found):
            if found.damage:
                break
            yield stored_of(body)
    if not found.sound:
        raise BadCopy(f"{path}: {found.damage[0] if found.damage else 'not whole'}")


def newest_in(folder: Path) -> Path:
    """The newest backup in a folder, by its name. Raises BadCopy when there is none."""
    return copies_in(folder)[-1]


def copies_in(folder: Path) -> list[Path]:
    """The copies in a folder, in the order of their names. Raises BadCopy when there is none."""
    found = [path for path in folder.iterdir() if path.name.endswith(SUFFIXES) and not path.name.startswith(".")]
    if not found:
        raise BadCopy(f"{folder} holds no copy: no file whose name ends in {' or '.join(SUFFIXES)}")
    return sorted(found, key=lambda path: path.name)


__all__ = ["Checked", "check", "copies_in", "messages_of", "newest_in"]
