"""A server that speaks OpenAI's chat API and plays a script, in a process of its own; and what it saw.

A turn of the script is told by how many answers of its own the conversation holds. `POST /done` counts what an effect
does outside, by its key, and `GET /done/KEY` says whether that was done. Whatever happens is a line of the log, written
before anybody is answered.

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
        """What it saw of one kind: `asked`, `answered`, `done`."""
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["kind"] == kind]


@asynccontextmanager
async def scripted(folder: Path, script: dict[str, Any]) -> AsyncIterator[Served]:
    """Serve a script for as long as the block lasts.

    `turns`: a list of replies, each a text or a list of calls `[name, arguments]`. `slow_s`: how long an answer takes.
    `cues`: instead, a list of `[texts, turns]`; the first counts whose texts all stand in the conversation.
    `faults`: for the first requests, in order, one of `ok`, `fail`, `refuse`, `rubbish`, `stall`, `cut`.
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
        if fault == "stall":
            self.over.wait(60)
            return
        if fault == "cut":
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
            self._answer(turns[turn], turn, number, cue)

    def _cue(self, messages: list[dict[str, Any]]) -> tuple[dict[str, int], list[Any]]:
        """Which cue was given, as it is noted, and its turns."""
        if "cues" not in self.script:
            return {}, self.script["turns"]
        said = "\n".join(str(message["content"]) for message in messages)
        for place, (texts, turns) in enumerate(self.script["cues"]):
            if all(text in said for text in texts):
                return {"cue": place}, turns
        raise LookupError(f"nothing is scripted for: {said}")

    def _answer(self, reply: Any, turn: int, number: int, cue: dict[str, int]) -> None:
        message: dict[str, Any] = {"role": "assistant", "content": reply if isinstance(reply, str) else None}
        if not isinstance(reply, str):
            message["tool_calls"] = [
                {
                    "id": f"call-{turn}-{place}",
                    "type": "function",
                    "function": {"name": name, "arguments": json.dumps(arguments)},
                }
                for place, (name, arguments) in enumerate(reply)
            ]
        # Tokens that tell which request they were spent on.
        spent, made = 1000 + number, 1 + number
        with self.lock:
            self._note("answered", turn=turn, number=number, tokens=spent + made, **cue)
        finish = "stop" if isinstance(reply, str) else "tool_calls"
        self._send(
            200,
            {
                "id": f"chat-{number}",
                "object": "chat.completion",
                "created": 1_700_000_000,
                "model": "scripted",
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                "usage": {"prompt_tokens": spent, "completion_tokens": made, "total_tokens": spent + made},
            },
        )

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


def main() -> None:
    """Serve until the standard input ends."""
    _Handler.script = json.loads(Path(sys.argv[1]).read_text())
    _Handler.log = Path(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
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
