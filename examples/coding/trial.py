"""Tries code that a model has written: its tests, in a process of its own, with little room and for a short time.

What keeps the process from the rest of the machine is said of each trial (`Tried.confined`), and depends on where it
runs; the README says what each is worth.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel

INSIDE = Path(__file__).with_name("inside.py")

WALL_S = 10.0
CPU_S = 5
MEMORY_BYTES = 512 << 20
FILE_BYTES = 1 << 20
"""Of each file that it writes, and of what it prints."""

LATE_S = 3.0
"""How long after its time it may take to say what it was doing; then it is killed."""

TOLD_CHARACTERS = 4000
"""As much of the output's end as is told."""

UNSHARE = ("unshare", "--user", "--map-current-user", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--")


class Tried(BaseModel):
    """What came of a trial."""

    passed: bool
    tests: int
    says: str
    """The end of what the tests printed, or why there is no such thing."""

    confined: str


def tried(files: Mapping[str, str], *, wall_s: float = WALL_S) -> Tried:
    """Run every `test_*.py` of these files, given by path, with Python's unittest; it takes `wall_s` at the most.

    Or `LATE_S` longer, where the code does not heed that.
    """
    with TemporaryDirectory(prefix="trial-") as place:
        folder, output = Path(place).resolve() / "code", Path(place).resolve() / "output"
        for path, text in files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        ended = _run(folder, output, wall_s)
        report = folder / "report.json"
        printed = output.read_text(errors="replace").replace(f"{folder}/", "").strip()
        if ended is None or not report.is_file():
            why = f"it was stopped after {wall_s:g} s" if ended is None else f"their process ended with code {ended}"
            says = f"The tests did not come to their end: {why}.\n{printed[-TOLD_CHARACTERS:]}"
            return Tried(passed=False, tests=0, says=says.strip(), confined=confined())
        told = json.loads(report.read_text())
    passed = told["passed"] and told["tests"] > 0
    return Tried(passed=passed, tests=told["tests"], says=printed[-TOLD_CHARACTERS:], confined=confined())


def confined() -> str:
    """What keeps a trial from the rest of the machine, here."""
    return "namespaces, limits and Python's audit hooks" if has_namespaces() else "limits and Python's audit hooks"


def _run(folder: Path, output: Path, wall_s: float) -> int | None:
    """The exit code; None: it took too long, and was killed with all that it had started."""
    limits = json.dumps({"wall_s": wall_s, "cpu_s": CPU_S, "memory_bytes": MEMORY_BYTES, "file_bytes": FILE_BYTES})
    command = [*(UNSHARE if has_namespaces() else ()), sys.executable, "-IB", str(INSIDE), limits]
    # No variable of ours but the path: keys of models stand there.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(folder), "PYTHONHASHSEED": "0"}
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(wall_s + LATE_S)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # In any case: it may have left something running.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@cache
def has_namespaces() -> bool:
    """Whether this machine lets us have a network and processes of our own."""
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except OSError:
        return False
