"""The gate: bytes become an envelope, and an envelope an event, or a refusal that says what is wrong.

It is strict so that nothing behind it has to be. Whatever it lets in it can let out, and whatever it lets
out it reads again as the same envelope.
"""

import json
import re
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, TypeVar, overload

import orjson
from pydantic import ValidationError

from hocket_schemas import strict_json
from hocket_schemas.envelope import AttributeValue, Envelope, of_checked
from hocket_schemas.errors import (
    BadAttribute,
    DataRefused,
    MissingAttribute,
    NotAnEvent,
    TooLarge,
    TooMany,
    UnsupportedFormat,
    quoted,
)
from hocket_schemas.event import CATALOG, Catalog, Event
from hocket_schemas.headers import PREFIX, attributes_in, content_type_in, is_json, text_or_bytes
from hocket_schemas.moment import is_moment

CONTENT_TYPE = "application/cloudevents+json"
"""What `write` writes."""

SIZE_MAX = 1_000_000
"""Largest event that `read` takes unless told otherwise, in bytes; headers count."""

DEPTH_MAX = 64
"""Deepest nesting of objects and arrays, the event itself being the first."""

ATTRIBUTES_MAX = 128
"""Most attributes of one event, and most headers of one message."""

NAME_LENGTH_MAX = 64
"""Longest extension name. CloudEvents advises 20, but only advises."""

INTEGER_MIN, INTEGER_MAX = -(2**31), 2**31 - 1
"""CloudEvents' Integer has 32 bits."""

REASONS_MAX = 10
"""Most faults that one DataRefused lists."""

E = TypeVar("E", bound=Event)

_TRACE = ("traceparent", "tracestate")
_NO_ATTRIBUTES = ("data", "extensions")
_IS_TEXT = frozenset(field.name for field in fields(Envelope)) - {*_NO_ATTRIBUTES, "hkhops"} | {"specversion"}
_TAKEN = _IS_TEXT | {*_NO_ATTRIBUTES, "hkhops"}

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_EXTENSION_NAME = re.compile(rf"[a-z0-9]{{1,{NAME_LENGTH_MAX}}}")
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*(?:;.*)?")
_HOPS = re.compile(r"0|[1-9][0-9]{0,9}")
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:(?<!^00.{53})-.*)?"
)
_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000))
    + "]"
)
"""Control characters, lone surrogates and what Unicode says is no character."""


def read(
    body: bytes,
    content_type: str | None = None,
    headers: Mapping[str, str] = _NO_HEADERS,
    *,
    size_max: int = SIZE_MAX,
) -> Envelope:
    """Let a message in, in whichever mode it travels. Raises MalformedEvent, and nothing else.

    Structured mode: `content_type` (or the header of that name) is `application/cloudevents+json`, or there
    is none and no `ce-` header either. Anything else is binary mode. Two things are forgiven, since
    CloudEvents and W3C Trace Context ask for it: an attribute that is null counts as absent, and a
    `traceparent` that is not well formed is dropped together with its `tracestate`.
    """
    if len(body) > size_max:
        raise TooLarge(len(body), size_max)
    if len(headers) > ATTRIBUTES_MAX:
        raise TooMany("headers", len(headers), ATTRIBUTES_MAX)
    if headers or content_type:
        content_type = content_type or content_type_in(headers)
        if content_type != CONTENT_TYPE and not _is_structured(content_type, headers):
            return _read_binary(body, content_type, headers, size_max)
    return _read_structured(body)


def write(envelope: Envelope) -> bytes:
    """Let an envelope out: one JSON text, structured mode.

    Raises MalformedEvent for whatever `read` would refuse: better that the one who emits an event learns
    that nobody can read it than everyone who receives it. Only the size is left to the caller, who knows the
    limit.
    """
    members, data = attributes_of(envelope), envelope.data
    if type(data) is bytes:
        members["data_base64"] = b64encode(data).decode()
    elif data is not None:
        _check_data_fits(envelope.type, envelope.datacontenttype, data)
        members["data"] = data
    return encode(members)


def encode(members: Mapping[str, Any]) -> bytes:
    """Write members whose attributes are known to be right, such as the runtime's own; only `data` is checked.

    Raises DataRefused and TooDeep.
    """
    try:
        text = orjson.dumps(members)
        if b"null" in text:  # orjson writes NaN so, and would turn a number into nothing without a word
            json.dumps(members.get("data"), allow_nan=False, default=str)
    except (TypeError, ValueError) as error:
        raise DataRefused(members["type"], f"it cannot be written as JSON: {error}") from None
    strict_json.check_bounds(text, DEPTH_MAX)
    return text


