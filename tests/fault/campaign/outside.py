"""The world outside, in a process of its own: it books and cancels, once under each key, and keeps a ledger.

`python -m tests.fault.campaign.outside PORT` serves on 127.0.0.1 until its standard input ends, and writes every deed
to standard output as a line of JSON. A request is a line of JSON, and so is its answer.
"""

import asyncio
import sys
import time
from collections import Counter
from typing import Any

import orjson

JAMS = 4
"""So often the cancelling fails that is told to: longer than an agent tries."""


async def ask(port: str, given: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
    """One request and its answer. Raises OSError, or TimeoutError when there was no answer in time."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        try:
            writer.write(orjson.dumps(given) + b"\n")
            line = await reader.readline()
        finally:
            writer.close()
    if not line:
        raise ConnectionResetError("the line went dead")
    said: dict[str, Any] = orjson.loads(line)
    return said


class Ledger:
    """What stands, what was taken back, and what was refused for that."""

    def __init__(self) -> None:
        self.standing: set[str] = set()
        self.cancelled: set[str] = set()
        self.jams: Counter[tuple[str, int]] = Counter()
        self.jammed: set[str] = set()

    def act(self, given: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Do what is asked; return the answer, and whether it changed anything."""
        key, place = given["key"], (given["saga"], given["n"])
        match given["do"]:
            case "jam":
                if key not in self.jammed:
                    self.jammed.add(key)
                    self.jams[place] = JAMS
                return {}, False
            case "find":
                return {"ref": key if key in self.standing else None}, False
            case "book":
                if key in self.cancelled:
                    return {"refused": "it was cancelled before"}, False
                new = key not in self.standing
                self.standing.add(key)
                return {"ref": key}, new
            case "cancel":
                if self.jams[place] > 0:
                    self.jams[place] -= 1
                    return {"failed": "the desk is closed"}, False
                stood = key in self.standing
                self.standing.discard(key)
                self.cancelled.add(key)
                return {"ref": key}, stood
        return {"refused": "nobody does that"}, False


async def serve(port: int) -> None:
    """Serve until standard input ends."""
    ledger = Ledger()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if line := await reader.readline():
                given = orjson.loads(line)
                said, changed = ledger.act(given)
                deed = [time.time(), given["do"], given["saga"], given["n"], given["key"], changed]
                sys.stdout.buffer.write(orjson.dumps(deed) + b"\n")  # before the answer: a ledger misses nothing
                sys.stdout.buffer.flush()
                writer.write(orjson.dumps(said) + b"\n")
                await writer.drain()
        except ConnectionError:
            pass  # whoever asked was killed
        finally:
            writer.close()

    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), done.set)
    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=512)
    sys.stdout.buffer.write(orjson.dumps({"port": server.sockets[0].getsockname()[1]}) + b"\n")
    sys.stdout.buffer.flush()
    await done.wait()
    loop.remove_reader(sys.stdin.fileno())
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
