"""What was said under a key, as a fold of its events: who said it, and what summaries have taken the place of."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from hocket.context import Context
from hocket.errors import MalformedEvent, UsageError
from hocket.forgotten import is_tombstone
from hocket.log.base import Message
from hocket.subjects import Names, shard_of
from hocket_schemas import gate
from hocket_schemas.event import Event
from hocket_schemas.memory import Summarised

Role = Literal["user", "assistant", "summary"]

Says = Callable[[Any], str]
"""What an event says, as a text; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing that was said, or a summary of several."""

    id: str
    """The event's id."""

    role: Role
    text: str
    of: tuple[str, ...] = ()
    """Of a summary: the ids of what it stands for."""


@dataclass(frozen=True, slots=True)
class History:
    """What is shown of a conversation."""

    turns: tuple[Turn, ...]
    left_out: tuple[str, ...]
    """The ids of the turns for which there was no room, in their order."""

    tokens: int
    """What the turns come to, as they were counted."""


def estimated(text: str) -> int:
    """About how many tokens a text comes to: one for four characters, and four for what surrounds it."""
    return len(text) // 4 + 4


class Conversation:
    """Which events of a key are part of what is said, and by whom.

    ```python
    chat = Conversation(
        user={QuestionAsked: lambda asked: asked.text}, assistant={QuestionAnswered: lambda answer: answer.text}
    )
    ```
    """

    def __init__(
        self, *, user: Mapping[type[Any], Says] | None = None, assistant: Mapping[type[Any], Says] | None = None
    ) -> None:
        self._says: dict[str, tuple[Role, type[Event], Says]] = {}
        spoken: tuple[tuple[Role, Mapping[type[Any], Says]], ...] = (
            ("user", user or {}),
            ("assistant", assistant or {}),
        )
        for role, types in spoken:
            for event, says in types.items():
                if event.event_type in self._says or event is Summarised:
                    raise UsageError(f"{event.event_type} cannot be said by two, nor a summary by anybody")
                self._says[event.event_type] = (role, event, says)

    async def history(self, ctx: Context[Any], *, tokens_max: int, count: Callable[[str], int] = estimated) -> History:
        """What was said under the handler's key before the event that it handles, within a budget of tokens.

        Summaries stand in the place of what they cite. They are kept first, then what was said last; what finds no
        room is named. What lies before an event does not change, so a handler that runs again gets the same.
        """
        logs = ctx.process.logs
        if not logs:
            raise UsageError("nobody has said which log this process works on; read a conversation in a crew")
        shard = shard_of(ctx.key, len(logs))
        names = Names(logs[shard].domain, shard)
        found: list[Message] = []
        filters = [names.events_of_key(ctx.key, name) for name in (*self._says, Summarised.event_type)]
        async with aclosing(logs[shard].scan(filters)) as messages:
            async for message in messages:
                if message.seq >= ctx.seq:
                    break
                found.append(message)
        return within(self.folded(found), tokens_max, count)

    def folded(self, messages: Sequence[Message]) -> list[Turn]:
        """What stands of a conversation, given its events in log order."""
        turns: dict[str, tuple[int, Turn]] = {}
        covered: set[str] = set()
        for place, message in enumerate(messages):
            turn = self._turn(message)
            if turn is None:
                continue
            places = [turns[each][0] for each in turn.of if each in turns]
            covered.update(turn.of)
            turns[turn.id] = (min(places, default=place), turn)
        standing = [each for each in turns.values() if each[1].id not in covered]
        return [turn for _, turn in sorted(standing, key=lambda each: each[0])]

    def _turn(self, message: Message) -> Turn | None:
        """What one event says; None: nothing, or it is no event of its type."""
        if is_tombstone(message):
            return None
        try:
            envelope = gate.read(message.data, None, message.headers)
            if envelope.type == Summarised.event_type:
                summary = gate.event_of(envelope, Summarised)
                return Turn(envelope.id, "summary", summary.text, tuple(summary.of))
            role, event, says = self._says[envelope.type]
            text = says(gate.event_of(envelope, event))
        except (MalformedEvent, KeyError):
            return None
        return Turn(envelope.id, role, text) if text else None


def within(turns: Sequence[Turn], tokens_max: int, count: Callable[[str], int] = estimated) -> History:
    """As many turns as fit: summaries first, then the newest without a gap."""
    costs = {turn.id: count(turn.text) for turn in turns}
    kept: set[str] = set()
    room = tokens_max
    for turn in turns:
        if turn.role == "summary" and costs[turn.id] <= room:
            kept.add(turn.id)
            room -= costs[turn.id]
    for turn in reversed(turns):
        if turn.role == "summary":
            continue
        if costs[turn.id] > room:
            break
        kept.add(turn.id)
        room -= costs[turn.id]
    return History(
        tuple(turn for turn in turns if turn.id in kept),
        tuple(turn.id for turn in turns if turn.id not in kept),
        tokens_max - room,
    )


def summarise(ctx: Context[Any], turns: Sequence[Turn], text: str) -> str:
    """Have a summary take the place of some turns when this handling is committed, and return the id it will have.

    The handler has to declare `emits=[Summarised]`.
    """
    ctx.emit(Summarised(text=text, of=[turn.id for turn in turns]))
    return f"{ctx.cause}.{ctx.emitted_before + len(ctx.emitted) - 1}"


__all__ = ["Conversation", "History", "Role", "Turn", "estimated", "summarise", "within"]
