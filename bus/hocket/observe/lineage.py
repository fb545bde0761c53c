"""What models knew when they answered, as the journals say, and which piece of an event comes from which call."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from hocket.blob import Blob
from hocket.client import Bus
from hocket.errors import ResultLost
from hocket.observe.deeds import Handling
from hocket.observe.fact import Fact
from hocket.observe.history import Remembered
from hocket.subjects import Names
from hocket_schemas.lineage import ContextItem, ModelCall, Origin

ORIGIN = "origin"
"""The member by which a piece of an event's data says where it comes from; see `hocket_schemas.lineage.Origin`."""

TEXT = "text"
"""The member that shows which piece that is."""


@dataclass(frozen=True, slots=True)
class Call:
    """An answer of a model that a handling has paid for."""

    agent: str
    """Whose handler it was."""

    event_id: str
    """Of the event that was handled."""

    step: str
    seq: int
    took_s: float
    made: ModelCall


@dataclass(frozen=True, slots=True)
class Traced:
    """A piece of an event, and where it comes from."""

    event_id: str
    path: str
    """Where it stands in the event's data: `sections.0.sentences.2`."""

    text: str
    inquiry: str
    steps: tuple[str, ...]
    """The calls of the inquiry, as they stand in the journal."""

    model: str
    """The one that gave the last answer."""

    template: str
    """`name@version`; empty: it was asked without."""

    items: tuple[ContextItem, ...]
    """The passages and memories that it relies on, as far as a call of the inquiry had them in its window."""

    unknown: tuple[str, ...]
    """Ids that it names and that no call of the inquiry had in its window."""


async def calls_in(bus: Bus, shard: int, handlings: Iterable[Handling]) -> list[Call]:
    """The calls of models in some handlings, in log order. What cannot be read as a record is left out."""
    found = []
    for handling in handlings:
        for deed in handling.did:
            if deed.record is None:
                continue
            try:
                made = ModelCall.model_validate(await _read(bus, shard, deed))
            except (ValidationError, ResultLost, ValueError):
                continue
            found.append(Call(handling.agent, handling.event_id, deed.name, deed.seq, deed.took_s, made))
    return sorted(found, key=lambda call: call.seq)


async def content_of(bus: Bus, shard: int, agent: str, item: ContextItem) -> bytes:
    """The content of what was in a window. Raises ResultLost when the log does not hold it, or no more."""
    return await _fetch(bus, shard, agent, Blob.named(item.digest, item.size))


def origins_in(facts: Sequence[Fact], calls: Sequence[Call]) -> list[Traced]:
    """Where the pieces of an event come from: of the last of these that says so for its pieces."""
    for fact in reversed(facts):
        traced = [_traced(fact, calls, *piece) for piece in _pieces(fact.data)]
        if traced:
            return traced
    return []


def _pieces(data: Any, path: str = "") -> Iterator[tuple[str, str, Origin]]:
    """Whatever in an event's data says where it comes from."""
    members: Iterable[tuple[Any, Any]] = ()
    if isinstance(data, dict):
        members = data.items()
        if ORIGIN in data:
            with suppress(ValidationError):  # then it means something else by that
                yield path.lstrip("."), str(data.get(TEXT, "")), Origin.model_validate(data[ORIGIN])
    elif isinstance(data, list):
        members = enumerate(data)
    for name, value in members:
        yield from _pieces(value, f"{path}.{name}")


def _traced(fact: Fact, calls: Sequence[Call], path: str, text: str, origin: Origin) -> Traced:
    own = [call for call in calls if call.made.inquiry == origin.inquiry]
    known = {item.id: item for call in own for part in call.made.context for item in part.items}
    templates = [call.made.template for call in own if call.made.template is not None]
    return Traced(
        event_id=fact.id,
        path=path,
        text=text,
        inquiry=origin.inquiry,
        steps=tuple(call.step for call in own),
        model=own[-1].made.answered_by or own[-1].made.model if own else "",
        template=f"{templates[-1].name}@{templates[-1].version}" if templates else "",
        items=tuple(known[id] for id in origin.items if id in known),
        unknown=tuple(id for id in origin.items if id not in known),
    )


async def _read(bus: Bus, shard: int, deed: Remembered) -> Any:
    if isinstance(deed.record, Blob):
        return orjson.loads(await _fetch(bus, shard, deed.agent, deed.record))
    return deed.record


async def _fetch(bus: Bus, shard: int, agent: str, blob: Blob) -> bytes:
    where = Names(bus.domain, shard).blob(agent, blob.digest)
    pieces = []
    for i in range(blob.chunks):
        async with aclosing(bus.logs[shard].scan([f"{where}.{i}"])) as messages:
            pieces += [message.data async for message in messages]
    return blob.joined(pieces)


__all__ = ["Call", "Traced", "calls_in", "content_of", "origins_in"]