def attributes_of(envelope: Envelope) -> dict[str, Any]:
    """Every attribute that is set, under its CloudEvents name. Raises BadAttribute, MissingAttribute, TooMany."""
    attributes: dict[str, Any] = {"specversion": "1.0"}
    for name, value in vars(envelope).items():
        if value is not None:
            attributes[name] = value
    attributes.pop("data", None)
    extensions = attributes.pop("extensions")
    if attributes.get("hkhops") == 0:
        del attributes["hkhops"]
    for name in _TAKEN.intersection(extensions):
        raise BadAttribute(name, extensions[name], "a name of its own: this one has a meaning already")
    attributes.update(extensions)
    _judge(attributes)
    return attributes


def envelope_of(event: Event, *, id: str, source: str, **attributes: Any) -> Envelope:
    """Put an event into an envelope; `attributes` are further fields of `Envelope`."""
    return Envelope(id=id, source=source, type=event.event_type, data=event.model_dump(mode="json"), **attributes)


@overload
def event_of(envelope: Envelope, into: type[E]) -> E: ...
@overload
def event_of(envelope: Envelope, into: Catalog = CATALOG) -> Event: ...
def event_of(envelope: Envelope, into: type[Event] | Catalog = CATALOG) -> Event:
    """Read the data as the event that the envelope's type names: a class, or one that a catalog finds.

    Raises UnknownType; BadAttribute when the class is one of another type; and DataRefused, with every field
    that is wrong. Validators that raise anything but ValueError and AssertionError are not caught.
    """
    declared = into.find(envelope.type) if isinstance(into, Catalog) else into
    if declared.event_type != envelope.type:
        raise BadAttribute("type", envelope.type, repr(declared.event_type))
    data = envelope.data
    if type(data) is not dict:
        found = "there is none" if data is None else f"it is {quoted(data)}"
        raise DataRefused(envelope.type, f"{found}, wants a JSON object (datacontenttype application/json)")
    try:
        return declared.model_validate(data)
    except ValidationError as error:
        raise DataRefused(envelope.type, _reasons(error)) from None


def _is_structured(content_type: str | None, headers: Mapping[str, str]) -> bool:
    if not content_type:
        return not any(name[:3].lower() == PREFIX for name in headers)
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in (CONTENT_TYPE, "application/cloudevents"):
        return True
    if media_type.startswith("application/cloudevents"):
        raise UnsupportedFormat(content_type)
    return False


def _read_structured(body: bytes) -> Envelope:
    members = strict_json.parse(body, depth_max=DEPTH_MAX)
    if type(members) is not dict:
        raise NotAnEvent(f"the body is {quoted(members)}, wants a JSON object")
    if None in members.values():
        members = {name: value for name, value in members.items() if value is not None}
    data, encoded = members.pop("data", None), members.pop("data_base64", None)
    extensions = _judge(members)
    if encoded is not None:
        data = _data_from_base64(members["type"], data, encoded)
    else:
        _check_data_fits(members["type"], members.get("datacontenttype"), data)
    return _envelope(members, extensions, data)


def _read_binary(body: bytes, content_type: str | None, headers: Mapping[str, str], size_max: int) -> Envelope:
    size = len(body) + sum(map(len, headers)) + sum(map(len, headers.values()))
    if size > size_max:
        raise TooLarge(size, size_max)
    attributes: dict[str, Any] = {**attributes_in(headers)}
    if not attributes:
        raise NotAnEvent(
            f"there is no ce- header, and content type {quoted(content_type)} is not that of a structured event, "
            f"{CONTENT_TYPE}"
        )
    if content_type:
        attributes.setdefault("datacontenttype", content_type.strip())
    if _HOPS.fullmatch(attributes.get("hkhops", "")):
        attributes["hkhops"] = int(attributes["hkhops"])
    extensions = _judge(attributes)
    media_type = attributes.get("datacontenttype")
    data: Any = None
    if media_type is not None and is_json(media_type):
        # One level less: in structured mode the data stands inside the event.
        data = strict_json.parse(body, depth_max=DEPTH_MAX - 1) if body else None
    elif body:
        data = text_or_bytes(body, media_type)
    return _envelope(attributes, extensions, data)


