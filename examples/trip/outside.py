"""The outside world of a trip: desks that book flights, hotels and payments over HTTP, and what went over them.

`python examples/trip/outside.py trip.sqlite` serves on 127.0.0.1:8471 and keeps all in that file, so it may be killed
and started again. It knows nothing of agents, and needs nothing but Python.

    POST /{desk}/book    {"key": …, "saga": …, "cents": …, "details": {…}}   once for each key
    POST /{desk}/cancel  {"key": …}   once; a booking under the key that comes later is refused
    POST /{desk}/find    {"key": …}   404: nothing was ever booked or cancelled under it
    GET  /ledger?saga=S  what each saga booked and cancelled, what stands, and what it comes to
    GET  /calls?desk=D&since_s=T      every call with what came of it
    POST /admin/faults   {"desk": "hotels", "does": "book", "how": "late", "delay_s": 3, "times": 2}, see `Fault`
    GET  /admin/faults   what goes wrong, and with how many more calls
    DELETE /admin/faults everything is repaired

A desk is any name: `flights`, `hotels`, `payments`. With `"once": false` a desk books again for each call.
"""

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

PORT = 8471
HANG_S = 3600.0
"""How long a request hangs that is never answered, unless its caller gives up first."""

REQUEST_S = 10.0
"""How long a caller may take to say what it wants."""

BODY_BYTES_MAX = 65536

DID = {"book": "booked", "cancel": "cancelled"}
HOW = ("fail", "refuse", "hang", "late", "kill")

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS bookings (
    number INTEGER PRIMARY KEY, desk TEXT, key TEXT, saga TEXT, cents INTEGER, details TEXT, state TEXT);
CREATE INDEX IF NOT EXISTS by_key ON bookings (desk, key);
CREATE TABLE IF NOT EXISTS entries (at REAL, desk TEXT, did TEXT, key TEXT, saga TEXT, ref TEXT, cents INTEGER);
CREATE INDEX IF NOT EXISTS by_saga ON entries (saga);
CREATE TABLE IF NOT EXISTS calls (at REAL, desk TEXT, does TEXT, key TEXT, saga TEXT, outcome TEXT);
CREATE TABLE IF NOT EXISTS faults (
    id INTEGER PRIMARY KEY, desk TEXT, does TEXT, saga TEXT, key TEXT, how TEXT, times INTEGER, after INTEGER,
    delay_s REAL, say TEXT);
