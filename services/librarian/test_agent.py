"""The librarian: what it finds, what it reads, what it refuses."""

import os
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.testing import Bed
from hocket_schemas.briefs import BriefFailed, BriefRequested
from hocket_schemas.documents import DocumentListed, DocumentRead, DocumentRefused, LibraryListed, Passage
from hocket_schemas.words import plain

from . import shelf
from .agent import librarian
from .layout import Block
from .pages import text_of
from .reading import PART_BYTES_MAX, PASSAGE_CHARS_MAX, parts_of, passages_of
from .shelf import NoLibrary, Unreadable, decode, search, take

PROSE = "A log keeps what was said. It forgets nothing that somebody still needs.\n"


def texts(document: str, text: str) -> list[str]:
    return [plain(passage.text) for passage in passages_of(document, text)]


def headings(document: str, text: str) -> list[str]:
    return [passage.heading for passage in passages_of(document, text)]


def request(folder: Path, topic: str = "") -> BriefRequested:
    return BriefRequested(folder=str(folder), out=str(folder / "out" / "brief.md"), topic=topic)


# Passages


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("a.txt", f"Title\n=====\n\n{PROSE}\n   An indent\n   of two lines.\n\n* An item\n  of two lines.\n"),
        ("a.md", f"# Title\r\n\r\n{PROSE}\r\n- An item that says a thing.\r\n- Another one that says more.\r\n"),
        ("a.rst", f"Title\n*****\n\n.. note::\n\n   {PROSE}\n1. The first of a few things.\n"),
    ],
)  # fmt: skip
def test_a_passage_stands_in_the_file_where_it_says(document: str, text: str) -> None:
    passages = passages_of(document, text)

    assert len(passages) >= 2
    for passage in passages:
        assert text[passage.start : passage.end] == passage.text
        assert text.count("\n", 0, passage.start) + 1 == passage.line


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["", "A sentence of some words stands here.", "and goes on. Then it ends.", "Title", "=====", "# H"]
        ),
        st.sampled_from(
            ["```", "---", "* item. Another one is here.", "| a | b |", "> q", ">>> x", "::", "1. One. Two is."]
        ),
        st.text(max_size=40),
    ),
    max_size=30,
).flatmap(
    lambda lines: st.tuples(st.just(lines), st.lists(st.integers(0, 8), min_size=len(lines), max_size=len(lines)))
)


@given(LINES, st.sampled_from(["a.txt", "a.md"]), st.sampled_from(["\n", "\r\n"]))
def test_whatever_a_text_holds_its_passages_stand_where_they_say(
    indented: tuple[list[str], list[int]], document: str, newline: str
) -> None:
    text = newline.join(" " * indent + line for line, indent in zip(*indented, strict=True))

    passages = passages_of(document, text)

    for passage in passages:
        assert text[passage.start : passage.end] == passage.text == passage.text.strip()
        assert text.count("\n", 0, passage.start) + 1 == passage.line
    assert all(a.end <= b.start for a, b in pairwise(passages))


@given(st.text(alphabet=st.sampled_from("<>/&;#!-p b\n\r\"'=ascript.x"), max_size=200))
def test_whatever_a_page_holds_its_text_has_the_same_lines(page: str) -> None:
    text, blocks = text_of(page)

    assert text.count("\n") <= page.count("\n")
    assert all(0 <= a.start < a.end <= b.start for a, b in pairwise([*blocks, Block(len(text), len(text))]))


def test_wrapped_lines_make_one_passage_and_a_deeper_indent_another() -> None:
    text = "The first paragraph goes\non here and ends.\n    The second one is indented\n    on both of its lines.\n"

    assert texts("a.txt", text) == [
        "The first paragraph goes on here and ends.",
        "The second one is indented on both of its lines.",
    ]


@pytest.mark.parametrize("marker", ["*", "-", "+", "1.", "a)", "•", "[1]"])
def test_a_list_marker_is_no_part_of_the_passage(marker: str) -> None:
    text = f"{marker} The item says this\n  and also says that.\n{marker} The next one says more.\n"

    assert texts("a.txt", text) == ["The item says this and also says that.", "The next one says more."]


@pytest.mark.parametrize(
    "heading",
    ["# Ownership\n", "Ownership\n=========\n", "=========\nOwnership\n=========\n", "Ownership\n", "4. Ownership\n"],
)
def test_a_passage_knows_the_heading_above_it(heading: str) -> None:
    found = headings("a.md", f"{heading}\n{PROSE}")

    assert len(found) == 1
    assert found[0].endswith("Ownership")


