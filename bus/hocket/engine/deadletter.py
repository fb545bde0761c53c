"""What is written down about an event that an agent could not handle."""

import traceback
from base64 import b64encode
from datetime import timedelta
from typing import Any

import orjson

from hocket.errors import BadKey, MalformedEvent, NotFound
from hocket.failures import Failures
from hocket.ids import cause_of
from hocket.log.base import Message, Write
from hocket.subjects import Names, address, token
from hocket_schemas import gate
from hocket_schemas.envelope import Envelope
from hocket_schemas.letters import GENERATION, LETTER

BODY_BYTES_MAX = 256 * 1024
"""A dead letter holds the event up to this size; a larger one is named by its subject only."""

FRAMES_MAX = 8
"""Most frames of each error in a traceback, the innermost ones."""

TRACE_LENGTH_MAX = 8000
"""Longest traceback, in characters, cut at its beginning."""


def dead_letter(
    names: Names,
    message: Message,
    key: str,
    error: Exception,
    *,
    attempts: int,
    agent: str,
    version: str,
    time: str,
    kept: timedelta,
    failures: Failures = (),
    then: str = "",
) -> Write:
    """The record that an event could not be handled, and why."""
    envelope = _envelope(message, key)
    unreadable = names.dead(agent, key, f"seq-{message.seq}")
    fields: dict[str, Any] = {
        "subject": message.subject,
        "seq": message.seq,
        "reason": type(error).__name__,
        "error": str(error),
        "trace": _trace(error),
        "attempts": attempts,
        "agent": agent,
        "version": version,
        "time": time,
    }
    if failures:
        fields["causes"] = [failure for _, failure in failures]
        fields["failed"] = [at for at, _ in failures]
    if then:
        fields["then"] = then
    if envelope is not None:
        fields |= {
            "id": envelope.id,
            "type": envelope.type,
            "saga": envelope.correlationid or key,
            "ancestor": envelope.extensions.get(LETTER),
            "generation": envelope.extensions.get(GENERATION, 0),
        }
    if len(message.data) <= BODY_BYTES_MAX:
        try:
            fields["event"] = message.data.decode()
        except UnicodeDecodeError:
            fields["event_base64"] = b64encode(message.data).decode()
    subject = unreadable if envelope is None else letter_of(names, agent, key, envelope)
    return Write(subject, orjson.dumps(fields), ttl=kept)


def _envelope(message: Message, key: str) -> Envelope | None:
    """The event, if it is one and stands where it says that it belongs."""
    try:
        where = address(message.subject)
        envelope = gate.read(message.data, None, message.headers)
    except (MalformedEvent, NotFound):
        return None
    belongs = envelope.type == where.type and (envelope.partitionkey or key) == key
    return envelope if belongs else None


def letter_of(names: Names, agent: str, key: str, envelope: Envelope) -> str:
    """The subject of an agent's dead letter about an event: under the event's id, when a subject can carry that."""
    try:
        token(envelope.id)
    except BadKey:
        return names.dead(agent, key, cause_of(agent, envelope.source, envelope.id))
    return names.dead(agent, key, envelope.id)


def _trace(error: Exception) -> str | None:
    """Where it happened, with what led to it; None for an error that was never raised."""
    origin = error.__cause__ or error
    if origin.__traceback__ is None:
        return None
    return "".join(traceback.format_exception(origin, limit=-FRAMES_MAX))[-TRACE_LENGTH_MAX:]


__all__ = ["dead_letter", "letter_of"]
