"""What the gate lets in and out in structured mode, and every reason for which it refuses."""

import json
from dataclasses import replace
from typing import Any

import pytest

from hocket_schemas import gate
from hocket_schemas.envelope import Envelope
from hocket_schemas.errors import (
    BadAttribute,
    DataRefused,
    MalformedEvent,
    MissingAttribute,
    NotAnEvent,
    TooDeep,
    TooLarge,
    TooMany,
    UnsupportedFormat,
)
from hocket_schemas.strict_json import VALUES_MAX

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

CONTEXT = {
    "specversion": "1.0",
    "type": "com.example.someevent",
    "source": "/mycontext",
    "id": "A234-1234-1234",
    "time": "2018-04-05T17:31:00Z",
    "comexampleextension1": "value",
    "comexampleothervalue": 5,
}
"""The attributes that the events in the specification of the JSON format share."""

SPECIFIED = {
    "binary data": CONTEXT
    | {"datacontenttype": "application/vnd.apache.thrift.binary", "data_base64": "gAEAAQAAAAR0ZXN0"},
    "XML as text": CONTEXT
    | {"unsetextension": None, "datacontenttype": "application/xml", "data": '<much wow="xml"/>'},
    "JSON object": CONTEXT
    | {
        "subject": None,
        "datacontenttype": "application/json",
        "data": {"appinfoA": "abc", "appinfoB": 123, "appinfoC": True},
    },
    "JSON number": CONTEXT | {"subject": None, "datacontenttype": "application/json", "data": 1.5},
    "JSON string, implied": CONTEXT | {"subject": None, "data": "I'm just a string"},
    "JSON array, vendor's type": CONTEXT | {"datacontenttype": "application/vnd.x+json", "data": [1, None]},
    "binary data, type unknown": {
        "specversion": "1.0",
        "type": "com.example.someevent",
        "source": "/mycontext",
        "id": "D234-1234-1234",
        "data_base64": "eyAieHl6IjogMTIzIH0=",
    },
    "no data": {k: CONTEXT[k] for k in ("specversion", "type", "source", "id")},
    "extensions of each type": CONTEXT
    | {"yes": True, "no": False, "least": -(2**31), "most": 2**31 - 1, "text": "Grüße €", "empty": ""},
}


def body(**changes: Any) -> bytes:
    """A valid event with some members changed; Ellipsis takes a member out."""
    members = {"specversion": "1.0", "id": "1", "source": "/here", "type": "trip.planned.v1"} | changes
    return json.dumps({k: v for k, v in members.items() if v is not ...}).encode()


@pytest.mark.parametrize("members", SPECIFIED.values(), ids=SPECIFIED.keys())
def test_the_events_of_the_specification_survive_reading_and_writing(members: dict[str, Any]) -> None:
    envelope = gate.read(json.dumps(members, indent=4).encode(), "application/cloudevents+json; charset=UTF-8")

    written = gate.write(envelope)

    assert gate.read(written) == envelope
    assert json.loads(written) == {name: value for name, value in members.items() if value is not None}


def test_every_attribute_has_its_place_in_the_envelope() -> None:
    members: dict[str, Any] = {
        "id": "7",
        "source": "/main/flights",
        "type": "trip.planned.v1",
        "time": "2026-01-31T12:00:00.123456789+01:00",
        "subject": "trip 7",
        "datacontenttype": "application/json",
        "dataschema": "https://example.com/trip.json",
        "partitionkey": "k",
        "correlationid": "s",
        "causationid": "c.0",
        "traceparent": TRACE,
        "tracestate": "a=1",
        "expirytime": "2026-02-01T00:00:00Z",
        "hkhops": 3,
        "hkversion": "1.2",
        "data": {"route": "ZRH-OSL"},
    }

    envelope = gate.read(body(**members, mine="kept"))

    assert envelope == Envelope(**members, extensions={"mine": "kept"})


def test_binary_data_is_bytes() -> None:
    assert gate.read(body(data_base64="AAEC/w==")).data == b"\x00\x01\x02\xff"


def test_empty_binary_data_is_not_the_absence_of_data() -> None:
    envelope = gate.read(body(data_base64=""))

    assert envelope.data == b""
    assert gate.read(gate.write(envelope)).data == b""


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion"])
@pytest.mark.parametrize("value", [..., "", None], ids=["absent", "empty", "null"])
def test_a_required_attribute_must_be_there(name: str, value: Any) -> None:
    with pytest.raises(MissingAttribute, match=name):
        gate.read(body(**{name: value}))