"""


class Fault(NamedTuple):
    """What goes wrong with the calls that it fits."""

    desk: str | None = None
    does: str | None = None
    """`book`, `cancel` or `find`. None here, as in the other conditions: any."""

    saga: str | None = None
    key: str | None = None
    how: str = "fail"
    """`fail`: 503. `refuse`: 409, for good. `hang`: no answer. `late`: after `delay_s`. `kill`: the caller dies."""

    times: int | None = None
    """With how many calls; None: until it is repaired."""

    after: bool = False
    """Whether the work is done before it goes wrong. Otherwise nothing is done, or, if late, only then."""

    delay_s: float = 1.0
    say: str = ""


class Answer(NamedTuple):
    """What a caller gets."""

    status: int
    body: Any
    retry_after_s: float | None = None


class Wrong(Exception):
    """A request that means nothing; the text is for whoever wrote it."""


class Books:
    """All bookings, and the ledger of what was ever done. Each call is one transaction."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, timeout=10)
        self._database.row_factory = sqlite3.Row
        self._database.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def do(self, desk: str, does: str, given: dict[str, Any]) -> Answer:
        """Book, cancel or find by key."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            return {"book": self._book, "cancel": self._cancel, "find": self._find}[does](desk, given)

    def _book(self, desk: str, given: dict[str, Any]) -> Answer:
        """Book once under a key. A key that was cancelled, even before it was booked, is never booked again."""
        known = self._under(desk, given["key"])
        if any(row["state"] == "cancelled" for row in known):
            return Answer(409, {"error": "it was cancelled before"})
        if known and given.get("once", True):
            return Answer(200, _shown(known[0]))
        return Answer(200, self._entered(desk, given, "booked", given.get("cents", 0)))

    def _cancel(self, desk: str, given: dict[str, Any]) -> Answer:
        """Cancel what is booked under a key, once; what comes too late for that is refused when it comes."""
        known = self._under(desk, given["key"])
        if not known:
            self._entered(desk, given, "cancelled", 0)
        for row in known:
            if row["state"] == "booked":
                self._database.execute("UPDATE bookings SET state = 'cancelled' WHERE number = ?", (row["number"],))
                self._note(desk, "cancelled", row["key"], row["saga"], _ref(row), -row["cents"])
        [first, *_] = self._under(desk, given["key"])
        return Answer(200, _shown(first))

    def _find(self, desk: str, given: dict[str, Any]) -> Answer:
        known = self._under(desk, given["key"])
        return Answer(200, _shown(known[0])) if known else Answer(404, {"error": "nothing is booked under this key"})

    def _under(self, desk: str, key: str) -> list[sqlite3.Row]:
        found = self._database.execute("SELECT * FROM bookings WHERE desk = ? AND key = ? ORDER BY number", (desk, key))
        return found.fetchall()

    def _entered(self, desk: str, given: dict[str, Any], state: str, cents: int) -> dict[str, Any]:
        row = (desk, given["key"], given.get("saga", ""), cents, json.dumps(given.get("details", {})), state)
        number = self._database.execute(
            "INSERT INTO bookings (desk, key, saga, cents, details, state) VALUES (?, ?, ?, ?, ?, ?)", row
        ).lastrowid
        [entered] = self._database.execute("SELECT * FROM bookings WHERE number = ?", (number,)).fetchall()
        if state == "booked":
            self._note(desk, "booked", entered["key"], entered["saga"], _ref(entered), cents)
        return _shown(entered)

    def _note(self, desk: str, did: str, key: str, saga: str, ref: str, cents: int) -> None:
        entry = (time.time(), desk, did, key, saga, ref, cents)
        self._database.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", entry)

    def ledger(self, saga: str | None) -> dict[str, Any]:
        """What each saga booked and cancelled, and what that comes to."""
        rows = self._database.execute("SELECT * FROM entries WHERE ? IS NULL OR saga = ? ORDER BY rowid", (saga, saga))
        sagas: dict[str, dict[str, Any]] = {}
        entries = []
        for row in rows:
            entry = dict(row)
            entries.append(entry)
            of = sagas.setdefault(row["saga"], {"booked": 0, "cancelled": 0, "net_cents": 0, "open": {}})
            of[row["did"]] += 1
            of["net_cents"] += row["cents"]
            standing = of["open"].setdefault(row["desk"], [])
            if row["did"] == "booked":
                standing.append(row["ref"])
            else:
                standing.remove(row["ref"])
        for of in sagas.values():
            of["open"] = {desk: refs for desk, refs in of["open"].items() if refs}
        total = {"net_cents": sum(of["net_cents"] for of in sagas.values()), "sagas": sagas}
        return total if saga is None else {**total, "entries": entries}

    def calls(self, desk: str | None, since_s: float) -> list[dict[str, Any]]:
        """Every call since a moment, with what came of it."""
        query = "SELECT * FROM calls WHERE at >= ? AND (? IS NULL OR desk = ?) ORDER BY rowid"
        return [dict(row) for row in self._database.execute(query, (since_s, desk, desk))]

    def called(self, desk: str, does: str, given: dict[str, Any], outcome: str) -> None:
        """Note a call, whatever came of it."""
        call = (time.time(), desk, does, given["key"], given.get("saga", ""), outcome)
        self._database.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?)", call)

    def arm(self, fault: Fault) -> int:
        """Let something go wrong from now on; return the fault's number."""
        return (
            self._database.execute(
                f"INSERT INTO faults ({', '.join(Fault._fields)}) VALUES ({', '.join('?' for _ in fault)})", fault
            ).lastrowid
            or 0
        )

    def armed(self) -> list[dict[str, Any]]:
        """What goes wrong."""
        return [dict(row) for row in self._database.execute("SELECT * FROM faults ORDER BY id")]

    def repair(self) -> None:
        """Let nothing go wrong any more."""
        self._database.execute("DELETE FROM faults")

    def fault_of(self, desk: str, does: str, given: dict[str, Any]) -> Fault | None:
        """What goes wrong with a call: the oldest fault that fits. It is used up by this."""
        query = """SELECT * FROM faults WHERE (desk IS NULL OR desk = ?) AND (does IS NULL OR does = ?)
            AND (saga IS NULL OR saga = ?) AND (key IS NULL OR key = ?) ORDER BY id LIMIT 1"""
        row = self._database.execute(query, (desk, does, given.get("saga", ""), given["key"])).fetchone()
        if row is None:
            return None
        if row["times"] is not None:
            self._database.execute("UPDATE faults SET times = times - 1 WHERE id = ?", (row["id"],))
            self._database.execute("DELETE FROM faults WHERE times <= 0")
        return Fault(**{name: row[name] for name in Fault._fields})


