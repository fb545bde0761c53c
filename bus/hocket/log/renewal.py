"""A domain's streams made anew, each beginning with a chosen sequence, and closed to others until they are filled."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import orjson

from hocket.errors import DomainInUse
from hocket.log import wire
from hocket.log.jetstream import JetStreamLog, require_version
from hocket.log.jetstream_link import Link
from hocket.log.topology import CLOSED, StreamSettings, overlaid, stream_name, stream_settings

ANSWER_S = 30.0
"""How long an answer may take: deleting a large stream takes seconds."""

_STREAM_NOT_FOUND = 10059


@dataclass(frozen=True, slots=True)
class Room:
    """What the new streams are to be like."""

    max_bytes: int
    replicas: int = 1


class Renewal:
    """What is there of a domain, and the way to begin anew in its place."""

    def __init__(self, link: Link, domain: str, found: dict[int, Mapping[str, Any]]) -> None:
        self._link = link
        self._domain = domain
        self._found = found

    def logs(self, shards: int) -> list[JetStreamLog]:
        """The logs of so many shards, whether they are there or not."""
        return [JetStreamLog(self._link, self._domain, shard) for shard in range(shards)]

    def require_empty(self) -> None:
        """Raise DomainInUse when something is stored, unless a restore has left it unfinished."""
        for shard, stream in self._found.items():
            messages = stream["state"]["messages"]
            if messages and StreamSettings.from_api(stream["config"]).format != CLOSED:
                raise DomainInUse(f"stream {stream_name(self._domain, shard)} holds {messages} messages already")

    async def begin(self, firsts: Sequence[int], room: Room) -> list[JetStreamLog]:
        """Delete what is there, and make streams whose first messages get these sequences; nobody uses them yet."""
        for stream in self._found.values():  # all before any: half a domain must not look like a whole one
            settings = replace(StreamSettings.from_api(stream["config"]), format=CLOSED)
            await _ask(self._link, f"STREAM.UPDATE.{settings.name}", overlaid(stream["config"], settings))
        for shard in reversed(self._found):
            await _ask(self._link, f"STREAM.DELETE.{stream_name(self._domain, shard)}", {})
        for shard, first in enumerate(firsts):
            wanted = self._wanted(shard, len(firsts), room)
            begins = {"first_seq": first} if first > 1 else {}
            await _ask(self._link, f"STREAM.CREATE.{wanted.name}", replace(wanted, format=CLOSED).to_api() | begins)
        return self.logs(len(firsts))

    async def open(self, shards: int, room: Room) -> None:
        """Let everybody use the streams, the first one last: by it the others are found."""
        for shard in reversed(range(shards)):
            wanted = self._wanted(shard, shards, room)
            found = await _ask(self._link, f"STREAM.INFO.{wanted.name}", {})
            await _ask(self._link, f"STREAM.UPDATE.{wanted.name}", overlaid(found["config"], wanted))

    def _wanted(self, shard: int, shards: int, room: Room) -> StreamSettings:
        return stream_settings(self._domain, shard, shards=shards, max_bytes=room.max_bytes, replicas=room.replicas)


@asynccontextmanager
async def renewal(url: str, domain: str) -> AsyncIterator[Renewal]:
    """Look at what is there of a domain. Raises Unavailable and ServerTooOld."""
    async with Link(url, name="restore", inbox_prefix="_INBOX") as link:
        await require_version(link, asyncio.get_running_loop().time() + ANSWER_S)
        found: dict[int, Mapping[str, Any]] = {}
        while (stream := await _info(link, stream_name(domain, len(found)))) is not None:
            found[len(found)] = stream
        yield Renewal(link, domain, found)


async def _info(link: Link, stream: str) -> Mapping[str, Any] | None:
    answer = await _answer(link, f"STREAM.INFO.{stream}", {})
    if (answer.get("error") or {}).get("err_code") == _STREAM_NOT_FOUND:
        return None
    return wire.required(answer)


async def _ask(link: Link, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return wire.required(await _answer(link, verb, body))


async def _answer(link: Link, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
    frame = wire.Frame(f"$JS.API.{verb}", orjson.dumps(body) if body else b"")
    return wire.read(await link.ask([frame], asyncio.get_running_loop().time() + ANSWER_S))


__all__ = ["Renewal", "Room", "renewal"]
