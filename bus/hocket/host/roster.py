"""What supervisors say of the services that they keep, each second, to whoever listens."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from hocket.beside import beside
from hocket.host.health import FRESH_S
from hocket.log.base import Log
from hocket.subjects import Names

SUPERVISORS_MAX = 1000
"""Most supervisors remembered. Anybody can send a roster, so there has to be an end to it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One service, as its supervisor sees it."""

    service: str
    instance: str
    """What its processes call themselves in their heartbeats."""

    agents: tuple[str, ...]
    state: str
    """`starting`, `running`, `blocked`, `stopping`, `restarting` or `failed`."""

    since: str
    pid: int | None
    restarts: int
    """How often it was started again since its supervisor began."""

    memory_bytes: int | None
    memory_max_bytes: int | None
    why: str
    """What is the matter, or was at last; empty: nothing was."""

    host: str = ""
    supervisor: int = 0
    """The supervisor's process."""

    heard_s: float = 0.0
    """When it was heard, by the listener's own clock."""


def to_json(host: str, pid: int, time: str, entries: Sequence[Entry]) -> bytes:
    """A roster as it is told."""
    left_out = ("host", "supervisor", "heard_s")
    services = [{name: value for name, value in asdict(each).items() if name not in left_out} for each in entries]
    return orjson.dumps({"host": host, "pid": pid, "time": time, "services": services})


def entries_of(body: bytes, heard_s: float) -> tuple[Entry, ...] | None:
    """Read a roster; None for what is none, since anybody may send it."""
    try:
        fields = orjson.loads(body)
        host, supervisor = str(fields["host"]), int(fields["pid"])
        return tuple(_entry(each, host, supervisor, heard_s) for each in fields["services"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _entry(fields: dict[str, Any], host: str, supervisor: int, heard_s: float) -> Entry:
    def number(name: str) -> int | None:
        return None if fields.get(name) is None else int(fields[name])

    return Entry(
        service=str(fields["service"]),
        instance=str(fields["instance"]),
        agents=tuple(map(str, fields["agents"])),
        state=str(fields["state"]),
        since=str(fields.get("since", "")),
        pid=number("pid"),
        restarts=int(fields.get("restarts", 0)),
        memory_bytes=number("memory_bytes"),
        memory_max_bytes=number("memory_max_bytes"),
        why=str(fields.get("why", "")),
        host=host,
        supervisor=supervisor,
        heard_s=heard_s,
    )


class Roster:
    """The newest of what each supervisor has said."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int], tuple[Entry, ...]] = {}

    def hear(self, entries: tuple[Entry, ...]) -> None:
        """Take a supervisor's roster in."""
        if entries:
            place = (entries[0].host, entries[0].supervisor)
            self._entries.pop(place, None)
            self._entries[place] = entries
            if len(self._entries) > SUPERVISORS_MAX:
                del self._entries[next(iter(self._entries))]

    def table(self, now_s: float) -> list[Entry]:
        """Every service of the supervisors that are heard."""
        fresh = [each for entries in self._entries.values() for each in entries if each.heard_s > now_s - FRESH_S]
        return sorted(fresh, key=lambda each: (each.service, each.host, each.supervisor))


@asynccontextmanager
async def listening(log: Log, *, changed: Callable[[], None] = lambda: None) -> AsyncIterator[Roster]:
    """Listen to the supervisors of a domain for as long as the block lasts; `changed` is called at each roster."""
    roster = Roster()
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()

    async def hear() -> None:
        async with log.listen(Names(log.domain, log.shard).rosters) as heard:
            ready.set()
            async for message in heard:
                entries = entries_of(message.data, loop.time())
                if entries is not None:
                    roster.hear(entries)
                    changed()

    async with beside(hear()):
        await ready.wait()
        yield roster


__all__ = ["Entry", "Roster", "entries_of", "listening", "to_json"]
