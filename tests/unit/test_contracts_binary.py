"""Binary mode: attributes in `ce-` headers, the body the data alone."""

from typing import Any

import pytest

from hocket_schemas import gate
from hocket_schemas.errors import (
    BadAttribute,
    MissingAttribute,
    NotAnEvent,
    TooDeep,
    TooLarge,
    TooMany,
)

HEADERS = {"ce-specversion": "1.0", "ce-id": "1234", "ce-source": "/mycontext/sub", "ce-type": "trip.planned.v1"}


def headers(**more: str) -> dict[str, str]:
    return HEADERS | {f"ce-{name}": value for name, value in more.items()}


def test_a_message_without_content_type_is_binary_when_it_has_ce_headers() -> None:
    envelope = gate.read(b'{"route": "ZRH-OSL"}', None, headers(datacontenttype="application/json"))

    assert (envelope.id, envelope.source, envelope.data) == ("1234", "/mycontext/sub", {"route": "ZRH-OSL"})


def test_the_content_type_stands_in_for_datacontenttype() -> None:
    envelope = gate.read(b'{"a": 1}', "application/json", HEADERS)

    assert (envelope.datacontenttype, envelope.data) == ("application/json", {"a": 1})


def test_header_names_have_no_case() -> None:
    envelope = gate.read(b"", None, {name.upper(): value for name, value in headers(MyExt="x").items()})

    assert (envelope.id, envelope.extensions) == ("1234", {"myext": "x"})


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%e2%82%ac", "€"),
        ("100%25", "100%"),
        ("%2541", "%41"),
        ("%41needless", "Aneedless"),
        ('"quoted \\"text\\" and \\\\"', 'quoted "text" and \\'),
        ('"Euro%20%E2%82%AC"', "Euro €"),
        (" spaces around \t", "spaces around"),
        ('"', '"'),
    ],
)
def test_header_values_are_unquoted_and_percent_decoded_once(value: str, meaning: str) -> None:
    assert gate.read(b"", None, headers(subject=value)).subject == meaning


@pytest.mark.parametrize("value", ["%C0%A0", "%ff", "%ED%A0%80", "100%", "%zz", "%2", "€"])
def test_a_header_value_that_is_badly_encoded_is_refused(value: str) -> None:
    with pytest.raises(BadAttribute, match=r"percent|hexadecimal"):
        gate.read(b"", None, headers(subject=value))


def test_an_encoded_line_break_is_still_a_control_character() -> None:
    with pytest.raises(BadAttribute, match="control characters"):
        gate.read(b"", None, headers(subject="a%0D%0Ab"))


@pytest.mark.parametrize(
    ("media_type", "body", "data"),
    [
        ("application/json", b"1.5", 1.5),
        ("application/json", b'"text"', "text"),
        ("application/cloud+json; charset=utf-8", b"[1]", [1]),
        ("TEXT/JSON", b"{}", {}),
        ("application/xml", b'<much wow="xml"/>', '<much wow="xml"/>'),
        ("image/svg+xml", b"<svg/>", "<svg/>"),
        ("text/plain; charset=utf-8", "Grüße".encode(), "Grüße"),
        ("text/plain; charset=iso-8859-1", "Ã¼".encode("latin1"), "ü".encode()),
        ("text/plain", b"\xff\xfe", b"\xff\xfe"),
        ("application/octet-stream", b"text", b"text"),
        ("application/jsonlines", b"{}", b"{}"),
    ],
)
def test_the_media_type_says_what_the_body_is(media_type: str, body: bytes, data: Any) -> None:
    envelope = gate.read(body, media_type, HEADERS)

    assert envelope.data == data
    assert type(envelope.data) is type(data)
    assert gate.read(gate.write(envelope)) == envelope


def test_without_a_media_type_nothing_is_assumed() -> None:
    assert gate.read(b'{ "xyz": 123 }', None, HEADERS).data == b'{ "xyz": 123 }'


@pytest.mark.parametrize("media_type", [None, "application/json", "text/plain"])
def test_an_empty_body_is_no_data(media_type: str | None) -> None:
    assert gate.read(b"", media_type, HEADERS).data is None


def test_hops_are_a_number_and_what_is_unknown_stays_text() -> None:
    envelope = gate.read(b"", None, headers(hkhops="3", mine="5", flag="true"))

    assert envelope.hkhops == 3
    assert envelope.extensions == {"mine": "5", "flag": "true"}


@pytest.mark.parametrize("value", ["-1", "03", "1.0", "", "two", "4294967296", "9" * 5000])
def test_hops_that_are_no_number_are_refused(value: str) -> None:
    with pytest.raises(BadAttribute, match="hkhops"):
        gate.read(b"", None, headers(hkhops=value))


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion"])
def test_a_required_attribute_must_be_there(name: str) -> None:
    with pytest.raises(MissingAttribute, match=name):
        gate.read(b"", None, {n: v for n, v in HEADERS.items() if n != f"ce-{name}"})


def test_an_attribute_comes_once() -> None:
    with pytest.raises(BadAttribute, match="once"):
        gate.read(b"", None, headers() | {"CE-ID": "another"})


@pytest.mark.parametrize("name", ["data", "my-ext", "my_ext", "", "x" * 65])
def test_an_attribute_name_is_lower_case_letters_and_digits(name: str) -> None:
    with pytest.raises(BadAttribute, match="a name of 1 to 64"):
        gate.read(b"", None, headers(**{name: "x"}))


def test_a_structured_event_that_is_not_labelled_as_one_is_told_how() -> None:
    with pytest.raises(NotAnEvent, match=r"wants|that of a structured event, application/cloudevents\+json"):
        gate.read(b'{"specversion": "1.0"}', "application/json")


def test_json_that_is_none_is_refused() -> None:
    with pytest.raises(NotAnEvent):
        gate.read(b"{", "application/json", HEADERS)


def test_nesting_leaves_room_for_the_event_around_it() -> None:
    deepest = b"[" * 63 + b"]" * 63

    assert gate.write(gate.read(deepest, "application/json", HEADERS))
    with pytest.raises(TooDeep):
        gate.read(b"[" + deepest + b"]", "application/json", HEADERS)


def test_masses_of_headers_are_refused() -> None:
    with pytest.raises(TooMany, match="10004 headers"):
        gate.read(b"", None, headers(**{f"x{i}": "y" for i in range(10_000)}))


def test_headers_count_towards_the_size() -> None:
    with pytest.raises(TooLarge):
        gate.read(b"", None, headers(subject="x" * 1000), size_max=1000)
