"""How much memory a process holds, where the system tells."""

import os
from pathlib import Path

MEASURED = Path("/proc/self/statm").exists()
"""Whether this system tells: Linux does. Elsewhere nothing is known, and a cap cannot be kept."""

MIB = 1 << 20

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int | None:
    """What a process keeps in memory, without what its own children hold; None when nobody knows."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None


__all__ = ["MEASURED", "MIB", "resident_bytes"]
