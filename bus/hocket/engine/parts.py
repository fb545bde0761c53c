"""Which actors' state has taken part in which saga: known for agents that want to hear of aborts, and for no others."""

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from hocket.agent import Agent
from hocket.engine.dispatch import Work
from hocket.engine.handling import Handling, read
from hocket.errors import MalformedEvent
from hocket.log.base import Log, Message, Write
from hocket.subjects import tokens_of
from hocket_schemas.runtime import SagaAborted, SagaCompensated

NOTED_MAX = 10_000
"""So many of those that are in the log already are remembered, so that each is written once, or seldom."""


class Parts:
    """Notes the parts in the appends that change the states, and finds them again when a saga is undone."""

    def __init__(
        self,
        agent: Agent[Any],
        log: Log,
        handling: Handling,
        caught_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._agent = agent
        self._log = log
        self._handling = handling
        self._names = handling.names
        self._caught_up = caught_up
        self._noted: OrderedDict[tuple[str, str], None] = OrderedDict()

    def note(self, work: Work) -> list[Write]:
        """What is to be stored together with a state that an event of a saga has changed."""
        received = work.received
        if not self._agent.hears_aborts or received is None or received.envelope.type == SagaAborted.event_type:
            return []
        part = (received.saga, work.key)
        if part in self._noted:
            self._noted.move_to_end(part)
            return []
        self._noted[part] = None
        if len(self._noted) > NOTED_MAX:
            self._noted.popitem(last=False)
        subject = self._names.part(self._agent.name, *part)
        return [Write(subject, b"{}", ttl=self._agent.limits.journal_kept)]

    async def untold(self, work: Work) -> list[str]:
        """The keys whose state has taken part in the saga of an event, and that were not told of its abort yet.

        Complete once a saga is compensated: its cancellation comes before that in the log, and a handling that has
        heard of it changes no state any more. So whatever is still to be stored has been put by now.
        """
        return await self._handling.unless_interrupted(self._untold(work))

    async def _untold(self, work: Work) -> list[str]:
        assert work.received is not None, "only an event that passed the gate is handled"
        saga = work.received.saga
        await self._caught_up()
        keys = [tokens_of(m.subject)[-1] async for m in self._found(self._names.parts(saga, self._agent.name))]
        compensated = self._names.events_of_key(saga, SagaCompensated.event_type)
        if not keys or not [m async for m in self._found(compensated) if m.seq < work.seq]:
            return keys
        return [key for key in keys if not await self._is_told(key, saga)]

    async def _is_told(self, key: str, saga: str) -> bool:
        told = self._names.commands_of_key(self._agent.name, key, SagaAborted.event_type)
        async for message in self._found(told):
            with suppress(MalformedEvent):
                if read(message).correlationid == saga:
                    return True
        return False

    async def _found(self, pattern: str) -> AsyncIterator[Message]:
        async with aclosing(self._log.scan([pattern])) as messages:
            async for message in messages:
                yield message
