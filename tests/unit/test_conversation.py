"""What was said under a key, and how much of it a model is shown."""

from hocket import Agent, Context, Event
from hocket.memory.conversation import Conversation, History, Turn, summarise, within
from hocket.testing import Bed, run_virtual
from hocket_schemas.event import Catalog
from hocket_schemas.memory import Summarised

EVENTS = Catalog()


class Asked(Event, type="conversation.asked.v1", catalog=EVENTS):
    text: str


class Answered(Event, type="conversation.answered.v1", catalog=EVENTS):
    text: str


CHAT = Conversation(user={Asked: lambda asked: asked.text}, assistant={Answered: lambda answer: answer.text})


def turn(name: str, cost: int) -> Turn:
    return Turn(name, "summary" if name.startswith("s") else "user", "x" * cost)


def test_a_key_remembers_what_was_said_and_a_summary_takes_the_place_of_what_it_cites() -> None:
    agent = Agent("chat")
    shown: list[History] = []

    @agent.on(Asked, emits=[Summarised])
    async def answer(asked: Asked, ctx: Context) -> Answered:
        history = await CHAT.history(ctx, tokens_max=1000)
        shown.append(history)
        if asked.text == "three":
            summarise(ctx, history.turns[:3], "they counted")
        if asked.text == "five":
            summarise(ctx, history.turns[:2], "they went on counting")
        return Answered(text=f"after {asked.text}")

    async def live() -> list[Summarised]:
        async with Bed(agent) as bed:
            for text in ("one", "two", "three", "four", "five", "six"):
                await bed.publish(Asked(text=text), key="ada", saga="s", event_id=text)
                await bed.publish(Asked(text="elsewhere"), key="bob")
                await bed.quiet()
            return bed.events(Summarised)

    first, second = run_virtual(live())

    said = [[turn.text for turn in history.turns] for history in shown[::2]]
    assert said[0] == []
    assert said[2] == ["one", "after one", "two", "after two"]
    assert said[3] == ["they counted", "after two", "three", "after three"]
    assert said[5] == ["they went on counting", "three", "after three", "four", "after four", "five", "after five"]
    assert first.of[0] == "one"
    assert len(second.of) == 2
    assert [turn.role for turn in shown[10].turns[:3]] == ["summary", "user", "assistant"]


def test_within_a_budget_summaries_stay_then_the_newest_and_the_rest_is_named() -> None:
    turns = [turn("s1", 2), turn("a", 3), turn("b", 3), turn("c", 3)]

    history = within(turns, 8, count=len)

    assert [each.id for each in history.turns] == ["s1", "b", "c"]
    assert history.left_out == ("a",)
    assert history.tokens == 8


def test_what_is_left_out_has_no_gap() -> None:
    turns = [turn("a", 1), turn("b", 5), turn("c", 1)]

    history = within(turns, 3, count=len)

    assert [each.id for each in history.turns] == ["c"]
    assert history.left_out == ("a", "b")


def test_a_budget_of_nothing_shows_nothing() -> None:
    assert within([turn("a", 1)], 0, count=len) == History((), ("a",), 0)
