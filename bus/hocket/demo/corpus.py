"""Documents that every machine with CPython has: the language reference inside its own help."""

import sys
from pathlib import Path

from hocket_schemas.errors import HocketError


class NoCorpus(HocketError):
    """Python was installed without its language reference.

    Give `hocket demo` a folder of your own documents.
    """


def lay_out(parent: Path) -> Path:
    """Write the reference into a folder below `parent`, one text file per topic, and return the folder.

    Files that are there with the right content are left alone. The folder's name holds the version of
    Python, since the text does too. Raises NoCorpus.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise NoCorpus("this Python comes without pydoc_data; give a folder of your own documents") from None
    folder = folder_in(parent)
    folder.mkdir(parents=True, exist_ok=True)
    for topic, text in sorted(topics.items()):
        _write(folder / f"{topic}.txt", text.rstrip("\n").encode() + b"\n")
    return folder


def folder_in(parent: Path) -> Path:
    """The folder below `parent` that `lay_out` writes to."""
    return parent / f"python-{sys.version_info.major}.{sys.version_info.minor}-reference"


def _write(path: Path, data: bytes) -> None:
    try:
        if path.read_bytes() == data:
            return
    except FileNotFoundError:
        pass
    path.write_bytes(data)
