"""The processes of a system that is measured: started in a session of their own, and ended with all they started."""

import asyncio
import os
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from hocket.errors import HocketError

START_S = 60.0
END_S = 10.0
_POLL_S = 0.05
_ENOUGH = 300
"""Characters of a log's end."""


class LeftOut(HocketError):
    """A system cannot be compared here; the others go on."""


@asynccontextmanager
async def running(
    command: Sequence[str], log: Path, *, spoken_to: bool = False, variables: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """Run a program for as long as the block lasts; what it says goes to `log`.

    `spoken_to` keeps its standard input and output for us. It is asked to end, by the end of its input or by a
    signal, and then it is killed with all that it started.
    """
    with log.open("ab") as said:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE if spoken_to else DEVNULL,
            stdout=PIPE if spoken_to else said,
            stderr=said,
            start_new_session=True,
            env=os.environ | dict(variables or {}),
        )
    try:
        yield process
    finally:
        await _end(process)


async def _end(process: Process) -> None:
    if process.returncode is None:
        if process.stdin is not None:
            process.stdin.close()
        else:
            process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await process.wait()
    # Its session, not only the process: a server's or a worker's children are not left behind.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def listens(process: Process, port: int, log: Path) -> None:
    """Wait until a server takes connections. Raises LeftOut when it ends instead, or takes too long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            while process.returncode is None:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(_POLL_S)
    raise LeftOut(f"its server did not come up: {last_words(log)}")


async def output(command: Sequence[str], *, within_s: float = START_S) -> str:
    """What a command says. Raises LeftOut, with the end of it, when it fails."""
    # In the root: somebody else, as whom the command may run, need not be allowed to stand where we do.
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, cwd="/")
    try:
        async with asyncio.timeout(within_s):
            said, _ = await process.communicate()
    except TimeoutError:
        raise LeftOut(f"{_short(command)} took longer than {within_s:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = said.decode(errors="replace")
    if process.returncode:
        raise LeftOut(f"{_short(command)} failed: {' '.join(text.split())[-_ENOUGH:]}")
    return text


def _short(command: Sequence[str]) -> str:
    return " ".join([Path(command[0]).name, *command[1:]])


def last_words(log: Path) -> str:
    """The end of a log as one line."""
    return " ".join(log.read_text(errors="replace").split())[-_ENOUGH:] if log.exists() else ""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def cpu_s(roots: Sequence[int]) -> float | None:
    """CPU seconds of processes and of all that they started, so far; None where the system does not tell."""
    if not Path("/proc/self/stat").exists():
        return None
    children: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            fields = stat.read_bytes().rpartition(b") ")[2].split()
            pid = int(stat.parent.name)
            children.setdefault(int(fields[1]), []).append(pid)
            used[pid] = sum(map(int, fields[11:15]))  # its own, and of those that it has seen end
    reached = list(roots)
    for pid in reached:
        reached.extend(children.get(pid, ()))
    return sum(used.get(pid, 0) for pid in reached) / os.sysconf("SC_CLK_TCK")
