"""The measuring side of every program: so many sagas at once, each timed, and the figures told as lines of JSON.

A program is a script that is told its settings as JSON in its first argument. It says when it is ready, and answers
each line of its input, `{"in_flight": 50, "seconds": 5}`, with what it measured, until its input ends. Nothing must
be there but Python's own modules, since it runs in every environment.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.metadata import version
from itertools import count
from time import perf_counter
from typing import Any, TypeVar

HOPS = 4
SAGA_S = 120.0
"""How long a saga, or what is still under way at the end, may take."""

READY_S = 60.0

SETTINGS: dict[str, str] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
"""What this program was told."""

_OUT = os.fdopen(os.dup(1), "w", buffering=1)
"""For the figures alone: what a library prints goes to standard error."""

T = TypeVar("T")

Saga = Callable[[int], Awaitable[None]]
"""Runs the saga of that number to its end. It raises when a step is missing."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a program on the loop that hocket takes where it can, uvloop's."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


async def serve(saga: Saga, *packages: str, told: dict[str, str] | None = None) -> None:
    """Say that we are ready, with the versions of these packages, and measure as often as we are asked to."""
    _quiet_output()
    versions = {package: version(package) for package in packages} | (told or {})
    tell({"versions": versions})
    numbers = count()
    async for line in _lines():
        order = json.loads(line)
        tell(await _measured(saga, numbers, order["in_flight"], order["seconds"]))


async def _measured(saga: Saga, numbers: Any, in_flight: int, seconds: float) -> dict[str, Any]:
    """Keep so many sagas in flight until the time is over, and wait for those that have begun."""
    latencies: list[float] = []
    began_s = perf_counter()

    async def lane() -> None:
        while perf_counter() - began_s < seconds:
            from_s = perf_counter()
            await asyncio.wait_for(saga(next(numbers)), SAGA_S)
            latencies.append(perf_counter() - from_s)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(lane())
    took_s = perf_counter() - began_s
    return {
        "took_s": took_s,
        "sagas": len(latencies),
        "p50_s": _quantile(latencies, 0.5),
        "p99_s": _quantile(latencies, 0.99),
    }


def _quantile(values: list[float], share: float) -> float:
    """The value below which `share` of the values lie; the nearest rank."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def tell(value: Any) -> None:
    """One line for whoever started us."""
    print(json.dumps(value), file=_OUT, flush=True)


async def until_closed() -> None:
    """A worker's side: say that it is ready, and wait until whoever started us closes our input."""
    _quiet_output()
    tell({"ready": True})
    async for _ in _lines():
        pass


@asynccontextmanager
async def worker(**settings: str) -> AsyncIterator[None]:
    """The same program in a second process, as the worker, for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        sys.argv[0],
        json.dumps(SETTINGS | {"role": "worker"} | settings),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not await asyncio.wait_for(process.stdout.readline(), READY_S):
            raise RuntimeError("the worker ended before it was ready; what it printed is above")
        yield
    finally:
        process.stdin.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), 5)
        if process.returncode is None:
            process.kill()
            await process.wait()


def _quiet_output() -> None:
    os.dup2(2, 1)


async def _lines() -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while line := await reader.readline():
            yield line
    finally:
        transport.close()
