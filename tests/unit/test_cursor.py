"""The cursor against a plain set of finished events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.engine.cursor import Cursor, Mark
from hocket.errors import MalformedEvent


def test_a_fresh_cursor_has_finished_nothing() -> None:
    cursor = Cursor(Mark())

    assert cursor.begin(3)

    assert cursor.mark() == Mark(0, ())
    assert cursor.floor == 2


def test_an_event_finished_out_of_order_leaves_the_earlier_one_open() -> None:
    cursor = Cursor(Mark())
    for seq in (3, 5, 9):
        cursor.begin(seq)

    cursor.finish([5])

    assert cursor.mark() == Mark(5, (3,))
    assert cursor.mark(finishing={3}) == Mark(5, ())
    assert cursor.floor == 2


def test_what_an_earlier_owner_left_open_is_taken_again_and_the_rest_skipped() -> None:
    cursor = Cursor(Mark(9, (3, 7)))

    taken = [seq for seq in (3, 5, 7, 9, 11) if cursor.begin(seq)]

    assert taken == [3, 7, 11]


def test_an_open_event_that_aged_out_of_the_log_holds_nothing_up() -> None:
    cursor = Cursor(Mark(9, (3, 7)))

    cursor.begin(7)
    cursor.finish([7])

    assert cursor.mark() == Mark(9, ())
    assert cursor.floor == 9


def test_it_knows_how_many_bytes_are_in_hand() -> None:
    cursor = Cursor(Mark(9, (3, 7)))
    sizes = []

    for seq in (3, 5, 7, 11, 12):
        cursor.begin(seq, 10 * seq)
        sizes.append(cursor.bytes)
    cursor.finish([3, 11])
    cursor.finish([3])

    assert sizes == [30, 30, 100, 210, 330]
    assert cursor.bytes == 190


def test_a_record_that_is_no_cursor_is_refused_by_name() -> None:
    with pytest.raises(MalformedEvent, match="not a cursor"):
        Mark.from_json(b'{"upto": "far"}')


@given(st.data())
def test_any_crash_resumes_exactly_the_unfinished(data: st.DataObject) -> None:
    log = sorted(data.draw(st.sets(st.integers(1, 60), min_size=1)))
    finished: set[int] = set()
    mark = Mark()

    for _ in range(data.draw(st.integers(1, 4))):
        cursor = Cursor(Mark.from_json(mark.to_json()))
        delivered = [seq for seq in log if seq > mark.floor][: data.draw(st.integers(0, 60))]
        taken = [seq for seq in delivered if cursor.begin(seq)]
        assert taken == [seq for seq in delivered if seq not in finished]
        done = data.draw(st.sets(st.sampled_from(taken))) if taken else set()
        mark = cursor.mark(finishing=done)
        finished |= done

    assert {seq for seq in log if seq <= mark.upto and seq not in mark.open} == finished | {
        seq for seq in log if seq <= mark.floor
    }
    assert all(seq in finished for seq in log if seq <= mark.floor)
