"""A disk of a test's own, which can be full."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hocket.log.base import Expect, Write


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system in memory."""

    root: Path

    def leave(self, room: int) -> None:
        """Leave so many bytes of it, and no more."""
        usage = os.statvfs(self.root)
        self._size((usage.f_blocks - usage.f_bfree) * usage.f_frsize + room)

    def room(self) -> int:
        """How many bytes of it are free."""
        usage = os.statvfs(self.root)
        return usage.f_bavail * usage.f_frsize

    def grow(self) -> None:
        """Make it large enough for whatever a test does. What is not used takes no memory."""
        self._size(4 << 30)

    def _size(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.root], check=True, timeout=10)


@contextmanager
def mounted(root: Path) -> Iterator[Disk]:
    """A disk for as long as the block lasts. Skips the test of whom the system lets mount nothing."""
    if shutil.which("mount") is None or not _mounted(root):
        pytest.skip("only who may mount has a disk that can be full: run as root, or under `unshare -rm`")
    try:
        yield Disk(root)
    finally:
        subprocess.run(["umount", "-l", root], check=True, timeout=10)


def _mounted(root: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", root]
    return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0


def group(domain: str, number: int, size: int) -> list[Write]:
    """What goes to the disk in one append: so many kilobytes that no server can make smaller."""
    subjects = [f"{domain}.0.a.{number}.{i}" for i in range(size)]
    return [Write(subject, os.urandom(1000), Expect(subject, 0)) for subject in subjects]
