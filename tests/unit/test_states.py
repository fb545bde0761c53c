"""Which actors' states are in memory: those that were used last, in bounds, and all that know more than the log."""

import pytest

from hocket.engine.states import Cells
from hocket.engine.transition import Cell


def cell(key: str, size: int = 0, *, pending: int = 0) -> Cell:
    return Cell(key, 0, b"x" * size, None, pending=pending)


@pytest.mark.parametrize("busy", [False, True])
def test_the_states_that_were_not_used_for_longest_are_let_go(busy: bool) -> None:
    cells = Cells(2, 1000, lambda key: busy and key == "a")

    for key in "abcd":
        cells.put(key, cell(key))

    assert [key for key in "abcd" if cells.get(key)] == (["a", "d"] if busy else ["c", "d"])


def test_large_states_are_let_go_sooner() -> None:
    cells = Cells(10, 1000, lambda key: key == "e")

    for key, size in (("a", 400), ("b", 1), ("c", 500), ("d", 200), ("e", 5000)):
        cells.put(key, cell(key, size))
        kept = [known for known in "abcde" if cells.get(known)]
        assert kept == {"a": ["a"], "b": ["a", "b"], "c": ["a", "b", "c"], "d": ["b", "c", "d"], "e": ["e"]}[key]


def test_a_state_that_grows_is_counted_anew_and_one_that_is_dropped_no_more() -> None:
    cells = Cells(10, 1000, lambda key: False)
    growing = cell("a", 10)
    cells.put("a", growing)
    growing.data = b"x" * 900
    cells.put("a", growing)
    cells.drop("a")
    cells.drop("a")

    cells.put("b", cell("b", 950))
    assert cells.get("b") is not None

    cells.put("c", cell("c", 100))
    assert cells.get("b") is None


def test_what_knows_more_than_the_log_stays() -> None:
    cells = Cells(1, 10, lambda key: False)

    cells.put("a", cell("a", 100, pending=1))
    cells.put("b", cell("b", 100))

    assert cells.get("a") is not None
    assert cells.get("b") is None