@pytest.mark.parametrize("value", ["0.3", "1.1", "1", 1.0])
def test_only_specversion_1_0_is_read(value: object) -> None:
    with pytest.raises(BadAttribute, match=r"specversion.*wants '1\.0'"):
        gate.read(body(specversion=value))


@pytest.mark.parametrize("name", ["id", "source", "type", "subject", "time", "partitionkey", "traceparent"])
@pytest.mark.parametrize("value", [5, True, 1.5, ["x"], {"x": 1}])
def test_what_should_be_text_must_be_text(name: str, value: object) -> None:
    with pytest.raises(BadAttribute, match=f"{name}.*wants a string"):
        gate.read(body(**{name: value}))


@pytest.mark.parametrize(
    "name", ["subject", "datacontenttype", "dataschema", "time", "partitionkey", "correlationid", "causationid"]
)
def test_an_optional_attribute_is_not_empty(name: str) -> None:
    with pytest.raises(BadAttribute, match="not empty"):
        gate.read(body(**{name: ""}))


@pytest.mark.parametrize("value", ["a\x00b", "a\r\nNats-Rollup: all", "\x7f", "\x85", "\ufffe", "\U0001ffff"])
@pytest.mark.parametrize("name", ["id", "type", "subject", "mine"])
def test_text_holds_no_control_characters_and_no_noncharacters(name: str, value: str) -> None:
    with pytest.raises(BadAttribute, match="without control characters"):
        gate.read(body(**{name: value}))


@pytest.mark.parametrize("value", ["a b", "\u00a0", "\u200b", "\ue000", "😀", '=?\\"'])
def test_other_unusual_characters_are_allowed(value: str) -> None:
    assert gate.read(body(subject=value, mine=value)).subject == value


@pytest.mark.parametrize("name", ["time", "expirytime"])
@pytest.mark.parametrize(
    "value",
    [
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00Z",
        "2026-01-31T12:00Z",
        "2026-1-31T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-02-29T12:00:00Z",
        "2026-04-31T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:00:61Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00+0100",
        "2026-01-31T12:00:00+24:00",
        "\uff12026-01-31T12:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-W05-6T12:00:00Z",
        "yesterday",
    ],
)
def test_a_time_is_rfc_3339(name: str, value: str) -> None:
    with pytest.raises(BadAttribute, match="RFC 3339"):
        gate.read(body(**{name: value}))


@pytest.mark.parametrize(
    "value",
    ["2024-02-29T12:00:00Z", "1990-12-31T23:59:60Z", "2026-01-31t12:00:00.1z", "1996-12-19T16:39:57-08:00"],
)
def test_unusual_times_are_allowed(value: str) -> None:
    assert gate.read(body(time=value)).time == value


@pytest.mark.parametrize("name", ["Mine", "my-ext", "my_ext", "my ext", "", "größe", "x" * 65])
def test_an_extension_name_is_lower_case_letters_and_digits(name: str) -> None:
    with pytest.raises(BadAttribute, match="a name of 1 to 64"):
        gate.read(body(**{name: "x"}))


def test_an_extension_name_may_be_longer_than_cloudevents_advises() -> None:
    assert gate.read(body(**{"x" * 64: 1})).extensions == {"x" * 64: 1}


@pytest.mark.parametrize("value", [1.5, [], {}, [1], {"a": 1}, 2**31, -(2**31) - 1, 1e3])
def test_an_extension_is_a_string_a_boolean_or_a_small_integer(value: object) -> None:
    with pytest.raises(BadAttribute, match="32 bits"):
        gate.read(body(mine=value))


@pytest.mark.parametrize("value", [-1, "3", True, 1.0, 2**31])
def test_hops_are_counted_from_zero(value: object) -> None:
    with pytest.raises(BadAttribute, match="hkhops"):
        gate.read(body(hkhops=value))