class Outside:
    """The service: what is asked of it, what goes wrong with that, what it answers."""

    def __init__(self, books: Books, *, may_kill: bool = False) -> None:
        self._books = books
        self._may_kill = may_kill
        self._on_their_way: dict[tuple[str, str], float] = {}
        """What was asked for and is not done yet, by desk and key, and when it will be."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and hang up."""
        try:
            async with asyncio.timeout(REQUEST_S):
                method, path, headers, body = await _request(reader)
            answer = await self._answer(method, path, headers, body, reader)
            writer.write(_response(answer))
            async with asyncio.timeout(REQUEST_S):
                await writer.drain()
        except Wrong as error:
            writer.write(_response(Answer(400, {"error": str(error)})))
        except (OSError, TimeoutError, EOFError):
            pass  # whoever asked does not wait for the answer
        finally:
            writer.close()

    async def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes, reader: asyncio.StreamReader
    ) -> Answer:
        url = urlsplit(path)
        query = dict(parse_qsl(url.query))
        match method, url.path.strip("/").split("/"):
            case "GET", ["ledger"]:
                return Answer(200, self._books.ledger(query.get("saga")))
            case "GET", ["calls"]:
                return Answer(200, self._books.calls(query.get("desk"), _number(query.get("since_s", 0))))
            case "GET", ["admin", "faults"]:
                return Answer(200, self._books.armed())
            case "POST", ["admin", "faults"]:
                return Answer(201, {"id": self._books.arm(self._fault(_fields(body)))})
            case "DELETE", ["admin", "faults"]:
                self._books.repair()
                return Answer(200, {})
            case "POST", [desk, ("book" | "cancel" | "find") as does] if desk.isalnum():
                return await self._done(desk, does, _call(_fields(body)), headers, reader)
        return Answer(404, {"error": f"nothing is served at {method} {url.path}"})

    async def _done(
        self, desk: str, does: str, given: dict[str, Any], headers: dict[str, str], reader: asyncio.StreamReader
    ) -> Answer:
        """Do what is asked, unless something is told to go wrong with it: before it is done, or after."""
        fault = self._books.fault_of(desk, does, given)
        self._books.called(desk, does, given, fault.how if fault else "done")
        if fault is None:
            left_s = self._on_their_way.get((desk, given["key"]), 0.0) - time.time()
            if does == "find" and left_s > 0:
                return Answer(503, {"error": "it is being booked"}, retry_after_s=left_s)  # so nobody can say no yet
            return self._books.do(desk, does, given)
        answer = self._books.do(desk, does, given) if fault.after else None
        match fault.how:
            case "fail":
                return Answer(503, {"error": fault.say or "out of order"}, retry_after_s=fault.delay_s)
            case "refuse":
                return Answer(409, {"error": fault.say or "none left"})
            case "hang":
                with suppress(TimeoutError):
                    async with asyncio.timeout(HANG_S):
                        await reader.read()  # ends when the caller hangs up
                raise EOFError
            case "kill":
                pid = headers.get("caller-pid", "")
                if not pid.isdecimal() or int(pid) < 2:
                    raise Wrong("the caller does not say who it is: header Caller-Pid")
                os.kill(int(pid), signal.SIGKILL)
                raise EOFError
            case _:
                if answer is None and does == "book":
                    self._on_their_way[desk, given["key"]] = time.time() + fault.delay_s
                await asyncio.sleep(fault.delay_s)
                self._on_their_way.pop((desk, given["key"]), None)
                return answer or self._books.do(desk, does, given)

    def _fault(self, given: dict[str, Any]) -> Fault:
        try:
            fault = Fault(**given)
        except TypeError as error:
            raise Wrong(f"that is no fault: {error}; it may have {', '.join(Fault._fields)}") from None
        for name in ("desk", "does", "saga", "key", "say"):
            if not isinstance(getattr(fault, name), str | None):
                raise Wrong(f"{name} wants to be a text")
        if fault.how not in HOW:
            raise Wrong(f"how is {fault.how!r}, wants one of {', '.join(HOW)}")
        if fault.how == "kill" and not self._may_kill:
            raise Wrong("it was not started with --may-kill")
        if not (fault.times is None or (type(fault.times) is int and fault.times > 0)):
            raise Wrong(f"times is {fault.times!r}, wants a number from 1 on, or null")
        return fault._replace(delay_s=_number(fault.delay_s), after=bool(fault.after))


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes]:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", "0"))
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise EOFError from None
        raise Wrong("the request ends in its middle") from None
    except (ValueError, asyncio.LimitOverrunError):
        raise Wrong("that is no HTTP request") from None
    if not 0 <= length <= BODY_BYTES_MAX:
        raise Wrong(f"the body has {length} bytes, at most {BODY_BYTES_MAX} go")
    return method, path, headers, await reader.readexactly(length)