def test_in_a_definition_list_the_term_is_the_heading_until_the_indent_ends() -> None:
    text = "# Words\n\nToken\n  The sequence of a claim is its token.\n\nAll of these words are used with care.\n"

    assert headings("a.md", text) == ["Token", "Words"]


@pytest.mark.parametrize(
    "junk",
    [
        "```python\nThis line is code. It is fenced.\n```\n",
        "    if x == 1: return {};\n",
        ">>> print(1)\nThe output follows here. It is 1.\n",
        'stmt ::= "if" expression ":" suite. And so on.\n',
        "| A cell. | Another cell. |\n|---|---|\n| One more here. | The last. |\n",
        "+------+\n| A cell is here. |\n+------+\n",
        "> Somebody else said this. It is quoted.\n",
        ".. code-block:: python\n\n   This is code in a directive. It is left out.\n",
        ":param name: the name of the thing. It is a field.\n",
        "[link]: https://example.org/ A link has a title. Here it is.\n",
        "Run it like this::\n\n   make all of it. Then make check.\n",
        "one, two, three\n",
    ],
)
def test_what_is_no_prose_is_left_out(junk: str) -> None:
    assert texts("a.md", f"{PROSE}\n{junk}\n{PROSE.upper()}") == [plain(PROSE), plain(PROSE.upper())]


def test_front_matter_is_no_text() -> None:
    assert texts("a.md", f"---\ntitle: A title. It has a stop.\n---\n\n{PROSE}") == [plain(PROSE)]


def test_a_byte_order_mark_is_no_text() -> None:
    assert passages_of("a.txt", f"\ufeff{PROSE}")[0].start == 1


def test_a_long_paragraph_is_cut_after_a_sentence() -> None:
    text = "This sentence says a thing about a log. " * 200

    passages = passages_of("a.txt", text)

    assert all(len(p.text) <= PASSAGE_CHARS_MAX and p.text.endswith("log.") for p in passages)
    assert plain(" ".join(p.text for p in passages)) == plain(text)


def test_a_line_without_a_blank_is_cut_anyway() -> None:
    assert passages_of("a.txt", "x" * 10 * PASSAGE_CHARS_MAX) == []


def test_many_passages_are_portioned_in_order() -> None:
    passages = [Passage(start=0, end=0, line=1, text="é" * 1000) for _ in range(200)]

    parts = parts_of(passages)

    assert [p for part in parts for p in part] == passages
    assert len(parts) == 3
    assert max(sum(len(p.text.encode()) for p in part) for part in parts) <= PART_BYTES_MAX


def test_no_passages_are_one_empty_portion() -> None:
    assert parts_of([]) == [[]]


# Pages


def test_a_page_loses_its_markup_and_keeps_its_lines() -> None:
    page = (
        "<!doctype html>\n<head><title>No text. Really.</title>\n<style>p { color: red. }</style></head>\n"
        "<body><nav>Home. Away. Back again.</nav>\n<h2>The <em>log</em></h2>\n"
        "<p class='a\nb'>A log &amp; its <b>rec</b>ords\nare kept. It forgets&nbsp;nothing.<p>A second one is here.\n"
        "<pre>code is left out. Always.</pre><script>var a = 'No. Never.'</script>\n<ul><li>An item of the list.</ul>"
    )

    passages = passages_of("a.html", page)

    assert [(p.line, plain(p.text)) for p in passages] == [
        (7, "A log & its records are kept. It forgets nothing."),
        (8, "A second one is here."),
        (10, "An item of the list."),
    ]
    assert {p.heading for p in passages} == {"The log"}


def test_a_page_whose_head_is_never_closed_still_has_a_body() -> None:
    assert texts("a.HTM", f"<head><title>No.</title><body><p>{PROSE}") == [plain(PROSE)]


def test_a_reference_to_a_line_break_does_not_shift_the_lines() -> None:
    text, _ = text_of("<p>One&#10;two.\n<p>Three.")

    assert text.split("\n")[1].strip() == "Three."


# The folder


