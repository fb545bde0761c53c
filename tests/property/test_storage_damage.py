"""Whatever is done to a copy is found, and named: any byte, any line."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hocket.errors import BadCopy, CopyTooNew
from hocket.log.base import Message, Seq
from hocket.storage.line import Stored
from hocket.storage.reading import Damage, Reading, read
from hocket.storage.writing import Writing

EXAMPLES = int(os.environ.get("HOCKET_DAMAGE_EXAMPLES", "60"))

KEYS = ["order-7", "order 8/ä", "ada"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    path = tmp_path_factory.mktemp("copy") / "copy.jsonl"
    with Writing(path, {"domain": "hocket", "shards": 1}, block_lines=5) as writing:
        for i in range(12):
            subject = f"hocket.0.evt.order=2Eplaced=2Ev1.{['order-7', 'order=208=2F=C3=A4', 'ada'][i % 3]}.shop.e{i}.0"
            writing.add(Stored(0, Message(subject, Seq(10 + i), b'{"n": %d}' % i, 10**18 + i), None))
        writing.add(Stored(0, Message("hocket.0.cur.ada", Seq(30), b"\xff", 10**18), None))
        writing.finish({"ends": [30]})
    return path.read_bytes().splitlines(keepends=True)


def examined(lines: list[bytes]) -> list[Damage]:
    found = Reading()
    for _ in read(b"".join(lines).splitlines(keepends=True), found):
        pass
    return found.damage


def is_message(line: bytes) -> bool:
    return b'"subject"' in line and b'"hocket":' not in line


def ids(line: bytes) -> tuple[str | None, str]:
    """The key and the id of an untouched line of an event."""
    number = int(line.split(b'"seq":')[1].split(b",")[0]) - 10
    return (KEYS[number % 3], f"e{number}.0") if number < 20 else (None, "ada")


def test_an_untouched_copy_is_sound(copy: list[bytes]) -> None:
    assert examined(copy) == []


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_any_byte_that_differs_is_found_and_names_its_line_key_and_id(copy: list[bytes], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(copy) - 1))
    at = data.draw(st.integers(0, len(copy[number]) - 1))
    other = data.draw(st.integers(1, 255))
    line = bytearray(copy[number])
    line[at] ^= other

    try:
        found = examined([*copy[:number], bytes(line), *copy[number + 1 :]])
    except (BadCopy, CopyTooNew):
        assert number == 0
        return

    assert number + 1 in [damage.line for damage in found]
    if is_message(copy[number]):
        assert ids(copy[number]) in [(damage.key, damage.id) for damage in found]


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_any_lines_that_are_removed_are_found_and_named(copy: list[bytes], data: st.DataObject) -> None:
    first = data.draw(st.integers(1, len(copy) - 1))
    last = data.draw(st.integers(first, min(first + 3, len(copy) - 1)))
    removed = copy[first : last + 1]

    found = examined([*copy[:first], *copy[last + 1 :]])

    assert found
    if all(is_message(line) for line in removed):
        missed = [(damage.key, damage.id) for damage in found if damage.what == "missing"]
        assert missed == [ids(line) for line in removed]


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_lines_that_change_places_or_come_twice_are_found(copy: list[bytes], data: st.DataObject) -> None:
    one = data.draw(st.integers(1, len(copy) - 2))
    other = data.draw(st.integers(one + 1, len(copy) - 1))
    swapped, doubled = list(copy), list(copy)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    doubled.insert(other, copy[one])

    found = examined(swapped), examined(doubled)

    assert all(found)


def test_an_empty_file_and_any_other_are_no_copy() -> None:
    for lines in ([], [b"# a text\n"], [b'{"a": 1}\n']):
        with pytest.raises(BadCopy):
            examined(lines)
