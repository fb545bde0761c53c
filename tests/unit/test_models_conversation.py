"""A model is shown what was said before, within a budget, and is told what is missing."""

from pydantic_ai import Agent as Asked
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from hocket import Agent, Context, Event
from hocket.llm import ask_model, message_history
from hocket.memory import Conversation, summarise
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog
from hocket_schemas.memory import Summarised

EVENTS = Catalog()


class Wrote(Event, type="letter.wrote.v1", catalog=EVENTS):
    text: str


class Replied(Event, type="letter.replied.v1", catalog=EVENTS):
    text: str


LETTERS = Conversation(user={Wrote: lambda wrote: wrote.text}, assistant={Replied: lambda reply: reply.text})


def test_a_model_is_shown_summaries_then_what_was_said_last() -> None:
    seen: list[list[str]] = []

    async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append([str(part.content) for message in messages for part in message.parts if hasattr(part, "content")])
        return ModelResponse(parts=[TextPart(f"reply {len(seen)}")])

    clerk = Asked(FunctionModel(respond), name="clerk")
    agent = Agent("correspondent")

    @agent.on(Wrote, emits=[Summarised])
    async def reply(wrote: Wrote, ctx: Context) -> Replied:
        history = await LETTERS.history(ctx, tokens_max=30)
        result = await ask_model(ctx, clerk, wrote.text, message_history=message_history(history))
        if len(history.turns) == 4:
            summarise(ctx, history.turns[:2], "they met")
        return Replied(text=result.output)

    async def live() -> None:
        async with Bed(agent) as bed:
            for n in range(1, 6):
                await bed.publish(Wrote(text=f"letter {n}"), key="ada")
                await bed.quiet()

    run_virtual(live())

    assert seen[0] == ["letter 1"]
    assert seen[2] == ["letter 1", "reply 1", "letter 2", "reply 2", "letter 3"]
    assert seen[3][:2] == ["Summary of 2 earlier messages: they met", "letter 2"]
    assert seen[4] == [
        "2 earlier messages of this conversation are left out.",
        "Summary of 2 earlier messages: they met",
        *["letter 3", "reply 3", "letter 4", "reply 4", "letter 5"],
    ]
