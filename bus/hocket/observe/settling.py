"""What people make of dead letters: each is sent again or discarded, once, whoever asks and however often.

What becomes of a letter is an event whose subject follows from the letter, and the event that is sent again
goes in the same append: both are there or neither, and of two who ask at once one comes first.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from hocket.client import EVENT_HEADERS, Bus
from hocket.errors import AppendTooLarge, Conflict, HocketError, MalformedEvent, NotFound, OutcomeUnknown, Unavailable
from hocket.ids import derived
from hocket.log.base import Expect, Log, Message, Write
from hocket.observe.letters import PEOPLE, DeadLetter, Fate, fate_in, fate_token
from hocket.policy import OnExhausted
from hocket.subjects import Names
from hocket_schemas import gate
from hocket_schemas.envelope import AttributeValue, Envelope
from hocket_schemas.errors import UnknownType
from hocket_schemas.event import CATALOG, Catalog, Event
from hocket_schemas.holds import HoldLifted
from hocket_schemas.letters import GENERATION, LETTER, DeadLetterDiscarded, DeadLetterRedriven

RETRY_S = 0.05
RETRY_MAX_S = 1.0
"""The first and the longest pause before a log that was away is asked again."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a letter."""

    fate: Fate
    duplicate: bool
    """Whether somebody had settled it before; then nothing was changed, and `fate` says what they made of it."""


async def redrive(
    bus: Bus,
    letter: DeadLetter,
    *,
    by: str,
    reason: str = "",
    edit: Any = None,
    catalog: Catalog = CATALOG,
    timeout_s: float = 10.0,
) -> Settled:
    """Send a dead letter's event again, to the agent that could not handle it and to nobody else.

    It is a new event with the old one as its cause, under the same key, saga and type; it names the letter and
    how often it was sent again by now, and its hops count from 0. `edit` is a JSON merge patch (RFC 7396) of the
    old data; of what could not be read it is all the data. Edited data has to fit the type as `catalog` knows it.

    Raises NotFound when neither the letter nor the log has the event any more, MalformedEvent when it was none and
    nothing is given in its place, or when what was edited does not fit; AppendTooLarge, and after `timeout_s`
    Unavailable (not sent) or OutcomeUnknown (may be sent): asking again is harmless.
    """
    if letter.fate is not None:
        return Settled(letter.fate, duplicate=True)
    new = await _again(bus, letter, edit)
    if edit is not None:
        gate.event_of(new, catalog)
    body = gate.write(new)
    gate.read(body, gate.CONTENT_TYPE)  # what is too large for every reader is better not sent
    fact = DeadLetterRedriven(
        letter=letter.id,
        agent=letter.agent,
        seq=letter.event_seq,
        redriven_as=new.id,
        generation=letter.generation + 1,
        edit=edit,
        by=by,
        reason=reason,
    )
    subject = Names(bus.domain, letter.shard).command(letter.agent, letter.key, new.id, 0, new.type)
    command = Write(subject, body, Expect(subject, 0), _retention(new.type, catalog), EVENT_HEADERS)
    return await _settle(bus, letter, fact, [command], timeout_s)


async def discard(bus: Bus, letter: DeadLetter, *, by: str, reason: str, timeout_s: float = 10.0) -> Settled:
    """Let nothing more come of a dead letter; it stays readable, with who did so and why.

    Raises after `timeout_s` Unavailable (not discarded) or OutcomeUnknown: asking again is harmless.
    """
    if letter.fate is not None:
        return Settled(letter.fate, duplicate=True)
    fact = DeadLetterDiscarded(letter=letter.id, agent=letter.agent, seq=letter.event_seq, by=by, reason=reason)
    return await _settle(bus, letter, fact, _released(bus, letter, by), timeout_s)


async def redrive_all(
    bus: Bus, chosen: Sequence[DeadLetter], *, by: str, reason: str = "", per_s: float | None = None
) -> AsyncIterator[tuple[DeadLetter, Settled | HocketError]]:
    """Send many letters again, one after the other, at most `per_s` in a second; say of each what came of it.

    A letter that cannot be sent is passed over with its error. What dies again meanwhile is a new letter, and none
    of `chosen`, so this ends.
    """
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    for letter in chosen:
        if per_s is not None:
            await asyncio.sleep(due_s - loop.time())
            due_s = max(due_s, loop.time()) + 1 / per_s
        try:
            yield letter, await redrive(bus, letter, by=by, reason=reason)
        except (NotFound, MalformedEvent, AppendTooLarge) as error:
            yield letter, error


def redriven_id(letter: DeadLetter) -> str:
    """The id that a letter's event gets when it is sent again."""
    return derived(letter.id, f"redrive {letter.agent} {letter.event_seq} {letter.generation + 1}")


