"""What people ask of agents while they work: read at the start, and heard ahead of what waits before it."""

from collections.abc import Callable, Sequence
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


class Requests:
    """Those that the log holds, as far as this process has read them; none of them ever changes.

    In a long log they are far apart, and each costs the server the reading of a block: two thousand took it two
    seconds. So whoever stands by reads them then, and a takeover only what has come since.
    """

    def __init__(self, log: Log, names: Names) -> None:
        self._log = log
        self._names = names
        self._upto = Seq(0)
        self._read: list[Message] = []

    async def read(self, until: Seq) -> Sequence[Message]:
        """All of them up to a sequence, in log order."""
        if until < self._upto:  # this log is another one
            self._upto, self._read = Seq(0), []
        found = []
        async with aclosing(self._log.scan(patterns(self._names), start=self._upto + 1)) as messages:
            async for message in messages:
                if message.seq > until:
                    break
                found.append(message)
        self._upto = until
        self._read += found
        return self._read


async def listen(log: Log, tenure: Tenure, hear: Callable[[Message], None]) -> None:
    """Hear requests as they are stored, for as long as the tenure lasts."""
    async with aclosing(log.scan(patterns(tenure.names), start=tenure.token + 1, follow=True)) as messages:
        async for message in messages:
            with suppress(MalformedEvent):  # it becomes a dead letter when it is delivered
                hear(message)
