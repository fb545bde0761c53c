"""Keeps a number of sagas in flight and measures each of them."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Self

Say = Callable[[str], None]
"""Tells whoever waits what happens."""

ANSWER_S = 60.0
"""How long a saga, or a question to the worker process, may take."""

AWAITED_AT_ONCE = 1000
"""How many publishes are under way."""

TEXT = "The quick onyx goblin jumps over the lazy dwarf. " * 3
"""Payload that brings an event to about 300 bytes of data and attributes."""


async def keep_in_flight(
    start: Callable[[int], Awaitable[None]], arrived: dict[int, asyncio.Event], *, first: int, sagas: int, at_once: int
) -> tuple[list[float], float]:
    """Run sagas `first` to `first + sagas`, `at_once` of them at a time; return latencies and the whole, in seconds."""
    latencies: list[float] = []
    numbers = iter(range(first, first + sagas))

    async def lane() -> None:
        for number in numbers:
            arrived[number] = asyncio.Event()
            began_s = perf_counter()
            await start(number)
            await arrived[number].wait()
            latencies.append(perf_counter() - began_s)
            del arrived[number]

    began_s = perf_counter()
    async with asyncio.timeout(ANSWER_S + sagas / 20), asyncio.TaskGroup() as tasks:
        for _ in range(min(at_once, sagas)):
            tasks.create_task(lane())
    return latencies, perf_counter() - began_s


async def all_of(coroutines: Iterable[Awaitable[Any]]) -> None:
    """Await them, a bounded number at once."""
    waiting = iter(coroutines)

    async def lane() -> None:
        for coroutine in waiting:
            await coroutine

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AWAITED_AT_ONCE):
            tasks.create_task(lane())


@dataclass(slots=True)
class WorkerProcess:
    """The process that is measured: it says when it is ready, and tells its costs when asked."""

    module: str
    arguments: list[str]
    process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def _start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self.module,
            *self.arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        await self.ask()

    async def restart(self) -> None:
        """Kill it as a power cut would, and wait until a new one is ready."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()
        await self._start()

    async def __aexit__(self, *error: Any) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(ANSWER_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def ask(self) -> dict[str, float]:
        """Its costs so far; the first answer says that it is ready."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"costs\n")
        async with asyncio.timeout(ANSWER_S):
            line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.module} ended before it answered; what it printed is above")
        costs: dict[str, float] = json.loads(line)
        return costs


async def answer(costs: Callable[[], dict[str, float]]) -> None:
    """The worker's side: answer each line with the costs so far, until the asker closes."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while await reader.readline():
            print(json.dumps(costs()), flush=True)  # noqa: T201 - the protocol between the two processes
    finally:
        transport.close()


def own_costs() -> dict[str, float]:
    """CPU seconds of this process so far; its resident memory at most, and now (where Linux tells), in MiB."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    most = usage.ru_maxrss / 1024
    statm = Path("/proc/self/statm")
    now = int(statm.read_text().split()[1]) * resource.getpagesize() / (1 << 20) if statm.exists() else most
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "rss_mib": most, "rss_now_mib": now}
