"""A server that speaks MCP on its standard input and output, and notes what is asked of it.

python scripted_mcp.py LOG
"""

import json
import sys
from pathlib import Path
from typing import Any

VERSION = "2025-06-18"

LOOK = {
    "name": "look",
    "description": "Look at a number.",
    "inputSchema": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
}


def answer(method: str, given: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a request; None: there is no such method."""
    match method:
        case "initialize":
            server = {"name": "eyes", "version": "1"}
            capabilities = {"tools": {}}
            return {
                "protocolVersion": VERSION,
                "capabilities": capabilities,
                "serverInfo": server,
                "instructions": "Look twice.",
            }
        case "tools/list":
            return {"tools": [LOOK]}
        case "tools/call":
            x = given["arguments"]["x"]
            failed = x == 0
            said = "not zero" if failed else f"seen {x}"
            return {"content": [{"type": "text", "text": said}], "isError": failed}
        case "ping":
            return {}
        case _:
            return None


def main() -> None:
    """Answer until the input ends."""
    log = Path(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        with log.open("a") as lines:
            lines.write(json.dumps(request) + "\n")
        if "id" not in request:
            continue
        result = answer(request["method"], request.get("params") or {})
        body = {"result": result} if result is not None else {"error": {"code": -32601, "message": "no such method"}}
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], **body}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
