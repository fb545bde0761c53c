"""What a model says while it answers: streamed to whoever listens, and cut off where a moderator says so."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.messages import (
    AgentStreamEvent,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)

from hocket.context import Context
from hocket.llm.errors import CutOff
from hocket_schemas.event import Event

Moderator = Callable[[str], Awaitable[str | None]]
"""Gets what the model has said so far in this answer; gives the reason to cut it off, or None. The model waits."""


@dataclass(frozen=True, slots=True)
class Live:
    """Where the text of a model goes while it comes."""

    context: Context[Any]
    asked: str
    moderator: Moderator | None = None

    async def pass_on(self, events: AsyncIterable[AgentStreamEvent]) -> AsyncIterator[AgentStreamEvent]:
        """The same events; their text is said as it comes. Raises CutOff."""
        said = ""
        async for event in events:
            text = _text(event)
            if text:
                said += text
                await self.context.stream(text)
                reason = await self.moderator(said) if self.moderator is not None else None
                if reason is not None:
                    raise CutOff(f"{self.asked}: the answer was cut off: {reason}", said=said)
            yield event

    async def repeat(self, answer: ModelResponse | str) -> None:
        """Say what the journal has of an answer: another execution begins from the start."""
        text = answer if isinstance(answer, str) else answer.text or ""
        if text:
            await self.context.stream(text)

    def handler(self, own: EventStreamHandler[Any] | None) -> EventStreamHandler[Any]:
        """Says what comes, and has the agent's own handler see it."""

        async def handle(run: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
            passed = self.pass_on(events)
            if own is not None:
                await own(run, passed)
            async for _ in passed:
                """What the agent's own has left."""

        return handle


def cut_by(ctx: Context[Any], event: type[Event], *, every_s: float = 0.5) -> Moderator:
    """Has whoever emits an event of this type on the run's key cut the answer off; its `reason` says why.

    Looked for while the model speaks, every so often. The type stands in the handler's `waits`. It cuts off whatever
    the run asks a model live from then on.
    """
    next_s = 0.0

    async def look(said: str) -> str | None:
        nonlocal next_s
        now_s = asyncio.get_running_loop().time()
        if now_s < next_s:
            return None
        next_s = now_s + every_s
        answers = await ctx.run.memory.answers([event.event_type])
        return str((answers[0][1].data or {}).get("reason") or event.event_type) if answers else None

    return look


_LISTENING: ContextVar[Live | None] = ContextVar("_LISTENING", default=None)


def listening() -> Live | None:
    """Whoever hears the request that the running code makes."""
    return _LISTENING.get()


@contextmanager
def heard_by(live: Live | None) -> Iterator[None]:
    """Have a request heard."""
    token = _LISTENING.set(live)
    try:
        yield
    finally:
        _LISTENING.reset(token)


def _text(event: AgentStreamEvent) -> str:
    match event:
        case PartStartEvent(part=TextPart(content=text)) | PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            return text
    return ""
