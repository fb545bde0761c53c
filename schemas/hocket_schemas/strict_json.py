"""JSON that means the same to every reader: what orjson reads, less what it reads by guessing."""

import json
import re
from array import array
from itertools import accumulate
from typing import Any

import orjson

from hocket_schemas.errors import NotAnEvent, TooDeep, TooMany, quoted

VALUES_MAX = 100_000
"""Most values in one text, an object or array that follows a comma counted twice: each costs memory far
beyond its two bytes."""

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_STEP = bytes(b for b in range(256) if b not in b"{}[]")
_STEPS = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")


def parse(text: bytes, *, depth_max: int) -> Any:
    """Read one JSON text. Raises NotAnEvent, TooDeep and TooMany, and nothing else.

    Beyond what JSON itself forbids, refused are NaN and infinities, lone surrogates, a name that occurs
    twice in one object, and integers of more than 64 bits, which would come out rounded.
    """
    check_bounds(text, depth_max)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotAnEvent(f"not acceptable as JSON: {error}") from None
    # Most texts were written by orjson. One that it would write again byte for byte lost nothing when it
    # was read, neither a second member of one name nor a digit; only others are looked at closely.
    if orjson.dumps(value) != text:
        json.loads(text, object_pairs_hook=_refuse_twins, parse_int=_refuse_wide)
    return value


def check_bounds(text: bytes, depth_max: int) -> None:
    """Refuse deep nesting (TooDeep) and masses of values (TooMany), whatever else the text is."""
    if len(text) <= VALUES_MAX and text.count(b"{") + text.count(b"[") <= depth_max:
        return
    bare = _STRING.sub(b"", text)
    steps = bare.translate(_STEPS, _NO_STEP)
    values = bare.count(b",") + steps.count(1)
    if values > VALUES_MAX:
        raise TooMany("values", values, VALUES_MAX)
    if max(accumulate(array("b", steps)), default=0) > depth_max:
        raise TooDeep(depth_max)


def _refuse_twins(members: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in members:
        if name in seen:
            raise NotAnEvent(f"the name {quoted(name)} occurs twice in one object")
        seen.add(name)


def _refuse_wide(digits: str) -> int:
    if not -(2**63) <= int(digits) < 2**64:
        raise NotAnEvent(f"the integer {digits[:40]} has more than 64 bits; write it as a string")
    return 0
