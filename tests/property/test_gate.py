"""The gate under whatever comes: it reads what it writes, and refuses the rest in one way only."""

import json
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hocket_schemas import gate
from hocket_schemas.envelope import Envelope
from hocket_schemas.errors import MalformedEvent

BOUNDED = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
MUTANTS = 100
"""How many broken inputs are made of each example: Hypothesis's own would take too long for thousands."""

ATTRIBUTES = (
    *("id", "source", "type", "specversion", "time", "subject", "datacontenttype", "dataschema", "data"),
    *("data_base64", "partitionkey", "correlationid", "traceparent", "expirytime", "hkhops", "mine", "Bad-1"),
)
TOKENS = (
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"NaN", b"1e999", b"-0", b"9" * 30, b"\\ud800"),
    *(b"\xff", b"\x00", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'"id":"2",', b'"data":1,', b"[" * 70, b'{"a":' * 70),
)

nonempty = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=12)
anything = st.text(max_size=8)
moments = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - Hypothesis wants its bounds without a zone
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=8))]),
).map(lambda moment: moment.isoformat().replace("+00:00", "Z"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
extension_names = st.from_regex(r"x[a-z0-9]{0,20}", fullmatch=True)
extensions = st.dictionaries(extension_names, st.booleans() | st.integers(-(2**31), 2**31 - 1) | nonempty, max_size=3)
traces = st.from_regex(r"(00|cc)-[0-9a-f]{31}1-[0-9a-f]{15}1-[0-9a-f]{2}", fullmatch=True)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    media_type = draw(st.sampled_from([None, "application/json", "application/x+json", "text/plain", "a/b; c=d"]))
    texts = values if media_type is None or "json" in media_type else st.text(st.characters(codec="utf-8"))
    traceparent = draw(st.none() | traces)
    return Envelope(
        id=draw(nonempty),
        source=draw(nonempty),
        type=draw(nonempty),
        data=draw(st.none() | st.binary(max_size=20) | texts),
        time=draw(st.none() | moments),
        subject=draw(st.none() | nonempty),
        datacontenttype=media_type,
        partitionkey=draw(st.none() | nonempty),
        correlationid=draw(st.none() | nonempty),
        traceparent=traceparent,
        tracestate=draw(st.none() | nonempty) if traceparent else None,
        expirytime=draw(st.none() | moments),
        hkhops=draw(st.integers(0, 2**31 - 1)),
        extensions=draw(extensions),
    )


@settings(BOUNDED, max_examples=250)
@given(envelopes(), st.sampled_from([None, 2]))
def test_what_is_written_is_read_as_the_same_envelope_however_it_is_laid_out(
    envelope: Envelope, indent: int | None
) -> None:
    text = gate.write(envelope)
    other = json.dumps(json.loads(text), indent=indent, sort_keys=True).encode()

    assert gate.read(text) == envelope
    assert gate.write(gate.read(text)) == text
    assert gate.read(other, gate.CONTENT_TYPE) == envelope


@settings(BOUNDED, max_examples=300)
@given(
    st.fixed_dictionaries(
        {"id": anything, "source": anything, "type": anything},
        optional=dict.fromkeys(("time", "subject", "datacontenttype", "partitionkey", "traceparent"), anything)
        | {"hkhops": st.integers(), "data": values | st.floats() | st.binary(max_size=8) | st.text(max_size=8)}
        | {"extensions": st.dictionaries(anything | st.sampled_from(ATTRIBUTES), st.integers() | anything, max_size=2)},
    )
)
def test_what_is_written_at_all_can_be_read(fields: dict[str, Any]) -> None:
    try:
        text = gate.write(Envelope(**fields))
    except MalformedEvent:
        return

    assert gate.write(gate.read(text)) == text


@settings(BOUNDED, max_examples=200)
@given(envelopes(), st.integers(0, 2**32))
def test_a_broken_event_is_refused_as_malformed_or_reads_as_what_can_be_written(envelope: Envelope, seed: int) -> None:
    random, text = Random(seed), gate.write(envelope)

    for _ in range(MUTANTS):
        mutant = broken(text, random) if random.random() < 0.6 else altered(text, random)
        survives(mutant, None, {})


@settings(BOUNDED, max_examples=300)
@given(st.binary(max_size=200), st.none() | anything, st.dictionaries(anything, anything, max_size=3))
def test_arbitrary_messages_are_refused_as_malformed(
    body: bytes, content_type: str | None, headers: dict[str, str]
) -> None:
    survives(body, content_type, headers)


@settings(BOUNDED, max_examples=300)
@given(
    st.binary(max_size=30) | values.map(lambda value: json.dumps(value).encode()),
    st.none() | st.sampled_from(["application/json", "text/plain", "text/xml; charset=latin1", "a/b"]) | anything,
    st.dictionaries(st.sampled_from([f"ce-{name}" for name in ATTRIBUTES]), nonempty | anything, max_size=6),
)
def test_binary_mode_is_refused_as_malformed_or_reads_as_what_can_be_written(
    body: bytes, content_type: str | None, headers: dict[str, str]
) -> None:
    required = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/here", "ce-type": "trip.planned.v1"}

    survives(body, content_type, required | headers)
    survives(body, content_type, headers)


def survives(body: bytes, content_type: str | None, headers: dict[str, str]) -> None:
    """Nothing but MalformedEvent comes out of the gate, and what it lets in it can let out."""
    try:
        envelope = gate.read(body, content_type, headers)
    except MalformedEvent as refusal:
        said = str(refusal)
    else:
        said = ""
        assert gate.read(gate.write(envelope)) == envelope, body
    assert len(said) < 1000


def broken(text: bytes, random: Random) -> bytes:
    """The text with a few places cut out, overwritten, doubled, or filled with what parsers stumble over."""
    for _ in range(random.randint(1, 3)):
        start = random.randrange(len(text) + 1)
        end = min(len(text), start + random.choice((0, 0, 1, 1, 5, 40)))
        filling = random.choice((b"", random.choice(TOKENS), random.randbytes(1), text[start:end] * 2))
        text = text[:start] + filling + text[end:]
    return text


def altered(text: bytes, random: Random) -> bytes:
    """Still JSON, but with members that have the wrong value or type, or should not be there."""
    members = json.loads(text)
    for _ in range(random.randint(1, 3)):
        members[random.choice(ATTRIBUTES)] = random.choice(
            (
                None,
                "",
                "x",
                "é",
                "\x00",
                "\ud800",
                0,
                1,
                -1,
                2**31,
                2**70,
                1.5,
                1e999,
                True,
                [],
                {},
                [[1]],
                "2026-01-01T00:00:00Z",
            )
        )
    return json.dumps(members).encode()
