"""A file for the systems that keep their steps in SQLite; the library's own process writes it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hocket.bench.compare.system import Place, Started

ON_DISK = "SQLite: WAL, synchronous FULL"


@asynccontextmanager
async def started(place: Place) -> AsyncIterator[Started]:
    """Name the file."""
    yield Started({"sqlite": str(place.data / "saga.sqlite")})