@pytest.mark.parametrize("value", ["json", "/json", "text/", "te xt/plain", "text/plain, text/html"])
def test_a_datacontenttype_is_a_media_type(value: str) -> None:
    with pytest.raises(BadAttribute, match="media type"):
        gate.read(body(datacontenttype=value))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "nonsense",
        TRACE.upper(),
        TRACE + "-more",
        "ff" + TRACE[2:],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        "cc" + TRACE[2:] + "more",
    ],
)
def test_a_broken_trace_is_dropped_and_not_fatal(value: str) -> None:
    envelope = gate.read(body(traceparent=value, tracestate="a=1"))

    assert (envelope.traceparent, envelope.tracestate) == (None, None)


@pytest.mark.parametrize("value", [TRACE, "cc" + TRACE[2:], "cc" + TRACE[2:] + "-more"])
def test_a_sound_trace_of_any_version_is_kept(value: str) -> None:
    assert gate.read(body(traceparent=value)).traceparent == value


def test_a_tracestate_without_its_traceparent_is_dropped() -> None:
    assert gate.read(body(tracestate="a=1")).tracestate is None


def test_data_comes_once() -> None:
    with pytest.raises(DataRefused, match="both"):
        gate.read(body(data={}, data_base64="AA=="))


@pytest.mark.parametrize("value", ["A", "AA=", "A A=", "AA==AA==", "_-8=", "é", 5, {}])
def test_data_base64_is_base64(value: object) -> None:
    with pytest.raises(DataRefused, match="base64"):
        gate.read(body(data_base64=value))


def test_data_of_another_media_type_than_json_is_text() -> None:
    with pytest.raises(DataRefused, match="wants a string, as datacontenttype is application/xml"):
        gate.read(body(datacontenttype="application/xml", data={"not": "xml"}))


@pytest.mark.parametrize("text", [b"[]", b'"text"', b"5", b"null", b"true"])
def test_a_body_that_is_no_object_is_no_event(text: bytes) -> None:
    with pytest.raises(NotAnEvent, match="wants a JSON object"):
        gate.read(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{}{}",
        b"\xef\xbb\xbf" + body(),
        body().replace(b"trip", b"tr\xffp"),
        body().replace(b"trip", b"\xed\xa0\x80"),
        body().replace(b"trip", b"\\ud800"),
        body(data=1).replace(b"1}", b"NaN}"),
        body(data=1).replace(b"1}", b"-Infinity}"),
        body(data=1).replace(b"1}", b"1e999}"),
        body().decode().encode("utf-16"),
    ],
)
def test_what_is_no_json_is_no_event(text: bytes) -> None:
    with pytest.raises(NotAnEvent, match="not acceptable as JSON"):
        gate.read(text)


@pytest.mark.parametrize("number", [b"18446744073709551616", b"-9223372036854775809", b"9" * 300])
def test_an_integer_that_would_be_rounded_is_refused(number: bytes) -> None:
    with pytest.raises(NotAnEvent, match="more than 64 bits"):
        gate.read(body(data=1).replace(b"1}", number + b"}"))


@pytest.mark.parametrize(
    "text", [body().replace(b"{", b'{"id": "2", '), body(data={"a": 1}).replace(b'"a": 1', b'"a": 1, "\\u0061": 2')]
)
def test_a_name_occurs_once_in_an_object(text: bytes) -> None:
    with pytest.raises(NotAnEvent, match="twice"):
        gate.read(text)


def test_nesting_ends_at_the_limit() -> None:
    deepest = body(data=1).replace(b"1}", b"[[],{}," + b"[" * 62 + b"]" * 63 + b"}")
    deeper = deepest.replace(b"[]]", b"[[]]]")

    assert gate.read(deepest)
    with pytest.raises(TooDeep):
        gate.read(deeper)


def test_brackets_in_a_text_are_no_nesting() -> None:
    text = '[{"\\' * 1000

    assert gate.read(body(data=text)).data == text


@pytest.mark.parametrize("text", [b"[" * 900_000, b'["\\' * 300_000, b'{"a":' * 150_000])
def test_endless_nesting_is_refused_before_it_is_parsed(text: bytes) -> None:
    with pytest.raises((TooDeep, TooMany)):
        gate.read(text)


def test_the_limit_of_bytes_is_the_last_size_that_passes() -> None:
    text = body(data="x" * 100)

    assert gate.read(text, size_max=len(text))
    with pytest.raises(TooLarge, match=f"{len(text)} bytes, the limit is {len(text) - 1}"):
        gate.read(text, size_max=len(text) - 1)


