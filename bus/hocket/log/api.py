"""JetStream's own requests, in raw JSON: asked until they are answered, within a deadline."""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import orjson

from hocket.errors import OutcomeUnknown, Unavailable
from hocket.log import wire
from hocket.log.jetstream_link import Link

ATTEMPT_FIRST_S = 0.5
ATTEMPT_S = 1.5
"""The first and the longest wait for one answer to what can be asked again: a leader may have died with the
question."""

PAUSE_FIRST_S = 0.005
PAUSE_LONGEST_S = 0.25
"""The pauses before what was definitely not done is tried again; each is up to twice as long, at random."""

STREAM_NOT_FOUND = 10059


def code_of(answer: Mapping[str, Any]) -> int:
    """The error code of an answer; 0: none."""
    return int((answer.get("error") or {}).get("err_code", 0))


class Api:
    """JetStream's own requests, in raw JSON."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def ask(self, verb: str, body: Mapping[str, Any] | None, until: float) -> dict[str, Any]:
        """Ask until there is an answer; used for what may be asked twice. Raises Unavailable at the deadline."""
        frame = wire.Frame(f"$JS.API.{verb}", orjson.dumps(body) if body is not None else b"")
        pauses = Pauses(until)
        loop = asyncio.get_running_loop()
        attempt_s = ATTEMPT_FIRST_S
        while True:
            try:
                answer = wire.read(await self._link.ask([frame], min(until, loop.time() + attempt_s)))
            except (Unavailable, OutcomeUnknown) as error:
                await pauses.next(str(error))
                attempt_s = min(2 * attempt_s, ATTEMPT_S)
                continue
            match wire.refusal(answer["error"]) if "error" in answer else None:
                case wire.Again(reason) | wire.Refused(Unavailable(args=(reason,))):
                    await pauses.next(str(reason))
                case _:
                    return answer

    async def stream(self, name: str, until: float) -> dict[str, Any] | None:
        """A stream's configuration; None when there is no such stream."""
        answer = await self.ask(f"STREAM.INFO.{name}", None, until)
        if code_of(answer) == STREAM_NOT_FOUND:
            return None
        config: dict[str, Any] = wire.required(answer)["config"]
        return config


class Pauses:
    """Longer and longer pauses, up to a deadline."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._pause_s = PAUSE_FIRST_S

    async def next(self, reason: str) -> None:
        """Wait a little. Raises Unavailable with the reason when the deadline would pass meanwhile."""
        pause_s = self._pause_s * (1 + random.random())
        if asyncio.get_running_loop().time() + pause_s >= self._until:
            raise Unavailable(reason)
        await asyncio.sleep(pause_s)
        self._pause_s = min(2 * self._pause_s, PAUSE_LONGEST_S)
