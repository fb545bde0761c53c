"""Whether another process of this machine is still there, where the system tells: Linux does.

A process is named by the machine's boot, its PID namespace, its PID and when it was started, so that no later
process is taken for it. What another machine, container or system says of itself is never known to have ended.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")

_ENDED = frozenset({b"Z", b"X", b"x"})
"""States of a process of which only its exit status is left."""


def own_name() -> str | None:
    """The name of the process that asks, for `has_ended` in another one; None where the system does not tell."""
    return _name(os.getpid())


def has_ended(name: str | None) -> bool:
    """Whether the process of that name is certainly gone."""
    pid = _pid_of(name)
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    stat = _stat(pid)
    return stat is not None and (stat[0] in _ENDED or f"{_around()}/{pid}/{stat[1]}" != name)


@contextmanager
def watching(name: str | None, ended: Callable[[], None]) -> Iterator[None]:
    """Have the running loop call `ended`, once, as soon as the process of that name has ended, while the block lasts.

    Where the system tells nothing of it, nothing is called: then look with `has_ended`, or wait for a silence.
    """
    watch = _opened(name)
    heard = False

    def hear() -> None:
        nonlocal heard
        if watch is not None:
            loop.remove_reader(watch)
        if not heard:
            heard = True
            ended()

    loop = asyncio.get_running_loop()
    try:
        if watch is not None:
            loop.add_reader(watch, hear)
        # It may have ended before, and its number be another's by now. Whoever has the name now had it then too.
        if has_ended(name):
            hear()
        yield
    finally:
        if watch is not None:
            loop.remove_reader(watch)
            os.close(watch)


def _opened(name: str | None) -> int | None:
    """A descriptor that becomes readable when whoever has that process's number now ends; None: there is none."""
    pid = _pid_of(name)
    if pid is None or not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except (OSError, OverflowError):  # gone already, or not to be had here
        return None


def _pid_of(name: str | None) -> int | None:
    """The number of another process that this one can ask about; None: the name says nothing here."""
    if name is None or name == own_name():
        return None
    around, _, process = name.rpartition("/")[0].rpartition("/")
    return int(process) if around and around == _around() and process.isdecimal() else None


@lru_cache(maxsize=1)
def _name(pid: int) -> str | None:
    """The process that asks; by its PID, since a fork has another name."""
    around, stat = _around(), _stat(pid)
    return f"{around}/{pid}/{stat[1]}" if around and stat else None


@lru_cache(maxsize=1)
def _around() -> str | None:
    """The machine's boot and the namespace in which this process has its PID."""
    try:
        return f"{_BOOT.read_text().strip()}/{os.readlink(_NAMESPACE)}"
    except OSError:
        return None


def _stat(pid: int) -> tuple[bytes, int] | None:
    """A process's state, and when it was started, in clock ticks since the boot."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
