"""An agent of hocket whose handler asks a model, and a model that plays a script."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

from pydantic_ai import Agent as Asked
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from hocket import Agent, Context, Retry
from hocket.llm import ask_model
from hocket.observe.history import Remembered, history
from hocket.run import ATTEMPTS
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()


class Put(Event, type="question.put.v1", catalog=EVENTS):
    text: str = "?"


class Answered(Event, type="question.answered.v1", catalog=EVENTS):
    text: str


def call(name: str, /, id: str = "", **arguments: Any) -> ToolCallPart:
    return ToolCallPart(name, arguments, tool_call_id=id or f"{name}-{'-'.join(map(str, arguments.values()))}")


class Script:
    """A model that plays one turn after the other: calls of tools, a text, or a failure; the last says what came."""

    def __init__(self, *turns: list[ToolCallPart] | str | Exception) -> None:
        self.turns = list(turns)
        self.requests: list[int] = []
        self.model = FunctionModel(self.respond)

    async def respond(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        self.requests.append(turn)
        await asyncio.sleep(1)
        if turn == len(self.turns):
            return ModelResponse(parts=[TextPart(f"{told(messages)}")])
        match self.turns[turn]:
            case Exception() as failure:
                self.turns.pop(turn)
                raise failure
            case str(text):
                return ModelResponse(parts=[TextPart(text)])
            case calls:
                return ModelResponse(parts=list(calls))


def asking(
    asked: Asked[Any, Any], prompt: str | None = "?", *, fails: int = 1, **options: Any
) -> Callable[[Context], Awaitable[str]]:
    """A handler that asks, fails so many times after it has the answer, and so reads it from the journal."""
    fail = breaks(fails)

    async def answer(ctx: Context) -> str:
        result = await ask_model(ctx, asked, prompt, **options)
        fail()
        return str(result.output)

    return answer


def told(messages: list[ModelMessage]) -> list[Any]:
    return [part.content for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]


class Case:
    """One agent of hocket, the handler of which does what a test says."""

    def __init__(
        self,
        answer: Callable[[Context], Awaitable[str]],
        *,
        retry: Retry | None = None,
        waits: Sequence[type[Event]] = (),
    ) -> None:
        self.attempts = 0
        self.crew = Agent("crew")

        async def handle(event: Put, ctx: Context) -> Answered:
            self.attempts += 1
            return Answered(text=await answer(ctx))

        self.crew.on(Put, retry=retry, waits=waits)(handle)
        self.bed: Bed
        self.steps: list[str] = []

    def play(self, script: Callable[["Case"], Coroutine[Any, Any, None]] | None = None) -> str:
        """What is answered in the end; or the error of the dead letter."""

        async def main() -> str:
            async with Bed(self.crew) as self.bed:
                await self.bed.publish(Put(), key="k")
                if script is not None:
                    await script(self)
                await self.bed.quiet()
                entries = [entry for entry in await history(self.bed.bus, "k") if isinstance(entry, Remembered)]
                done = [entry.name for entry in entries if entry.kind != ATTEMPTS]
                self.steps = [name.partition(": ")[2] or name for name in done]
                answers = [answer.text for answer in self.bed.events(Answered)]
                return answers[0] if answers else str(self.bed.dead(self.crew)[0]["error"])

        return run_virtual(main())


def breaks(times: int) -> Callable[[], None]:
    """Fails so many times."""
    left = [times]

    def fail() -> None:
        if left[0]:
            left[0] -= 1
            raise ConnectionError("not yet")

    return fail


async def two_days(case: Case) -> None:
    await case.bed.settled()
    await case.bed.pass_time(timedelta(days=2))
