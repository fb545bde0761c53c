"""The JSON Schema of every event of this package, as files for readers in other languages.

`python -m hocket_schemas.export` writes them; with `--check` it only compares, and ends with 1 on a drift.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from hocket_schemas.catalog import discover, find, known

FOLDER = Path(__file__).parent / "json"


def schemas() -> dict[str, bytes]:
    """Every file by its name: what a publisher has to send as data, the same bytes on every machine."""
    modules = frozenset(discover())
    files: dict[str, bytes] = {}
    for event_type in known():
        declared = find(event_type)
        if declared.__module__ in modules:
            schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **declared.model_json_schema()}
            text = orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
            files[f"{event_type}.json"] = text + b"\n"
    return files


def drift(files: dict[str, bytes], folder: Path) -> list[str]:
    """What differs between the code and a folder, one line a file; nothing when they agree."""
    there = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    missing = [f"{name}: missing" for name in files.keys() - there.keys()]
    stale = [f"{name}: no event of this type" for name in there.keys() - files.keys()]
    changed = [f"{name}: changed" for name in files.keys() & there.keys() if files[name] != there[name]]
    return sorted(missing + stale + changed)


def write(files: dict[str, bytes], folder: Path) -> None:
    """Make the folder hold these files, and no other schema."""
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.json"):
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        (folder / name).write_bytes(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m hocket_schemas.export", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if anything differs")
    check: bool = parser.parse_args(arguments).check
    files = schemas()
    differences = drift(files, FOLDER)
    if not check:
        write(files, FOLDER)
    for line in differences:
        sys.stdout.write(f"{line}\n")
    if check and differences:
        sys.stderr.write(f"{FOLDER} has drifted from the code; run python -m hocket_schemas.export\n")
        return 1
    sys.stdout.write(f"{len(files)} schemas {'agree' if check else 'written'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
