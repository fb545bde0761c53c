"""A server that speaks OpenAI's chat API and plays a script, in a process of its own; and what it saw.

A turn of the script is told by how many answers of its own the conversation holds. `POST /done` counts what an effect
does outside, by its key, and `GET /done/KEY` says whether that was done; `POST /looked` notes a call of a tool.
Whatever happens is a line of the log, written before anybody is answered.

    python scripted_model.py SCRIPT LOG      prints its address, ends with its standard input
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Served:
    """The server's address, and its log."""

    url: str
    log: Path

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """What it saw of one kind: `asked`, `answered`, `looked`, `done`."""
        return [line for line in self.all() if line["kind"] == kind]

    def all(self) -> list[dict[str, Any]]:
        """All that it saw, in order."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@asynccontextmanager
async def scripted(folder: Path, script: dict[str, Any]) -> AsyncIterator[Served]:
    """Serve a script for as long as the block lasts.

    `turns`: a list of replies, each a text or a list of calls `[name, arguments]`. `slow_s`: how long an answer takes.
    `cues`: instead, a list of `[texts, turns]`; the first counts whose texts all stand in the conversation.
    `faults`: for the first requests, in order, one of `ok`, `fail`, `refuse`, `rubbish`, `stall`, `cut`.
    Who wants a stream gets one; what stalls or is cut is that in its middle then.
    """
    (folder / "script.json").write_text(json.dumps(script))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, str(folder / "script.json"), str(folder / "model.log")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    try:
        async with asyncio.timeout(20):
            url = (await process.stdout.readline()).decode().strip()
        yield Served(url, folder / "model.log")
    finally:
        process.stdin.close()
        await process.wait()


def usage(number: int) -> dict[str, int]:
    """What a request has used up: tokens that tell which one they were spent on."""
    spent, made = 1000 + number, 1 + number
    return {"prompt_tokens": spent, "completion_tokens": made, "total_tokens": spent + made}


def message(reply: Any, turn: int, number: int) -> dict[str, Any]:
    """A turn's reply as a message. Calls have other ids each time, as those of models do."""
    if isinstance(reply, str):
        return {"role": "assistant", "content": reply}
    calls = [
        {
            "id": f"call-{turn}-{place}-{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for place, (name, arguments) in enumerate(reply)
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def completion(reply: Any, turn: int, number: int) -> dict[str, Any]:
    """The answer to a request."""
    finish = "stop" if isinstance(reply, str) else "tool_calls"
    choice = {"index": 0, "message": message(reply, turn, number), "finish_reason": finish}
    return {**_HEAD, "id": f"chat-{number}", "choices": [choice], "usage": usage(number)}


def chunks(reply: Any, turn: int, number: int) -> list[dict[str, Any]]:
    """The same in pieces: one word or call after the other, then why it ends there, then what was used up."""
    whole = message(reply, turn, number)
    calls = whole.get("tool_calls", [])
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": f"{word} "} for word in (whole["content"] or "").split()]
    deltas += [{"tool_calls": [{"index": place, **call}]} for place, call in enumerate(calls)]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"})
    head = {**_HEAD, "id": f"chat-{number}", "object": "chat.completion.chunk"}
    return [*({**head, "choices": [choice]} for choice in choices), {**head, "choices": [], "usage": usage(number)}]


_HEAD = {"object": "chat.completion", "created": 1_700_000_000, "model": "scripted"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: ClassVar[dict[str, Any]]
    log: ClassVar[Path]
    lock: ClassVar[Lock] = Lock()
    over: ClassVar[Event] = Event()
    requests: ClassVar[int] = 0
    done: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        key = self.path.rpartition("/")[2]
        self._send(200, {"done": key in self.done})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/done":
            with self.lock:
                self._note("done", key=body["key"], what=body["what"])
                self.done.add(body["key"])
            self._send(200, {})
        elif self.path == "/looked":
            with self.lock:
                self._note("looked", x=body["x"])
            self._send(200, {})
        else:
            self._chat(body)

    def _chat(self, body: dict[str, Any]) -> None:
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        cue, turns = self._cue(body["messages"])
        with self.lock:
            number = type(self).requests = self.requests + 1
            self._note("asked", turn=turn, number=number, **cue)
        faults = self.script.get("faults", [])
        fault = faults[number - 1] if number <= len(faults) else "ok"
        streams = bool(body.get("stream"))
        if fault in ("stall", "cut"):
            if streams:
                self._stream(chunks(turns[turn], turn, number)[:2])
            if fault == "stall":
                self.over.wait(60)
            self.close_connection = True
            return
        self.over.wait(self.script.get("slow_s", 0.0))
        if fault == "fail":
            self._send(503, {"error": {"message": "busy"}})
        elif fault == "refuse":
            self._send(400, {"error": {"message": "no"}})
        elif fault == "rubbish":
            self._send(200, {"what": "is this"})
        else:
            with self.lock:
                self._note("answered", turn=turn, number=number, tokens=usage(number)["total_tokens"], **cue)
            if streams:
                self._stream([*chunks(turns[turn], turn, number), "[DONE]"])
            else:
                self._send(200, completion(turns[turn], turn, number))

    def _cue(self, messages: list[dict[str, Any]]) -> tuple[dict[str, int], list[Any]]:
        """Which cue was given, as it is noted, and its turns."""
        if "cues" not in self.script:
            return {}, self.script["turns"]
        said = "\n".join(str(message["content"]) for message in messages)
        for place, (texts, turns) in enumerate(self.script["cues"]):
            if all(text in said for text in texts):
                return {"cue": place}, turns
        raise LookupError(f"nothing is scripted for: {said}")

    def _stream(self, pieces: list[Any]) -> None:
        try:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in pieces:
                line = f"data: {piece if isinstance(piece, str) else json.dumps(piece)}\n\n".encode()
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            if pieces[-1] == "[DONE]":
                self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()
        except OSError:
            self.close_connection = True  # who asked has been killed

    def _send(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True  # who asked has been killed

    def _note(self, kind: str, **what: Any) -> None:
        with self.log.open("a") as log:
            log.write(json.dumps({"kind": kind, **what}) + "\n")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is said of what goes well."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing is said of a connection that was lost: who had it has been killed."""


def main() -> None:
    """Serve until the standard input ends."""
    _Handler.script = json.loads(Path(sys.argv[1]).read_text())
    _Handler.log = Path(sys.argv[2])
    server = _Server(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    serving = Thread(target=server.serve_forever, daemon=True)
    serving.start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)  # noqa: T201 - how its parent learns of it
    sys.stdin.read()
    _Handler.over.set()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
