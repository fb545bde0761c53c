"""A brief on disk: written whole or not at all, and listed in the index beside it."""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from hocket_schemas.briefs import BriefReviewed

INDEX_NAME = "index.json"


class CannotWrite(Exception):
    """The brief cannot be written where it should go; the message says why and what to do.

    A full disk is not among these: it passes, so it is an OSError, and the write is tried again.
    """


def publish(out: str, data: bytes, brief: BriefReviewed) -> None:
    """Write the brief to `out` and enter it in the index; the same again leaves the same files.

    Raises CannotWrite, and OSError for what may pass. One process at a time may write to a folder, which
    the publisher's ownership of its key gives.
    """
    path = Path(out)
    index_path = path.with_name(INDEX_NAME)
    try:
        if path.is_dir() or path.name == INDEX_NAME:
            raise CannotWrite(f"{out} cannot be a brief. Give the name of a Markdown file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        index = _read_index(index_path)
        replace(path, data)
        replace(index_path, _with_entry(index, _entry(path.name, data, brief)))
    except (FileExistsError, NotADirectoryError):
        raise CannotWrite(f"{out} cannot be written: {path.parent} is no folder. Choose another place.") from None
    except PermissionError:
        raise CannotWrite(f"{out} cannot be written: permission denied. Choose another place.") from None


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
    """Make the new name durable too, where folders can be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_index(path: Path) -> dict[str, Any]:
    """The index as parsed JSON. A file of that name that is no index is somebody else's: hands off."""
    try:
        index = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {"briefs": []}
    except ValueError:
        index = None
    briefs = index.get("briefs") if isinstance(index, dict) else None
    if not isinstance(briefs, list) or not all(isinstance(b, dict) and isinstance(b.get("path"), str) for b in briefs):
        raise CannotWrite(f"{path} is there and is no index of briefs. Move it, or choose another folder.")
    return {"briefs": briefs}


def _entry(name: str, data: bytes, brief: BriefReviewed) -> dict[str, Any]:
    return {
        "path": name,
        "title": brief.title,
        "digest": digest_of(data),
        "sentences": sum(len(section.sentences) for section in brief.sections),
        "documents": [source.model_dump() for source in brief.sources],
    }


def _with_entry(index: dict[str, Any], entry: dict[str, Any]) -> bytes:
    others = [brief for brief in index["briefs"] if brief["path"] != entry["path"]]
    briefs = sorted([*others, entry], key=lambda brief: str(brief["path"]))
    return (json.dumps({"briefs": briefs}, indent=2, ensure_ascii=False) + "\n").encode()
