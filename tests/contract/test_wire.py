"""What goes over the wire, and what comes back, as values."""

from datetime import timedelta

import orjson
import pytest

from hocket.errors import AppendTooLarge, Conflict, HocketError, LogError, OutcomeUnknown, StorageFull, Unavailable
from hocket.log.base import Expect, Seq, Write
from hocket.log.pull import Position, position
from hocket.log.wire import Again, Frame, Refused, Stored, frames, headers_of, stored_message, verdict


def refused(code: int, err_code: int, description: str = "") -> bytes:
    error = {"code": code, "err_code": err_code, "description": description}
    return orjson.dumps({"error": error, "stream": "S", "seq": 0})


def test_a_single_write_is_a_plain_publish() -> None:
    write = Write("d.0.evt.a", b"x", Expect("d.0.own.a", 7), timedelta(days=1), {"Content-Type": "text/plain"})

    (frame,) = frames([write], "batch")

    assert (frame.subject, frame.data) == ("d.0.evt.a", b"x")
    assert frame.size == len(frame.head) + 1
    assert headers_of(frame.head) == {
        "Content-Type": "text/plain",
        "Nats-Expected-Last-Subject-Sequence": "7",
        "Nats-Expected-Last-Subject-Sequence-Subject": "d.0.own.a",
        "Nats-TTL": "86400s",
    }


def test_a_write_without_conditions_travels_without_headers() -> None:
    assert frames([Write("d.0.a", b"x")], "batch") == [Frame("d.0.a", b"x")]


def test_several_writes_are_a_batch_that_its_last_one_commits() -> None:
    made = frames([Write("d.0.a", b"1", Expect("d.0.a", 0)), Write("d.0.b", b"2")], "batch")

    assert [headers_of(frame.head) for frame in made] == [
        {"Nats-Batch-Id": "batch", "Nats-Batch-Sequence": "1", "Nats-Expected-Last-Subject-Sequence": "0"},
        {"Nats-Batch-Id": "batch", "Nats-Batch-Sequence": "2", "Nats-Batch-Commit": "1"},
    ]


def test_each_write_of_a_batch_says_its_own_conditions() -> None:
    written = [
        Write("d.0.a", b"1", Expect("d.0.a", 0)),
        Write("d.0.b", b"2", Expect("d.0.a", 0)),
        Write("d.0.c", b"3", ttl=timedelta(days=1)),
        Write("d.0.d", b"4", ttl=timedelta(days=1)),
        Write("d.0.e", b"5"),
    ]

    made = [headers_of(frame.head) for frame in frames(written, "batch")]

    assert ["Nats-Expected-Last-Subject-Sequence" in headers for headers in made] == [True, True, False, False, False]
    assert [headers.get("Nats-Expected-Last-Subject-Sequence-Subject") for headers in made[:2]] == [None, "d.0.a"]
    assert [headers.get("Nats-TTL") for headers in made] == [None, None, "86400s", "86400s", None]


def test_a_stored_append_says_where_its_last_write_is() -> None:
    assert verdict(b'{"stream":"S","seq":5}', "S", 1) == Stored(Seq(5))
    assert verdict(b'{"stream":"S","seq":7,"batch":"b","count":3}', "S", 3) == Stored(Seq(7))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refused(400, 10071, "wrong last sequence: 2"), Conflict),
        (refused(503, 10077, "maximum bytes exceeded"), StorageFull),
        (refused(503, 10077, "write d.blk: no space left on device"), StorageFull),
        (refused(500, 10047), StorageFull),
        (refused(400, 10054), AppendTooLarge),
        (refused(400, 10199), AppendTooLarge),
        (refused(503, 10077, "store is closed"), Unavailable),
        (refused(400, 10165, "invalid per-message TTL"), LogError),
    ],
)
def test_a_refusal_has_its_own_error(answer: bytes, error: type[HocketError]) -> None:
    found = verdict(answer, "S", 1)

    assert isinstance(found, Refused)
    assert type(found.error) is error


@pytest.mark.parametrize("err_code", [10008, 10164, 10176, 10210])
def test_a_passing_refusal_may_be_tried_again(err_code: int) -> None:
    assert isinstance(verdict(refused(400, err_code), "S", 2), Again)


@pytest.mark.parametrize(
    "answer",
    [b"", b"+OK", b"[]", b"{}", b'{"stream":"T","seq":5}', b'{"stream":"S","seq":5,"count":2}', b'{"stream":"S"}'],
)
def test_an_answer_that_is_none_leaves_the_outcome_unknown(answer: bytes) -> None:
    with pytest.raises(OutcomeUnknown):
        verdict(answer, "S", 1)


def test_a_stored_message_is_read_to_the_nanosecond_and_without_the_protocols_headers() -> None:
    body = {
        "subject": "d.0.a",
        "seq": 3,
        "hdrs": "TkFUUy8xLjANCk5hdHMtQmF0Y2gtSWQ6IGINCkNvbnRlbnQtVHlwZTogeC95OyBhPWI6Yw0KDQo=",
        "data": "AAE=",
        "time": "2026-01-01T00:00:00.12345678Z",
    }

    message = stored_message(body)

    assert (message.seq, message.data) == (3, b"\x00\x01")
    assert message.time_ns == 1_767_225_600_123_456_780
    assert message.headers == {"Content-Type": "x/y; a=b:c"}


@pytest.mark.parametrize(
    "subject",
    [
        "$JS.ACK.S.C.1.20.3.1795378567962990236.9",
        "$JS.ACK._.account.S.C.1.20.3.1795378567962990236.9",
        "$JS.ACK.domain.account.S.C.1.20.3.1795378567962990236.9.random",
    ],
)
def test_each_form_of_an_acknowledgement_is_read(subject: str) -> None:
    assert position(subject) == Position(delivered=1, seq=20, nth=3, time_ns=1795378567962990236, pending=9)


@pytest.mark.parametrize("subject", ["", "_INBOX.a.b", "$JS.ACK.S.C.1.2", "$JS.ACK.S.C.a.b.c.d.e"])
def test_what_is_no_acknowledgement_is_seen(subject: str) -> None:
    assert position(subject) is None
