"""The agents' processes: two for each agent, each with a network of its own; what falls is started again at once."""

import asyncio
import os
import random
import shutil
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from tests.fault.campaign.agents import AGENTS, manifest
from tests.fault.proxy import Proxy, proxied

from hocket.host.launch import launch
from hocket.host.nursery import Nursery, Nursling
from hocket.saga.record import COORDINATOR

ROOT = Path(__file__).parents[3]
SCHEMAS = "tests.fault.campaign.events"
NAMES = (*AGENTS, COORDINATOR)
INSTANCES = ("a", "b")
STOP_S = 12.0
LINE_BYTES_MAX = 1 << 22

SET = """import pathlib, time

_true, _off_s = time.time, float(pathlib.Path(__file__).with_name("clock").read_text())
time.time = lambda: _true() + _off_s

"""
"""Before a service's own code: its process sees the clock of a machine that is set wrong by so many seconds."""

CODE = """import sys

sys.path[:0] = {paths}
from tests.fault.campaign.agents import {name}

__all__ = ["{name}"]
"""


class Worker:
    """One instance of an agent, whichever process it is in."""

    def __init__(self, agent: str, instance: str, folder: Path, proxy: Proxy) -> None:
        self.agent = agent
        self.name = f"{agent}-{instance}"
        self.folder = folder
        self.proxy = proxy
        self.process: Process | Nursling | None = None
        self.starts = 0

    def set_clock(self, off_s: float) -> None:
        """Have its machine's clock set, for the next process on."""
        (self.folder / "clock").write_text(str(off_s))

    def signal(self, number: signal.Signals) -> bool:
        """Send it a signal; False: nobody was there."""
        process = self.process
        if process is None or process.returncode is not None:
            return False
        with suppress(ProcessLookupError):
            process.send_signal(number)
            return True
        return False


class Crew:
    """All workers, for as long as the block lasts."""

    def __init__(self, url: str, domain: str, folder: Path, seed: int, environment: Mapping[str, str]) -> None:
        self.workers: dict[str, Worker] = {}
        self.output = folder / "workers.log"
        self._url, self._domain, self._folder, self._seed = url, domain, folder, seed
        self._environment = {**os.environ, **environment, "HOCKET_SCHEMAS": SCHEMAS, "HOCKET_DOMAIN": domain}
        self._stack = AsyncExitStack()
        self._leaving = False
        self._keeping: list[asyncio.Task[None]] = []

    def of(self, agent: str) -> list[Worker]:
        """The instances of an agent."""
        return [worker for worker in self.workers.values() if worker.agent == agent]

    async def __aenter__(self) -> Self:
        """Start them."""
        nursery = await self._stack.enter_async_context(Nursery())
        tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        for agent in NAMES:
            for instance in INSTANCES:
                proxy = await self._stack.enter_async_context(proxied(self._url, seed=self._seed))
                worker = Worker(agent, instance, service(self._folder, agent, instance), proxy)
                self.workers[worker.name] = worker
                self._keeping.append(tasks.create_task(self._keep(worker, nursery)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop them in good order, and kill whom that takes too long."""
        self._leaving = True
        for worker in self.workers.values():
            worker.signal(signal.SIGTERM)
            worker.signal(signal.SIGCONT)
        if self._keeping:
            _, late = await asyncio.wait(self._keeping, timeout=STOP_S)
            for worker in self.workers.values():
                worker.signal(signal.SIGKILL)
            if late:
                await asyncio.wait(late, timeout=STOP_S)
        await self._stack.aclose()

    async def _keep(self, worker: Worker, nursery: Nursery) -> None:
        environment = {**self._environment, "HOCKET_NATS": worker.proxy.url}
        arguments = ["--leashed", "--instance", worker.name, str(worker.folder)]
        while not self._leaving:
            process, line, printed = await launch(
                worker.name, arguments, environment, output=self.output, nursery=nursery, heard=lambda said: None
            )
            worker.process = process
            worker.starts += 1
            try:
                code = await process.wait()
            finally:
                line.close()
            printed.drain()
            printed.close()
            if code > 0:
                await asyncio.sleep(1.0)  # it was refused, and says why in its output


def service(folder: Path, agent: str, instance: str) -> Path:
    """A service's folder."""
    made = folder / f"{agent}-{instance}"
    if agent == COORDINATOR:
        shutil.copytree(ROOT / "services" / COORDINATOR, made, ignore=shutil.ignore_patterns("test_*", "__pycache__"))
        code = (made / "agent.py").read_text()
    else:
        made.mkdir(parents=True)
        paths = [str(ROOT), str(ROOT / "bus"), str(ROOT / "schemas")]
        code = CODE.format(paths=paths, name=agent)
        (made / "agent.toml").write_text(manifest(agent))
    (made / "clock").write_text("0")
    (made / "agent.py").write_text(SET + code)
    return made


class Beside:
    """A process of the campaign's own that tells what it sees, a line of JSON at a time."""

    def __init__(self, module: str, *arguments: str, tell: Callable[[Any], None]) -> None:
        self.process: Process | None = None
        self._arguments = (sys.executable, "-m", f"tests.fault.campaign.{module}", *arguments)
        self._tell = tell
        self._reading: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self.process is None or self.process.returncode is not None

    async def start(self, tasks: asyncio.TaskGroup) -> dict[str, Any]:
        """Start it."""
        self.process = await asyncio.create_subprocess_exec(
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "HOCKET_SCHEMAS": SCHEMAS},
            limit=LINE_BYTES_MAX,
            start_new_session=True,
        )
        assert self.process.stdout
        said: dict[str, Any] = {}
        if "outside" in self._arguments[2]:
            said = orjson.loads(await self.process.stdout.readline())
        self._reading = tasks.create_task(self._read(self.process.stdout))
        return said

    async def _read(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            self._tell(orjson.loads(line))

    def say(self, text: str) -> None:
        """Tell it something."""
        assert self.process
        assert self.process.stdin
        self.process.stdin.write(f"{text}\n".encode())

    async def stop(self) -> None:
        """Let it end, and hear it out."""
        if self.process is None or self.process.stdin is None:
            return
        self.process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await self.process.wait()
                if self._reading:
                    await self._reading
        except TimeoutError:
            self.process.kill()


def chosen(workers: list[Worker], rng: random.Random) -> Worker:
    """One of them."""
    return workers[rng.randrange(len(workers))]
