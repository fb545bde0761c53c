"""The process in which code is tried: it takes everything away from itself that the code does not need, then runs it.

    python -IB inside.py LIMITS      in the code's folder, where it leaves `report.json`

The limits are the kernel's, and hold. The audit hook tells a module that means no harm, in words, what it may not do;
code that means harm knows ways around it.
"""

import json
import os
import resource
import signal
import socket
import sys
import unittest
from types import FrameType

PROCESSES = {f"os.{name}" for name in ("fork", "forkpty", "posix_spawn", "exec", "spawn", "system", "kill", "killpg")}
PROCESSES |= {"subprocess.Popen", "pty.spawn"}
CHANGES = {f"os.{name}" for name in ("remove", "rename", "mkdir", "rmdir", "link", "symlink", "truncate", "chmod")}
CHANGES |= {"os.chown", "os.utime", "os.setxattr", "os.removexattr", "sqlite3.connect"}
LOOKS = ("os.listdir", "os.scandir", "os.chdir")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
INSISTS_S = 2.0

HERE = os.path.realpath(os.getcwd())
READABLE = [os.path.realpath(path) for path in (HERE, sys.prefix, sys.base_prefix, "/usr/share/zoneinfo")]
READABLE += ["/dev/null", "/dev/urandom"]


def take_away(limits: dict[str, float]) -> None:
    """Set the limits, and have what is not allowed told."""
    cpu_s, memory, file = int(limits["cpu_s"]), int(limits["memory_bytes"]), int(limits["file_bytes"])
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file, file))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # no more of them; root is not held by it
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seen: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        """Say where it hangs; if that helps nothing, end."""
        seen.append(number)
        used = f"{limits['wall_s']:g} s" if number == signal.SIGALRM else f"{cpu_s} s of computing"
        told = f"stopped here, after {used}"
        if len(seen) > 1:
            os.write(1, f"\n{told}, and did not heed it\n".encode())
            os._exit(1)
        raise TimeoutError(told)

    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGXCPU, stop)
    signal.setitimer(signal.ITIMER_REAL, limits["wall_s"], INSISTS_S)
    sys.addaudithook(refuse)


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Raise where the code wants what it may not have."""
    if event in PROCESSES or event.startswith("ctypes."):
        raise PermissionError(f"a module may not start, end or get around a process here ({event})")
    if event == "socket.__new__" and arguments[1] != socket.AF_UNIX:
        raise PermissionError("a module may not use the network here")
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        raise PermissionError(f"a module may not use the network here ({event})")
    if event == "open":
        path, mode, flags = arguments
        writes = bool(set(str(mode or "")) & set("wax+")) or bool(isinstance(flags, int) and flags & WRITES)
        keep_to([HERE] if writes else READABLE, path)
    elif event in CHANGES:
        for path in arguments:
            keep_to([HERE], path)
    elif event in LOOKS:
        keep_to(READABLE, arguments[0])


def keep_to(places: list[str], path: object) -> None:
    """Raise unless a path lies in one of these."""
    if not isinstance(path, str | bytes):
        return  # a descriptor, a mode
    real = os.path.realpath(os.fsdecode(path))
    if not any(real == place or real.startswith(f"{place}{os.sep}") for place in places):
        raise PermissionError(f"a module may not touch {real} here")


def main() -> None:
    """Run the tests, and leave a report."""
    sys.path.insert(0, HERE)
    take_away(json.loads(sys.argv[1]))
    suite = unittest.defaultTestLoader.discover(HERE, top_level_dir=HERE)
    result = unittest.TextTestRunner(stream=sys.stdout, descriptions=False).run(suite)
    with open(os.path.join(HERE, "report.json"), "w", encoding="utf-8") as file:
        json.dump({"passed": result.wasSuccessful(), "tests": result.testsRun}, file)


if __name__ == "__main__":
    main()