def test_documents_are_found_in_the_same_order_everywhere(tmp_path: Path) -> None:
    for name in ("b.md", "B.txt", "a/z.rst", "a/b/c.HTML", ".hidden.md", ".git/x.md", "photo.png", "Makefile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(PROSE)

    found = search(str(tmp_path), leave_out="")

    assert found.documents == ("B.txt", "a/b/c.HTML", "a/z.rst", "b.md")
    assert found.ignored == 3


def test_the_brief_itself_is_no_document(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(PROSE)
    (tmp_path / "brief.md").write_text(PROSE)

    assert search(str(tmp_path), leave_out=str(tmp_path / "x" / ".." / "brief.md")).documents == ("a.md",)


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "doc.txt").write_text(PROSE)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "link.txt").symlink_to(tmp_path / "a" / "doc.txt")

    assert search(str(tmp_path), leave_out="").documents == ("a/doc.txt", "link.txt")


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_a_name_that_no_citation_can_carry_is_refused(tmp_path: Path) -> None:
    (tmp_path / "two\nlines.txt").write_text(PROSE)
    (tmp_path / os.fsdecode(b"latin-\xe9.txt")).write_text(PROSE)

    found = search(str(tmp_path), leave_out="")

    assert found.documents == ()
    assert [reason for _, reason in found.refused] == [
        "has a name that is not UTF-8; rename it",
        "has a name with control characters; rename it",
    ]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "There is no folder"),
        (lambda path: path.write_text(PROSE), "is a file"),
        (lambda path: path.mkdir(), "it is empty"),
        (lambda path: (path.mkdir(), (path / "a.pdf").write_text("x")), "it holds 1 file, none with a name in .htm"),
    ],
)
def test_a_folder_without_documents_says_what_is_wrong(tmp_path: Path, make: object, says: str) -> None:
    make(tmp_path / "docs")  # type: ignore[operator] # a lambda of the table above

    with pytest.raises(NoLibrary, match=says):
        search(str(tmp_path / "docs"), leave_out="")


@pytest.mark.parametrize(
    ("limit", "says"), [("DOCUMENTS_MAX", "holds 3 documents"), ("LIBRARY_BYTES_MAX", "at most 0 MB")]
)
def test_a_folder_that_is_too_large_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, says: str
) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(PROSE)
    monkeypatch.setattr(shelf, limit, 2)

    with pytest.raises(NoLibrary, match=says):
        search(str(tmp_path), leave_out="")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \n", "is empty"),
        (b"text\0text", "is binary"),
        ("Grün ist die Heide.".encode("latin-1"), "is not UTF-8 text (byte 2); save it as UTF-8"),
        ("text".encode("utf-16"), "is UTF-16; save it as UTF-8"),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as refusal:
        decode(data)

    assert str(refusal.value) == reason


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("gone.txt", "is no longer there"),
        ("broken.txt", "is a broken link"),
        ("pipe.txt", "is no regular file"),
        ("large.txt", "is larger than"),
        ("../other.txt", "lies outside of the folder"),
    ],
)
def test_a_file_that_cannot_be_taken_is_refused_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: str, reason: str
) -> None:
    monkeypatch.setattr(shelf, "DOCUMENT_BYTES_MAX", 100)
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nowhere.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "large.txt").write_text("x" * 101)

    with pytest.raises(Unreadable, match=reason):
        take(str(tmp_path), document)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_permission_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "open.md").write_text(PROSE)
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0)

    try:
        found = search(str(tmp_path), leave_out=str(tmp_path / "brief.md"))
    finally:
        locked.chmod(0o700)

    assert list(found.documents) == ["open.md"]
    assert [name for name, _ in found.refused] == ["locked"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text(PROSE)
    (tmp_path / "secret.txt").chmod(0)

    with pytest.raises(Unreadable, match="permission denied"):
        take(str(tmp_path), "secret.txt")


# The agent


async def test_each_document_of_a_folder_is_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(PROSE)
    (tmp_path / "b.txt").write_bytes(b"\0")

    async with Bed(librarian) as bed:
        await bed.publish(request(tmp_path), key="b-1")
        await bed.quiet()

        assert bed.events(LibraryListed) == [LibraryListed(documents=2)]
        assert bed.events(DocumentRefused) == [DocumentRefused(document="b.txt", reason="is binary")]
        assert bed.events(DocumentRead) == [
            DocumentRead(
                document="a.txt",
                digest=sha256(PROSE.encode()).hexdigest(),
                passages=[Passage(start=0, end=len(PROSE) - 1, line=1, text=PROSE.rstrip())],
            )
        ]


async def test_a_missing_folder_fails_the_brief(tmp_path: Path) -> None:
    async with Bed(librarian) as bed:
        await bed.publish(request(tmp_path / "nowhere"), key="b-1")
        await bed.quiet()

        [failed] = bed.events(BriefFailed)
        assert failed.reason == f"There is no folder {tmp_path / 'nowhere'}. Check the path."


async def test_a_second_request_for_the_same_brief_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(PROSE)

    async with Bed(librarian) as bed:
        await bed.publish(request(tmp_path), key="b-1")
        await bed.publish(request(tmp_path, topic="another"), key="b-1")
        await bed.quiet()

        assert len(bed.events(LibraryListed)) == 1
        assert len(bed.events(DocumentListed)) == 1
