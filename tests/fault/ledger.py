"""A service of the outside world: a process with a database of its own, which counts what is really done to it.

`python ledger.py DATABASE` writes its port and serves until its standard input ends. What it stores is in the
database before it answers. It can be told to kill whoever calls next, before or after it has done what was asked.
"""

import asyncio
import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CLIENT = '''
import asyncio
import json
import os

LEDGER = int(os.environ["LEDGER"])


async def ask(do, **given):
    """Ask the ledger to do something; raises when it does not answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", LEDGER)
    try:
        body = json.dumps({**given, "pid": os.getpid()}).encode()
        writer.write(f"POST /{do} HTTP/1.0\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n".encode() + body)
        answer = await reader.read()
    finally:
        writer.close()
    if not answer.startswith(b"HTTP/1.0 200"):
        raise ConnectionError(answer[:100])
    return json.loads(answer.partition(b"\\r\\n\\r\\n")[2])
'''
"""What a service under test begins with; its process is started with LEDGER in its environment."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger as a test sees it."""

    port: int
    path: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a service needs to find it."""
        return {"LEDGER": str(self.port)}

    def calls(self) -> dict[str, int]:
        """How often each name was called."""
        return dict(self._all("SELECT name, COUNT(*) FROM calls GROUP BY name"))

    def sold(self) -> dict[str, list[str]]:
        """The tickets that were sold, by whom they were sold to."""
        sold: dict[str, list[str]] = {}
        for buyer, ticket in self._all("SELECT buyer, ticket FROM sales ORDER BY ticket"):
            sold.setdefault(buyer, []).append(f"ticket-{ticket}")
        return sold

    def strike(self, buyer: str, when: str) -> None:
        """Kill this buyer's process at its next purchase, `before` or `after` it is made."""
        with sqlite3.connect(self.path) as database:
            database.execute("INSERT INTO strikes VALUES (?, ?)", (buyer, when))
        database.close()

    def _all(self, query: str) -> list[Any]:
        database = sqlite3.connect(self.path)
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()


@asynccontextmanager
async def ledger(folder: Path) -> AsyncIterator[Ledger]:
    """A ledger in a process of its own, for as long as the block lasts."""
    path = folder / "ledger.sqlite"
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, str(path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    try:
        async with asyncio.timeout(20):
            port = int(await process.stdout.readline())
        yield Ledger(port, path)
    finally:
        process.stdin.close()
        await process.wait()


class Service:
    """What the ledger does. One request at a time."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.executescript(
            """
            PRAGMA journal_mode = WAL;
            CREATE TABLE calls (name TEXT);
            CREATE TABLE sales (ticket INTEGER PRIMARY KEY, key TEXT, buyer TEXT);
            CREATE TABLE strikes (buyer TEXT, moment TEXT);
            """
        )

    def answer(self, do: str, given: dict[str, Any]) -> Any:
        """Do one thing."""
        with self._lock:
            return {"call": self._call, "buy": self._buy, "find": self._find}[do](given)

    def _call(self, given: dict[str, Any]) -> None:
        self._database.execute("INSERT INTO calls VALUES (?)", (given["name"],))

    def _buy(self, given: dict[str, Any]) -> str:
        """Sell a ticket: with `once` the same key gets the same ticket, without it every purchase is another."""
        self._strike(given, "before")
        found = self._find(given) if given["once"] else None
        if found is None:
            bought = (given["key"], given["buyer"])
            sale = self._database.execute("INSERT INTO sales (key, buyer) VALUES (?, ?)", bought)
            found = f"ticket-{sale.lastrowid}"
        self._strike(given, "after")
        return found

    def _find(self, given: dict[str, Any]) -> str | None:
        row = self._database.execute("SELECT ticket FROM sales WHERE key = ?", (given["key"],)).fetchone()
        return f"ticket-{row[0]}" if row else None

    def _strike(self, given: dict[str, Any], moment: str) -> None:
        strike = "DELETE FROM strikes WHERE rowid = (SELECT rowid FROM strikes WHERE buyer = ? AND moment = ? LIMIT 1)"
        if self._database.execute(strike, (given["buyer"], moment)).rowcount:
            os.kill(given["pid"], signal.SIGKILL)


def main(path: str) -> None:
    """Serve until the standard input ends."""
    service = Service(path)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(service.answer(self.path[1:], given)).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Quietly."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *arguments: Any) -> None:
            """A caller that was killed does not wait for its answer."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
