"""When something was last heard of a key, as the log has it: whoever watches over it wants to know."""

from contextlib import aclosing

from hocket.clock import utc
from hocket.context import Pulse
from hocket.engine.runs import Head
from hocket.errors import MalformedEvent
from hocket.log.base import Log, Message
from hocket.subjects import Names, address, tokens_of

EVENTS = ("evt", "cmd")
_CALLED = {"act": "the state", "run": "a run", "end": "a run", "jrn": "a step", "dead": "a dead letter"}
"""The kinds of records, all of which begin with whose they are."""


async def pulse_of(log: Log, names: Names, key: str, watcher: str, now_s: float) -> Pulse | None:
    """The newest that anybody but the watcher has stored under a key, or the end of the wait that lasts longest.

    It reads all that the log holds under the key. None: there is nothing, or nothing any more.
    """
    newest: Pulse | None = None
    until = Pulse(utc(0.0), "")
    async with aclosing(log.scan(names.everything_of_key(key))) as messages:
        async for message in messages:
            kind, *owners = tokens_of(message.subject)
            if _whose(kind, owners) == watcher:
                continue
            stored = utc(message.time_ns / 1e9)
            if newest is None or stored >= newest.at:
                newest = Pulse(stored, _what(kind, owners, message))
            if kind == "run" and (waits := _wait(message, now_s)) is not None:
                until = max(until, waits, key=lambda pulse: pulse.at)
    return newest if newest is None or until.at <= newest.at else until


def _whose(kind: str, owners: list[str]) -> str:
    """Who has written it; of a command it is not known here, and it counts whoever that was."""
    return owners[2] if kind == "evt" else owners[0] if kind in _CALLED else ""


def _what(kind: str, owners: list[str], message: Message) -> str:
    """What a person would call it."""
    if kind in EVENTS:
        where = address(message.subject)
        return f"{where.type} {'by' if kind == 'evt' else 'to'} {where.agent}"
    return f"{_CALLED[kind]} of {owners[0]}"


def _wait(message: Message, now_s: float) -> Pulse | None:
    """Until when a run waits that knows its end; now, if it asks people. None: it works, or may wait for ever."""
    try:
        head = Head.from_json(message.data) if message.data else None
    except MalformedEvent:
        return None  # whoever wrote there is no agent of hocket's
    if head is None or not head.waiting:
        return None
    agent = tokens_of(message.subject)[1]
    if head.approval:
        return Pulse(utc(now_s), f"{agent} asks people")
    return Pulse(utc(head.until_s), f"{agent} waits") if head.until_s else None


__all__ = ["pulse_of"]