def _envelope(attributes: dict[str, Any], extensions: dict[str, AttributeValue], data: Any) -> Envelope:
    del attributes["specversion"]
    for name in extensions:
        del attributes[name]
    attributes["data"] = data
    attributes["extensions"] = extensions
    return of_checked(attributes)


def _judge(attributes: dict[str, Any]) -> dict[str, AttributeValue]:
    """Check every attribute, drop a broken trace, and return the extensions that have no field of their own."""
    if len(attributes) > ATTRIBUTES_MAX:
        raise TooMany("attributes", len(attributes), ATTRIBUTES_MAX)
    get = attributes.get
    if get("specversion") != "1.0":
        if get("specversion") in (None, ""):
            raise MissingAttribute("specversion")
        raise BadAttribute("specversion", get("specversion"), "'1.0'")
    if not (get("id") and get("source") and get("type")):
        for name in ("id", "source", "type"):
            if get(name) in (None, ""):
                raise MissingAttribute(name)
    extensions: dict[str, AttributeValue] = {}
    for name, value in attributes.items():
        if name in _IS_TEXT:
            # Nearly every value passes here. What is not printable may still be allowed, such as U+00A0.
            if type(value) is not str or not value or not value.isprintable():
                _check_text(name, value)
        elif name == "hkhops":
            if type(value) is not int or not 0 <= value <= INTEGER_MAX:
                raise BadAttribute(name, value, f"an integer from 0 to {INTEGER_MAX}")
        else:
            _check_extension(name, value)
            extensions[name] = value
    if (value := get("time")) is not None:
        _check_moment("time", value)
    if (value := get("expirytime")) is not None:
        _check_moment("expirytime", value)
    if (value := get("datacontenttype")) is not None and not _MEDIA_TYPE.fullmatch(value):
        raise BadAttribute("datacontenttype", value, "a media type such as application/json")
    if ("traceparent" in attributes or "tracestate" in attributes) and not _TRACEPARENT.fullmatch(
        get("traceparent", "")
    ):
        attributes.pop("traceparent", None)
        attributes.pop("tracestate", None)
    return extensions


def _check_moment(name: str, value: str) -> None:
    if not is_moment(value):
        raise BadAttribute(name, value, "an RFC 3339 date and time such as 2026-01-31T12:00:00Z")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or (not value and name not in _TRACE):
        raise BadAttribute(name, value, "a string that is not empty")
    if _FORBIDDEN.search(value):
        raise BadAttribute(name, value, "a string without control characters, surrogates and noncharacters")


def _check_extension(name: str, value: object) -> None:
    if not _EXTENSION_NAME.fullmatch(name) or name == "data":
        raise BadAttribute(name, value, f"a name of 1 to {NAME_LENGTH_MAX} characters a-z and 0-9, and not 'data'")
    if isinstance(value, str):
        if not value.isprintable() and _FORBIDDEN.search(value):
            raise BadAttribute(name, value, "a string without control characters, surrogates and noncharacters")
    elif not isinstance(value, int) or not INTEGER_MIN <= value <= INTEGER_MAX:
        raise BadAttribute(name, value, "a string, a boolean or an integer of 32 bits")


def _check_data_fits(event_type: str, media_type: str | None, data: Any) -> None:
    """Data of another media type than JSON is one string (or bytes, which travel as `data_base64`)."""
    if media_type is not None and data is not None and type(data) is not str and not is_json(media_type):
        raise DataRefused(event_type, f"it is {quoted(data)}, wants a string, as datacontenttype is {media_type[:80]}")


def _data_from_base64(event_type: str, data: Any, encoded: Any) -> bytes:
    if data is not None:
        raise DataRefused(event_type, "data and data_base64 are both there")
    try:
        return a2b_base64(encoded, strict_mode=True)
    except (TypeError, ValueError) as error:
        raise DataRefused(event_type, f"data_base64 is not base64: {error}") from None


def _reasons(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False)
    lines = [_reason(fault) for fault in faults[:REASONS_MAX]]
    if len(faults) > REASONS_MAX:
        lines.append(f"and {len(faults) - REASONS_MAX} more")
    return "; ".join(lines)


def _reason(fault: Any) -> str:
    place = ".".join(str(part)[:80] for part in fault["loc"]) or "data"
    got = "" if fault["type"] == "missing" else f" (got {quoted(fault['input'])})"
    return f"{place}: {fault['msg'][:200]}{got}"
