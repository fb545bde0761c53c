"""The folder of documents: which files are in it, and their bytes."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SUFFIXES = frozenset({".htm", ".html", ".markdown", ".md", ".rst", ".text", ".txt"})
"""What the name of a document ends in, in lower case."""

DOCUMENTS_MAX = 800
"""Most documents in one library: all of them are announced in one append, which takes 1000 messages."""

LIBRARY_BYTES_MAX = 32_000_000
"""Most bytes in one library: the agents search it in memory."""

DOCUMENT_BYTES_MAX = 2_000_000
"""Largest document; a larger one is refused, the others are read."""


class NoLibrary(Exception):
    """The folder cannot be used at all; the message says what is wrong and what to do."""


class Unreadable(Exception):
    """One file cannot be read; the message completes the sentence "It …"."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What a search of the folder found."""

    documents: tuple[str, ...]
    """Relative paths with forward slashes, sorted by code point."""

    refused: tuple[tuple[str, str], ...]
    """Documents by their name that can never be read, each with the reason; sorted."""

    ignored: int
    """Files that are hidden or are no text by their suffix."""


def search(folder: str, leave_out: str) -> Shelf:
    """Find the documents below `folder`, except the file `leave_out`.

    Hidden files and folders are left alone. Links to files are followed, links to folders are not, so no
    loop of links can trap the search. Raises NoLibrary.
    """
    root = Path(folder)
    _require_folder(root)
    documents: list[str] = []
    refused: list[tuple[str, str]] = []
    ignored = 0
    bytes_found = 0

    def refuse_folder(error: OSError) -> None:
        name = Path(error.filename).relative_to(root).as_posix()
        refused.append((os.fsencode(name).decode("utf-8", "backslashreplace"), f"The folder: {error.strerror}."))

    for parent, folders, files in os.walk(root, followlinks=False, onerror=refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(parent, name)
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                ignored += 1
            elif os.path.abspath(path) == os.path.abspath(leave_out):
                continue
            elif (reason := _unspeakable(name_of := path.relative_to(root).as_posix())) is not None:
                refused.append((os.fsencode(name_of).decode("utf-8", "backslashreplace"), reason))
            else:
                documents.append(name_of)
                bytes_found += _size(path)
    if len(documents) + len(refused) > DOCUMENTS_MAX:
        raise NoLibrary(
            f"{folder} holds {len(documents) + len(refused)} documents, a brief is written from at most "
            f"{DOCUMENTS_MAX}. Choose a folder further down."
        )
    if bytes_found > LIBRARY_BYTES_MAX:
        raise NoLibrary(
            f"The documents in {folder} have {bytes_found / 1e6:.0f} MB, a brief is written from at most "
            f"{LIBRARY_BYTES_MAX / 1e6:.0f} MB. Choose a folder further down."
        )
    if not documents and not refused:
        raise NoLibrary(
            f"There is no document in {folder}: {_files(ignored)}, none with a name in {' '.join(sorted(SUFFIXES))}. "
            "Put some text, Markdown, reStructuredText or HTML files there, or choose another folder."
        )
    return Shelf(tuple(sorted(documents)), tuple(sorted(refused)), ignored)


def take(folder: str, document: str) -> bytes:
    """Read the bytes of one document. Raises Unreadable."""
    path = Path(folder, document)
    if ".." in PurePosixPath(document).parts or PurePosixPath(document).is_absolute():
        raise Unreadable("lies outside of the folder")
    try:
        # A pipe or a device could block for ever; a regular file never does.
        if not stat.S_ISREG(path.stat().st_mode):
            raise Unreadable("is no regular file")
        with path.open("rb") as file:
            data = file.read(DOCUMENT_BYTES_MAX + 1)
    except FileNotFoundError:
        raise Unreadable("is a broken link" if path.is_symlink() else "is no longer there") from None
    except PermissionError:
        raise Unreadable("may not be read: permission denied") from None
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    if len(data) > DOCUMENT_BYTES_MAX:
        raise Unreadable(f"is larger than {DOCUMENT_BYTES_MAX / 1e6:.0f} MB; split it")
    return data


def decode(data: bytes) -> str:
    """The text in a file's bytes. Raises Unreadable for whatever is no UTF-8 text, or none at all."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("is UTF-16; save it as UTF-8")
    if b"\0" in data:
        raise Unreadable("is binary")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    if not text.strip("\ufeff \t\r\n"):
        raise Unreadable("is empty")
    return text


def _require_folder(root: Path) -> None:
    try:
        if not stat.S_ISDIR(root.stat().st_mode):
            raise NoLibrary(f"{root} is a file. Give the folder that holds the documents.")
        with os.scandir(root):
            pass
    except (FileNotFoundError, NotADirectoryError):
        raise NoLibrary(f"There is no folder {root}. Check the path.") from None
    except PermissionError:
        raise NoLibrary(f"The folder {root} may not be read: permission denied.") from None
    except (OSError, ValueError) as error:
        raise NoLibrary(f"The folder {root} cannot be read: {error}.") from None


def _unspeakable(name: str) -> str | None:
    """Why a path cannot stand in a citation, if it cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8; rename it"
    return None if name.isprintable() else "has a name with control characters; rename it"


def _size(path: Path) -> int:
    """What a document adds to the library; one that cannot be read or is too large is refused later."""
    try:
        size = path.stat().st_size
    except OSError:
        return 0
    return size if size <= DOCUMENT_BYTES_MAX else 0


def _files(count: int) -> str:
    return "it is empty" if count == 0 else f"it holds {count} file{'s' if count > 1 else ''}"
