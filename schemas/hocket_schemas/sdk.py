"""Between our envelope and the official CloudEvents SDK's event: for the edges, never on the hot path."""

from typing import Any

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from hocket_schemas import gate
from hocket_schemas.envelope import Envelope
from hocket_schemas.errors import NotAnEvent
from hocket_schemas.moment import datetime_of


def to_sdk(envelope: Envelope) -> CloudEvent:
    """The envelope as the SDK's event, ready for its bindings. Raises MalformedEvent for what `write` refuses.

    `time` becomes a datetime, and so is cut to microseconds. Data that is JSON without saying so is labelled
    `application/json`, which CloudEvents asks of whoever changes an event's format. The SDK's own binary
    mode writes data faithfully when it is an object, bytes, or text of another media type than JSON; a
    list, a number or a JSON string wants structured mode.
    """
    attributes: dict[str, Any] = gate.attributes_of(envelope)
    if envelope.data is not None and type(envelope.data) is not bytes:
        attributes.setdefault("datacontenttype", "application/json")
    if envelope.time is not None:
        attributes["time"] = datetime_of(envelope.time)
    event = CloudEvent(attributes, envelope.data)
    if envelope.time is None:
        del event.get_attributes()["time"]  # the SDK puts the present where no time was stated; we state none
    return event


def from_sdk(event: BaseCloudEvent) -> Envelope:
    """The SDK's event as an envelope, through the gate: it refuses what the SDK lets through.

    Raises MalformedEvent.
    """
    try:
        text = JSONFormat().write(event)
    except (TypeError, ValueError) as error:
        raise NotAnEvent(f"the SDK cannot write the event as JSON: {error}") from None
    return gate.read(text, gate.CONTENT_TYPE)
