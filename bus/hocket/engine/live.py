"""What handlers say while they work: out at once on core NATS, and again for whoever comes late.

Nothing of it is stored. It lasts as long as the handling that says it; what has to stay is emitted as an event.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

import orjson

from hocket.errors import MalformedEvent, StreamTooLong, Unavailable
from hocket.log.base import Log, Message
from hocket.subjects import Names, untoken

KEPT_BYTES_MAX = 4 << 20
"""Most text that one handling may stream, in bytes of UTF-8."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of live output."""

    agent: str
    run: str
    """The token of the handling."""

    execution: str
    """Another one begins from the start: after a crash or a failed attempt what was said before is void."""

    i: int
    """Its place, from 0."""

    text: str

    def to_json(self) -> bytes:
        """As it is told."""
        return orjson.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, body: bytes) -> "Chunk":
        """Read it back. Raises MalformedEvent."""
        try:
            fields = orjson.loads(body)
            return cls(
                str(fields["agent"]),
                str(fields["run"]),
                str(fields["execution"]),
                int(fields["i"]),
                str(fields["text"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise MalformedEvent(f"not a piece of live output: {body[:80]!r}") from error


@dataclass(slots=True)
class _Said:
    execution: str
    chunks: list[Chunk] = field(default_factory=list)
    size: int = 0


class LiveOutput:
    """What the handlings of one tenure have said so far."""

    def __init__(self, log: Log, agent: str, token: int) -> None:
        self._log = log
        self._names = Names(log.domain, log.shard)
        self._agent = agent
        self._token = token
        self._said: dict[str, dict[str, _Said]] = {}
        self._begun = asyncio.Event()

    async def say(self, key: str, run: str, execution: int, text: str) -> None:
        """Send a piece to whoever listens, and keep it. Raises StreamTooLong."""
        self._begun.set()
        name = f"{self._token}.{execution}"
        said = self._said.setdefault(key, {}).get(run)
        if said is None or said.execution != name:
            said = self._said[key][run] = _Said(name)
        said.size += len(text.encode(errors="replace"))
        if said.size > KEPT_BYTES_MAX:
            raise StreamTooLong(f"{said.size} bytes of live output, the limit is {KEPT_BYTES_MAX}")
        chunk = Chunk(self._agent, run, name, len(said.chunks), text)
        said.chunks.append(chunk)
        await self._tell(key, chunk)

    def forget(self, key: str, run: str) -> None:
        """The handling is over."""
        said = self._said.get(key)
        if said is not None:
            said.pop(run, None)
            if not said:
                del self._said[key]

    async def serve(self) -> None:
        """Say again what was said, whenever somebody asks for a key, for as long as the tenure lasts."""
        await self._begun.wait()  # most agents never stream
        async with self._log.listen(self._names.live_wanted) as asked:
            async for message in asked:
                key = untoken(message.subject.rpartition(".")[2])
                for said in list(self._said.get(key, {}).values()):
                    for chunk in list(said.chunks):
                        await self._tell(key, chunk)

    async def _tell(self, key: str, chunk: Chunk) -> None:
        with suppress(Unavailable):  # nobody can hear it now, and it is kept for those who ask
            await self._log.tell(self._names.live(key, self._agent, chunk.run), chunk.to_json())


async def heard(messages: AsyncIterator[Message]) -> AsyncIterator[Chunk]:
    """The pieces that are told, each once and in order, however often and in whatever order they come.

    A piece that never comes holds back those after it until somebody asks for all of them again.
    """
    next_of: dict[tuple[str, str], int] = {}
    ahead: dict[tuple[str, str], dict[int, Chunk]] = {}
    newest: dict[str, str] = {}
    async for message in messages:
        try:
            chunk = Chunk.from_json(message.data)
        except MalformedEvent:
            continue
        place = (chunk.run, chunk.execution)
        if newest.get(chunk.run) != chunk.execution:
            if place in next_of:
                continue  # of an execution that another one has followed
            newest[chunk.run] = chunk.execution
        expected = next_of.get(place, 0)
        if chunk.i < expected:
            continue
        ahead.setdefault(place, {})[chunk.i] = chunk
        while expected in ahead[place]:
            yield ahead[place].pop(expected)
            expected += 1
        next_of[place] = expected


__all__ = ["Chunk", "LiveOutput", "heard"]
