"""What people ask of agents while they work: read at the start, and heard ahead of what waits before it."""

from collections.abc import Callable
from contextlib import aclosing, suppress

from hocket.engine.cancels import REQUESTED
from hocket.engine.holds import WORDS
from hocket.engine.transition import Tenure
from hocket.errors import MalformedEvent
from hocket.log.base import Log, Message, Seq
from hocket.subjects import Names

TYPES = (REQUESTED, *WORDS)


def patterns(names: Names) -> list[str]:
    """Where such requests are."""
    return [names.events_of_type(event_type) for event_type in TYPES]


async def requested(log: Log, names: Names, *, until: Seq) -> list[Message]:
    """The requests that the log holds up to a sequence."""
    found = []
    async with aclosing(log.scan(patterns(names))) as messages:
        async for message in messages:
            if message.seq > until:
                break
            found.append(message)
    return found


async def listen(log: Log, tenure: Tenure, hear: Callable[[Message], None]) -> None:
    """Hear requests as they are stored, for as long as the tenure lasts."""
    async with aclosing(log.scan(patterns(tenure.names), start=tenure.token + 1, follow=True)) as messages:
        async for message in messages:
            with suppress(MalformedEvent):  # it becomes a dead letter when it is delivered
                hear(message)
