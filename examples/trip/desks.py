"""The desks of the outside world as agents call them: book, cancel and find, each with a deadline.

```python
booking = await book("flights", key, saga=ctx.saga, cents=19_900, details={"route": "MUC-OSL"})
```

`TRIP_OUTSIDE` says where they are, otherwise http://127.0.0.1:8471. Of all that is raised only `Refused` says that
nothing was done; after anything else ask `find`, or call again with the same key.
"""

import asyncio
import json
import os
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 1 << 24


@dataclass(frozen=True, slots=True)
class Booking:
    """What a desk has in its books under a key."""

    ref: str
    key: str
    state: str
    """`booked` or `cancelled`."""

    cents: int = 0
    details: dict[str, Any] = field(default_factory=dict)


class Refused(Exception):
    """The desk will not do it, now or later, and has done nothing."""


class OutOfOrder(ConnectionError):
    """The desk failed: perhaps before it did what was asked, perhaps after. Asking again later may help."""

    def __init__(self, says: str, retry_after_s: float = 0.0) -> None:
        super().__init__(says)
        self.retry_after_s = retry_after_s
        """How long it asks to be left alone, in seconds."""


async def book(
    desk: str,
    key: str,
    *,
    saga: str = "",
    cents: int = 0,
    details: dict[str, Any] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Booking:
    """Book once under a key; called again it returns the same booking. Raises Refused, OutOfOrder, TimeoutError."""
    given = {"key": key, "saga": saga, "cents": cents, "details": details or {}}
    return Booking(**await ask("POST", f"/{desk}/book", given, timeout_s=timeout_s))


async def cancel(desk: str, key: str, *, saga: str = "", timeout_s: float = TIMEOUT_S) -> Booking:
    """Cancel what is booked under a key, once. A booking under it that is still on its way is refused when it comes."""
    return Booking(**await ask("POST", f"/{desk}/cancel", {"key": key, "saga": saga}, timeout_s=timeout_s))


async def find(desk: str, key: str, *, timeout_s: float = TIMEOUT_S) -> Booking | None:
    """What is booked under a key; None: nothing, or no longer."""
    found = await ask("POST", f"/{desk}/find", {"key": key}, timeout_s=timeout_s)
    booking = Booking(**found) if found else None
    return booking if booking and booking.state == "booked" else None


async def ask(method: str, path: str, given: Any = None, *, timeout_s: float = TIMEOUT_S) -> Any:
    """One request to the outside, and its answer's JSON; None when it knows nothing of what was asked for.

    Raises Refused, OutOfOrder, and TimeoutError when there was no answer in `timeout_s`.
    """
    url = urlsplit(os.environ.get("TRIP_OUTSIDE", "http://127.0.0.1:8471"))
    body = b"" if given is None else json.dumps(given).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: {url.netloc}\r\nCaller-Pid: {os.getpid()}\r\nContent-Length: {len(body)}"
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=ANSWER_BYTES_MAX)
        try:
            writer.write(f"{head}\r\n\r\n".encode() + body)
            answer = await reader.read()
        finally:
            writer.close()
    lines, _, text = answer.partition(b"\r\n\r\n")
    first, *headers = lines.decode("latin-1").split("\r\n")
    status = first.split(" ")[1] if first.startswith("HTTP/1.") else ""
    said = json.loads(text) if status else {"error": "the line went dead"}
    if status.startswith("2"):
        return said
    if status == "404" and path.endswith("/find"):
        return None
    if status.startswith("4"):
        raise Refused(said["error"])
    waits = [line.partition(":")[2] for line in headers if line.lower().startswith("retry-after:")]
    raise OutOfOrder(said["error"], retry_after_s=float(waits[0]) if waits else 0.0)