def merged(old: Any, patch: Any) -> Any:
    """A JSON merge patch applied: objects are merged, null takes a member away, anything else takes the old's place."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


async def _again(bus: Bus, letter: DeadLetter, edit: Any) -> Envelope:
    """The event to send in the place of the one that died."""
    names: dict[str, AttributeValue] = {LETTER: letter.id, GENERATION: letter.generation + 1}
    old = None if letter.unreadable else await _old(bus, letter)
    if old is not None:
        return replace(
            old,
            id=redriven_id(letter),
            data=old.data if edit is None else merged(old.data, edit),
            partitionkey=letter.key,
            correlationid=letter.saga,
            causationid=old.id,
            hkhops=0,
            extensions={**old.extensions, **names},
        )
    if not letter.type:
        raise MalformedEvent(f"{letter.id} is no event and says no type; it can only be discarded")
    if edit is None:
        raise MalformedEvent(f"{letter.id} is no event; give all its data as an edit, or discard it")
    return Envelope(
        id=redriven_id(letter),
        source=f"/{bus.domain}/{PEOPLE}",
        type=letter.type,
        data=edit,
        time=bus.now(),
        partitionkey=letter.key,
        correlationid=letter.saga,
        extensions=names,
    )


async def _old(bus: Bus, letter: DeadLetter) -> Envelope:
    """The event that died: from the log, else from its letter."""
    message = await bus.logs[letter.shard].last(letter.event_subject)
    if message is not None and message.seq == letter.event_seq:
        return gate.read(message.data, None, message.headers)
    if letter.event is None:
        raise NotFound(f"event {letter.id} is no longer in the log, and was too large for its letter")
    return gate.read(letter.event.encode(), gate.CONTENT_TYPE)


def _retention(event_type: str, catalog: Catalog) -> timedelta | None:
    try:
        return catalog.find(event_type).retention
    except UnknownType:
        return None


async def _settle(bus: Bus, letter: DeadLetter, fact: Event, commands: Sequence[Write], timeout_s: float) -> Settled:
    """Store what became of a letter with what follows from it, unless something became of it before."""
    names, token = Names(bus.domain, letter.shard), fate_token(letter)
    envelope = gate.envelope_of(
        fact,
        id=token,
        source=f"/{bus.domain}/{PEOPLE}",
        time=bus.now(),
        partitionkey=letter.key,
        correlationid=letter.saga,
        causationid=None if letter.unreadable else letter.id,
    )
    subject = names.event(letter.key, PEOPLE, token, 0, fact.event_type)
    mine = Write(
        subject, gate.write(envelope), Expect(names.emitted(letter.key, PEOPLE, token), 0), headers=EVENT_HEADERS
    )
    log = bus.logs[letter.shard]
    loop = asyncio.get_running_loop()
    due_s, wait_s, unknown = loop.time() + timeout_s, RETRY_S, False
    while True:
        try:
            # Sending it again is safe whatever became of the first: both expect that neither is there.
            await log.append([mine, *commands], timeout_s=max(RETRY_S, min(5.0, due_s - loop.time())))
        except Conflict:
            there = await _there(log, names, letter)
            if there is None:
                raise  # an event of that id is in the log, and nobody said that it was sent again
            message, fate = there
            return Settled(fate, duplicate=not (unknown and message.data == mine.data))
        except (Unavailable, OutcomeUnknown) as error:
            unknown = unknown or isinstance(error, OutcomeUnknown)
            if loop.time() + wait_s >= due_s:
                raise
            await asyncio.sleep(wait_s)
            wait_s = min(RETRY_MAX_S, wait_s * 2)
        else:
            there = await _there(log, names, letter)
            assert there is not None, "it was stored a moment ago, and has no retention"
            return Settled(there[1], duplicate=False)


def _released(bus: Bus, letter: DeadLetter, by: str) -> list[Write]:
    """What lets a key go on that has waited for the letter's sake."""
    if letter.then != OnExhausted.HOLD:
        return []
    names, token = Names(bus.domain, letter.shard), fate_token(letter)
    lifted = HoldLifted(agent=letter.agent, key=letter.key, letter=letter.id, by=by, reason="it was discarded")
    envelope = gate.envelope_of(
        lifted,
        id=f"{token}.1",
        source=f"/{bus.domain}/{PEOPLE}",
        time=bus.now(),
        partitionkey=letter.key,
        correlationid=letter.saga,
    )
    subject = names.event(letter.key, PEOPLE, token, 1, lifted.event_type)
    return [Write(subject, gate.write(envelope), headers=EVENT_HEADERS)]


async def _there(log: Log, names: Names, letter: DeadLetter) -> tuple[Message, Fate] | None:
    """What became of a letter as the leader knows it."""
    for kind in (DeadLetterRedriven, DeadLetterDiscarded):
        message = await log.last(names.event(letter.key, PEOPLE, fate_token(letter), 0, kind.event_type))
        said = fate_in(message) if message else None
        if message and said:
            return message, said[1]
    return None


__all__ = ["Settled", "discard", "merged", "redrive", "redrive_all", "redriven_id"]