def test_a_megabyte_and_one_byte_is_too_large() -> None:
    with pytest.raises(TooLarge):
        gate.read(b" " * (gate.SIZE_MAX + 1))


def test_masses_of_attributes_are_refused() -> None:
    with pytest.raises(TooMany, match="attributes"):
        gate.read(body(**{f"x{i}": i for i in range(gate.ATTRIBUTES_MAX)}))


@pytest.mark.parametrize("item", [b"1,", b"{},"])
def test_masses_of_values_are_refused(item: bytes) -> None:
    with pytest.raises(TooMany, match="values"):
        gate.read(body(data=1).replace(b"1}", b"[" + item * VALUES_MAX + b"1]}"))


def test_a_batch_is_refused() -> None:
    with pytest.raises(UnsupportedFormat, match="cloudevents-batch"):
        gate.read(b"[" + body() + b"]", "application/cloudevents-batch+json")


@pytest.mark.parametrize("content_type", ["application/cloudevents+avro", "Application/CloudEvents+XML; a=b"])
def test_another_event_format_is_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedFormat):
        gate.read(body(), content_type)


@pytest.mark.parametrize(
    "content_type",
    [None, "application/cloudevents", "application/cloudevents+json", "APPLICATION/CloudEvents+JSON ;charset=utf-8"],
)
def test_structured_mode_is_recognised(content_type: str | None) -> None:
    assert gate.read(body(), content_type).id == "1"


def test_the_content_type_is_found_among_the_headers() -> None:
    headers = {"Nats-Batch-Id": "b", "content-type": "application/cloudevents+json", "ce-id": "ignored"}

    assert gate.read(body(), None, headers).id == "1"


def test_an_error_does_not_repeat_what_is_long() -> None:
    secret = "x" * 10_000

    with pytest.raises(MalformedEvent) as refused:
        gate.read(body(**{secret: secret}))

    assert len(str(refused.value)) < 400


ENVELOPE = Envelope(id="1", source="/here", type="trip.planned.v1", data={"a": 1})


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"id": ""}, MissingAttribute),
        ({"partitionkey": "a\nb"}, BadAttribute),
        ({"correlationid": "\ud800"}, BadAttribute),
        ({"time": "today"}, BadAttribute),
        ({"hkhops": -1}, BadAttribute),
        ({"extensions": {"Bad": 1}}, BadAttribute),
        ({"extensions": {"big": 2**31}}, BadAttribute),
        ({"extensions": {"id": "2"}}, BadAttribute),
        ({"extensions": {"subject": "2"}}, BadAttribute),
        ({"extensions": {"specversion": "1.0"}}, BadAttribute),
        ({"extensions": {"data": "2"}}, BadAttribute),
        ({"data": float("nan")}, DataRefused),
        ({"data": {"a": [float("inf")]}}, DataRefused),
        ({"data": {"a": "\ud800"}}, DataRefused),
        ({"data": {1: 2}}, DataRefused),
        ({"data": 2**64}, DataRefused),
        ({"data": {"a": object()}}, DataRefused),
        ({"data": {}, "datacontenttype": "text/plain"}, DataRefused),
    ],
)
def test_what_nobody_could_read_is_not_written(changes: dict[str, Any], refusal: type[MalformedEvent]) -> None:
    with pytest.raises(refusal):
        gate.write(replace(ENVELOPE, **changes))


def test_what_is_too_deep_to_be_read_is_not_written() -> None:
    data: Any = {}
    for _ in range(gate.DEPTH_MAX - 1):
        data = [data]

    with pytest.raises(TooDeep):
        gate.write(replace(ENVELOPE, data=data))


def test_a_null_in_the_data_is_written() -> None:
    assert gate.read(gate.write(replace(ENVELOPE, data={"a": None, "b": "null"}))).data == {"a": None, "b": "null"}


def test_an_envelope_that_was_read_is_a_frozen_value_like_any_other() -> None:
    envelope = gate.read(body(subject="s"))

    assert envelope == Envelope(id="1", source="/here", type="trip.planned.v1", subject="s")
    assert replace(envelope, subject=None).subject is None
    with pytest.raises(AttributeError):
        envelope.id = "2"  # type: ignore[misc] # that it is refused is what is tested
