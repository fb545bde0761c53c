"""The outside world as a test sees it: the one of the trip example, in a process of its own.

What it stores is in its database before it answers. It can be told to kill whoever calls next, before or after it has
done what was asked.
"""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTSIDE = Path(__file__).parents[2] / "examples" / "trip" / "outside.py"

CLIENT = f"""
import sys

sys.path.append({str(OUTSIDE.parent)!r})
import desks


async def call(name):
    await desks.ask("POST", "/names/book", {{"key": name, "once": False}})


async def purchase(*, key, buyer, once):
    return (await desks.ask("POST", "/tickets/book", {{"key": key, "saga": buyer, "once": once}}))["ref"]


async def purchased(key):
    booking = await desks.find("tickets", key)
    return booking.ref if booking else None
"""
"""What a service under test begins with; its process is started with the ledger's environment.

It can be counted under a name, buy a ticket (with `once` the same key gets the same ticket, without it every purchase
is another), and find the ticket that was bought under a key.
"""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was really done to the outside world."""

    url: str
    path: Path
    pid: int

    @property
    def environment(self) -> dict[str, str]:
        """What a service needs to find it."""
        return {"TRIP_OUTSIDE": self.url}

    def calls(self) -> dict[str, int]:
        """How often each name was called."""
        return dict(self._all("SELECT key, COUNT(*) FROM entries WHERE desk = 'names' GROUP BY key"))

    def sold(self) -> dict[str, list[str]]:
        """The tickets that were sold, by whom they were sold to."""
        sold: dict[str, list[str]] = {}
        for buyer, ticket in self._all("SELECT saga, ref FROM entries WHERE desk = 'tickets' ORDER BY rowid"):
            sold.setdefault(buyer, []).append(ticket)
        return sold

    def strike(self, buyer: str, when: str) -> None:
        """Kill this buyer's process at its next purchase, `before` or `after` it is made."""
        fault = "INSERT INTO faults (desk, does, saga, how, times, after) VALUES ('tickets', 'book', ?, 'kill', 1, ?)"
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute(fault, (buyer, when == "after"))

    def _all(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as database:
            return database.execute(query).fetchall()


@asynccontextmanager
async def ledger(folder: Path) -> AsyncIterator[Ledger]:
    """The outside world, in a process of its own for as long as the block lasts; what it stored stays in the folder."""
    path = folder / "outside.sqlite"
    options = ("--port", "0", "--until-eof", "--may-kill")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(OUTSIDE), str(path), *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    try:
        async with asyncio.timeout(20):
            url = (await process.stdout.readline()).decode().strip()
        yield Ledger(url, path, process.pid)
    finally:
        process.stdin.close()
        await process.wait()
