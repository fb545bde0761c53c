"""Binary mode: attributes that travel as `ce-` headers, and a body that is the data alone."""

import re
from collections.abc import Mapping

from hocket_schemas.errors import BadAttribute

PREFIX = "ce-"

_QUOTED_PAIR = re.compile(r"\\(.)")
_ESCAPES = re.compile(rb"%([0-9A-Fa-f]{2})")
_JSON_MEDIA = re.compile(r"[^/;\s]+/(?:[^/;\s]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_TEXT_MEDIA = re.compile(r"text/[^/;\s]+|[^/;\s]+/(?:[^/;\s]+\+)?xml", re.IGNORECASE)
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s";]*)', re.IGNORECASE)


def content_type_in(headers: Mapping[str, str]) -> str | None:
    """The value of the Content-Type header, however its name is spelled."""
    for name, value in headers.items():
        if name.lower() == "content-type":
            return value
    return None


def attributes_in(headers: Mapping[str, str]) -> dict[str, str]:
    """Every attribute among the headers, decoded. Raises BadAttribute."""
    attributes: dict[str, str] = {}
    for header, value in headers.items():
        if header[:3].lower() != PREFIX:
            continue
        name = header[3:].lower()
        if name in attributes:
            raise BadAttribute(name, value, "to be there once")
        attributes[name] = decoded(name, value)
    return attributes


def decoded(name: str, value: str) -> str:
    """Undo quotation, which older publishers use, and one round of percent-encoding. Raises BadAttribute."""
    value = value.strip(" \t")
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _QUOTED_PAIR.sub(r"\1", value[1:-1])
    if not value.isascii():
        raise BadAttribute(name, value, "percent-encoding of whatever is not ASCII")
    if "%" not in value:
        return value
    raw, escapes = _ESCAPES.subn(lambda match: bytes.fromhex(match[1].decode()), value.encode())
    if escapes != value.count("%"):
        raise BadAttribute(name, value, "two hexadecimal digits after each '%'")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadAttribute(name, value, "percent-encoded UTF-8") from None


def is_json(media_type: str) -> bool:
    """Whether a media type declares JSON: its subtype is `json` or ends with `+json`."""
    return _JSON_MEDIA.fullmatch(media_type) is not None


def text_or_bytes(body: bytes, media_type: str | None) -> str | bytes:
    """The body as text where the media type says that it is text in UTF-8, else as it came."""
    if media_type is None or _TEXT_MEDIA.match(media_type) is None:
        return body
    charset = _CHARSET.search(media_type)
    if charset is not None and charset[1].lower() not in ("utf-8", "us-ascii"):
        return body
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body
