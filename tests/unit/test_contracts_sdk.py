"""There and back between our envelope and the official SDK, and through its HTTP binding."""

from dataclasses import replace
from typing import Any

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent

from hocket_schemas import gate
from hocket_schemas.envelope import Envelope
from hocket_schemas.errors import BadAttribute, MalformedEvent, NotAnEvent
from hocket_schemas.sdk import from_sdk, to_sdk

ENVELOPE = Envelope(
    id="c.0",
    source="/main/flights",
    type="trip.planned.v1",
    data={"route": "ZRH-OSL", "legs": [1, None], "note": "Grüße"},
    datacontenttype="application/json",
    time="2026-01-31T12:00:00.123456Z",
    subject='trip "7" to Zürich, 100%',
    partitionkey="k",
    correlationid="s",
    hkhops=3,
    extensions={"mine": "kept"},
)


def test_an_envelope_survives_the_sdk() -> None:
    assert from_sdk(to_sdk(ENVELOPE)) == ENVELOPE


def test_the_sdk_sees_what_we_state() -> None:
    event = to_sdk(ENVELOPE)

    assert isinstance(event, CloudEvent)
    assert (event.get_id(), event.get_extension("partitionkey"), event.get_extension("hkhops")) == ("c.0", "k", 3)
    assert event.get_time() is not None


def test_a_time_that_was_not_stated_is_not_made_up() -> None:
    envelope = replace(ENVELOPE, time=None)

    assert to_sdk(envelope).get_time() is None
    assert from_sdk(to_sdk(envelope)) == envelope


@pytest.mark.parametrize("data", [b"\x00\xff", "text", [1, 2], 1.5, None])
def test_data_of_every_kind_survives_the_sdk(data: Any) -> None:
    assert from_sdk(to_sdk(replace(ENVELOPE, data=data))).data == data


def test_data_that_is_json_without_saying_so_is_labelled() -> None:
    assert to_sdk(replace(ENVELOPE, datacontenttype=None)).get_datacontenttype() == "application/json"


@pytest.mark.parametrize("send", [http.to_structured_event, http.to_binary_event])
def test_an_envelope_survives_http(send: Any) -> None:
    message = send(to_sdk(ENVELOPE))

    assert gate.read(message.body, None, message.headers) == ENVELOPE


@pytest.mark.parametrize(
    ("media_type", "data"), [("application/xml", "<a>ü</a>"), ("application/octet-stream", b"\x00\xff")]
)
@pytest.mark.parametrize("send", [http.to_structured_event, http.to_binary_event])
def test_text_and_bytes_survive_http(send: Any, media_type: str, data: str | bytes) -> None:
    envelope = replace(ENVELOPE, datacontenttype=media_type, data=data)

    message = send(to_sdk(envelope))

    assert gate.read(message.body, None, message.headers) == envelope


def test_the_sdk_reads_what_the_gate_writes() -> None:
    message = http.HTTPMessage({"content-type": gate.CONTENT_TYPE}, gate.write(ENVELOPE))

    assert from_sdk(http.from_http_event(message)) == ENVELOPE


@pytest.mark.parametrize(
    ("attributes", "data", "refusal"),
    [
        ({"mine": 1.5}, None, BadAttribute),
        ({"mine": 2**31}, None, BadAttribute),
        ({"subject": "a\nb"}, None, BadAttribute),
        ({"mine": object()}, None, NotAnEvent),
        ({}, {"a": float("nan")}, NotAnEvent),
    ],
)
def test_what_the_sdk_lets_through_the_gate_refuses(
    attributes: dict[str, Any], data: Any, refusal: type[MalformedEvent]
) -> None:
    event = CloudEvent({"type": "trip.planned.v1", "source": "/here", **attributes}, data)

    with pytest.raises(refusal):
        from_sdk(event)