def _response(answer: Answer) -> bytes:
    body = json.dumps(answer.body).encode()
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if answer.retry_after_s is not None:
        lines.append(f"Retry-After: {answer.retry_after_s:g}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise Wrong(f"the body is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Wrong("the body wants to be a JSON object")
    return fields


def _call(given: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(given.get("key"), str) or not given["key"]:
        raise Wrong("key wants to be a text that is not empty")
    if not isinstance(given.get("saga", ""), str):
        raise Wrong("saga wants to be a text")
    if type(given.get("cents", 0)) is not int or given.get("cents", 0) < 0:
        raise Wrong("cents wants to be a whole number from 0 on")
    return given


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Wrong(f"{value!r} is no number") from None


def _ref(row: sqlite3.Row) -> str:
    return f"{row['desk'][:2].upper()}-{row['number']}"


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    details = json.loads(row["details"])
    return {"ref": _ref(row), "key": row["key"], "state": row["state"], "cents": row["cents"], "details": details}


async def _serve(path: Path, port: int, *, may_kill: bool, until: Callable[[asyncio.Event], None]) -> None:
    over = asyncio.Event()
    books = Books(path)
    try:
        server = await asyncio.start_server(Outside(books, may_kill=may_kill).serve, "127.0.0.1", port)
        sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        until(over)
        await over.wait()
        server.close()
    finally:
        books.close()


def _at_signal(over: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)


def _at_end_of_input(over: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def listen() -> None:
        sys.stdin.read()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(over.set)

    _at_signal(over)
    threading.Thread(target=listen, daemon=True).start()


def main() -> None:
    """Serve until asked to stop."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("database", type=Path, help="the file that keeps all of it")
    parser.add_argument("--port", type=int, default=PORT, help=f"0: any that is free; otherwise {PORT}")
    parser.add_argument("--until-eof", action="store_true", help="stop when the standard input ends")
    parser.add_argument("--may-kill", action="store_true", help="may be told to kill whoever calls, for trials")
    given = parser.parse_args()
    until = _at_end_of_input if given.until_eof else _at_signal
    asyncio.run(_serve(given.database, given.port, may_kill=given.may_kill, until=until))


if __name__ == "__main__":
    main()
