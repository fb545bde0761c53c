"""A brief on disk: written whole or not at all, listed in the index beside it, and taken back again."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hocket.effect import NotDone
from hocket_schemas.briefs import BriefReviewed

INDEX_NAME = "index.json"

KEPT_BYTES_MAX = 65_536
"""An earlier file that is larger is not put back when a brief is undone."""

Entry = dict[str, Any]
"""What the index says of one brief."""


class CannotWrite(NotDone):
    """The brief cannot be written where it should go; the message says why and what to do.

    A full disk is not among these: it passes, so it is an OSError, and the write is tried again.
    """


class Before(BaseModel):
    """What is at a brief's place before it is written."""

    text: str | None
    """None: no file, or none that was worth keeping."""

    entry: Entry | None
    """Of the index."""


class Written(BaseModel):
    """A brief that is on disk."""

    path: str
    digest: str
    """SHA-256 of the file, as 64 hexadecimal digits."""


def look(out: str) -> Before:
    """What is there, before anything is changed. Raises CannotWrite when a brief cannot be there at all."""
    with _explained(out) as path:
        if path.is_dir() or path.name == INDEX_NAME:
            raise CannotWrite(f"{out} cannot be a brief. Give the name of a Markdown file.")
        text = None
        if path.is_file() and path.stat().st_size <= KEPT_BYTES_MAX:
            with suppress(UnicodeDecodeError):
                text = path.read_bytes().decode()
        return Before(text=text, entry=_find(_read_index(path), path))


def write(out: str, text: str) -> Written:
    """Write the brief to `out`; the same again leaves the same file.

    Raises CannotWrite, and OSError for what may pass. One process at a time may write to a folder, which
    the publisher's ownership of its key gives.
    """
    with _explained(out) as path:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, text.encode())
        return Written(path=out, digest=digest_of(text.encode()))


def find(out: str, text: str) -> Written | None:
    """The brief, if the file holds this text."""
    path, data = Path(out), text.encode()
    if not path.is_file() or path.read_bytes() != data:
        return None
    return Written(path=out, digest=digest_of(data))


def take_back(out: str, digest: str, before: str | None) -> None:
    """Put back what was there before. A file that is no longer the one with this digest is left alone."""
    path = Path(out)
    if not path.is_file() or digest_of(path.read_bytes()) != digest:
        return
    if before is not None:
        replace(path, before.encode())
    else:
        path.unlink()
        _sync_folder(path.parent)


def entry_of(out: str, digest: str, brief: BriefReviewed) -> Entry:
    """What the index says of a brief."""
    return {
        "path": Path(out).name,
        "title": brief.title,
        "digest": digest,
        "sentences": sum(len(section.sentences) for section in brief.sections),
        "documents": [source.model_dump() for source in brief.sources],
    }


def enter(out: str, entry: Entry) -> str:
    """List a brief in the index beside it, in place of an earlier one of its name; return the index's path.

    Raises as `write` does.
    """
    with _explained(out) as path:
        return _change_index(path, entry)


def find_entry(out: str, entry: Entry) -> str | None:
    """The index's path, if the index says this of the brief."""
    with _explained(out) as path:
        return str(path.with_name(INDEX_NAME)) if _find(_read_index(path), path) == entry else None


def take_entry_back(out: str, entry: Entry, before: Entry | None) -> None:
    """Put back what the index said before, unless it says something else by now."""
    with _explained(out) as path:
        if _find(_read_index(path), path) == entry:
            _change_index(path, before)


def replace(path: Path, data: bytes) -> None:
    """Put `data` in place of the file, durably; a reader sees the old content or the new, never a part."""
    if path.is_file() and path.read_bytes() == data:
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync_folder(path.parent)
    for left_behind in path.parent.glob(f".{path.name}.*.tmp"):
        left_behind.unlink(missing_ok=True)


def digest_of(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return sha256(data).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a changed name durable too, where folders can be synced."""
    if os.name != "posix":
        return
    with suppress(PermissionError):  # one that may be written to and not read
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _explained(out: str) -> Iterator[Path]:
    """The brief's path; what cannot be done there is said to whoever wanted it there."""
    path = Path(out)
    try:
        yield path
    except (FileExistsError, NotADirectoryError):
        raise CannotWrite(f"{out} cannot be written: {path.parent} is no folder. Choose another place.") from None
    except PermissionError:
        raise CannotWrite(f"{out} cannot be written: permission denied. Choose another place.") from None


def _read_index(path: Path) -> list[Entry]:
    """The entries of the index beside a brief. A file of that name that is no index is somebody else's: hands off."""
    index_path = path.with_name(INDEX_NAME)
    try:
        index = json.loads(index_path.read_bytes())
    except FileNotFoundError:
        return []
    except (ValueError, IsADirectoryError):
        index = None
    briefs = index.get("briefs") if isinstance(index, dict) else None
    if not isinstance(briefs, list) or not all(isinstance(b, dict) and isinstance(b.get("path"), str) for b in briefs):
        raise CannotWrite(f"{index_path} is there and is no index of briefs. Move it, or choose another folder.")
    return briefs


def _find(entries: list[Entry], path: Path) -> Entry | None:
    """What an index says of the brief at a path."""
    return next((entry for entry in entries if entry["path"] == path.name), None)


def _change_index(path: Path, entry: Entry | None) -> str:
    """Let the index say this of the brief at a path, or nothing; return its path."""
    index_path = path.with_name(INDEX_NAME)
    others = [other for other in _read_index(path) if other["path"] != path.name]
    briefs = sorted([*others, *([entry] if entry else [])], key=lambda brief: str(brief["path"]))
    if briefs:
        replace(index_path, (json.dumps({"briefs": briefs}, indent=2, ensure_ascii=False) + "\n").encode())
    else:
        index_path.unlink(missing_ok=True)
        _sync_folder(path.parent)
    return str(index_path)
