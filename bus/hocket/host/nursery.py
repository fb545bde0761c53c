"""Starts service processes in a tenth of the time: forks them from one that has imported everything already.

Half a second of imports for each service is what a crew of seven waits for on two cores, and what a killed one
is away for. The nursery is a process of its own without threads and without a loop, so forking it is safe. What
it bears are processes like any other, with their own session, signals and environment; the service's own code
is loaded after the fork, so it is the code as it is then.
"""

import asyncio
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

AVAILABLE = sys.platform == "linux"
"""Whether this system has what a nursery needs: packets that carry file descriptors, and a fork that is safe."""

PACKET_BYTES_MAX = 1 << 18
START_S = 10.0
"""How long the nursery may take to bear a process, its own start included."""

STOP_S = 2.0
NAME_LENGTH_MAX = 15
"""The kernel's limit for what `ps` shows."""


class Nursling:
    """A process that a nursery bore, seen from whoever asked for it. What it offers is like asyncio's `Process`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        """Wait until it has ended; return its exit code, or the negative number of the signal that ended it."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it here and now."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it is known to have ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def end(self, code: int) -> None:
        """Learn that it has ended."""
        self.returncode = code
        self._ended.set()


class Nursery:
    """Bears service processes for as long as the block lasts; they may live longer.

    ```python
    async with Nursery() as nursery, Fleet(folders, url=url, nursery=nursery) as fleet:
        ...
    ```
    """

    def __init__(self) -> None:
        self._link, self._far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process: asyncio.subprocess.Process | None = None
        """The nursery itself; None before its start."""

        self._asked: list[asyncio.Future[Nursling]] = []
        """Who waits for a birth, in the order of asking."""

        self.open = True
        """False once it is gone, however that came."""

        self._alive: dict[int, Nursling] = {}
        self._stack = AsyncExitStack()

    async def start(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], *, stdin: int, output: int
    ) -> Nursling:
        """Bear a process that runs `hocket.host.child` with these arguments.

        `stdin` and `output` are file descriptors of ours. Raises OSError when none can be had.
        """
        born: asyncio.Future[Nursling] = asyncio.get_running_loop().create_future()
        wish = {"name": name, "arguments": arguments, "environment": dict(environment)}
        socket.send_fds(self._link, [orjson.dumps(wish)], [stdin, output])
        self._asked.append(born)
        try:
            async with asyncio.timeout(START_S):
                return await born
        except TimeoutError:
            raise OSError(f"the nursery has borne nothing for {START_S:g} s") from None

    async def __aenter__(self) -> Self:
        """Start the nursery; it need not be waited for."""
        async with AsyncExitStack() as stack:
            stack.callback(self._link.close)
            with self._far_end:
                self.process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-u", "-P", "-m", __name__, str(self._far_end.fileno())),
                    pass_fds=(self._far_end.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for whoever asks, not for those who are asked
                )
            loop = asyncio.get_running_loop()
            self._link.setblocking(False)
            loop.add_reader(self._link, self._hear)
            stack.callback(loop.remove_reader, self._link)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the nursery. What it bore and still lives goes on."""
        await self._stack.aclose()
        process = self.process
        assert process is not None
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _hear(self) -> None:
        """The nursery says something, or is gone: then nobody can tell how its children end, so they are ended."""
        try:
            packet = self._link.recv(PACKET_BYTES_MAX)
        except BlockingIOError:
            return
        except ConnectionError:
            packet = b""
        if not packet:
            asyncio.get_running_loop().remove_reader(self._link)
            self._lose()
            return
        told: dict[str, Any] = orjson.loads(packet)
        match told:
            case {"born": int(pid)}:
                nursling = self._alive[pid] = Nursling(pid)
                self._answer(nursling)
            case {"failed": str(why)}:
                self._answer(OSError(why))
            case {"ended": int(pid), "code": int(code)}:
                self._alive.pop(pid).end(code)

    def _answer(self, answer: Nursling | OSError) -> None:
        born = self._asked.pop(0)
        if born.done():  # whoever asked has stopped waiting
            if isinstance(answer, Nursling):
                answer.kill()
        elif isinstance(answer, OSError):
            born.set_exception(answer)
        else:
            born.set_result(answer)

    def _lose(self) -> None:
        self.open = False
        while self._asked:
            self._answer(OSError("the nursery is gone"))
        for nursling in self._alive.values():
            nursling.kill()
            nursling.end(-signal.SIGKILL)
        self._alive.clear()


def main() -> int:
    """Import what every service needs, then bear whoever is asked for until the other end of the link is closed."""
    for name in ("hocket.host.child", "hocket.log.jetstream", "hocket_schemas.catalog", "uvloop"):
        with suppress(ModuleNotFoundError):  # uvloop is wanted, not needed
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that a collection in a child does not copy what it could share
    with socket.socket(fileno=int(sys.argv[1])) as link:
        _serve(link)
    return 0


def _serve(link: socket.socket) -> None:
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # without a handler nobody is woken
    while True:
        ready, _, _ = select.select([link.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            for pid, code in _ended():
                link.send(orjson.dumps({"ended": pid, "code": code}))
        if link.fileno() in ready:
            packet, descriptors, _, _ = socket.recv_fds(link, PACKET_BYTES_MAX, 2)
            if not packet:
                return
            try:
                pid = os.fork()
            except OSError as error:
                link.send(orjson.dumps({"failed": str(error)}))
            else:
                if pid == 0:
                    link.close()
                    os.close(woken)
                    os.close(wake)
                    os._exit(_live(orjson.loads(packet), *descriptors))
                try:
                    link.send(orjson.dumps({"born": pid}))
                except OSError:  # nobody is left who would ever end it
                    os.kill(pid, signal.SIGKILL)
                    return
            for descriptor in descriptors:
                os.close(descriptor)


def _ended() -> Iterator[tuple[int, int]]:
    """Children that have ended since the last look, with how."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def _live(wish: dict[str, Any], stdin: int, output: int) -> int:
    """The life of a child, from right after the fork; return its exit code."""
    from hocket.host import child

    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for source, target in (stdin, 0), (output, 1), (output, 2):
            os.dup2(source, target)
        os.closerange(min(stdin, output), max(stdin, output) + 1)
        os.environ.clear()
        os.environ.update(wish["environment"])
        Path("/proc/self/comm").write_text(wish["name"][:NAME_LENGTH_MAX])
        return child.main(wish["arguments"])
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 0
    except BaseException:  # noqa: BLE001 - around a process: whatever it is ends this child, and not the nursery's loop
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
