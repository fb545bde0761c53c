"""The check that a brief says what its documents say, and the documents that come along."""

from hashlib import sha256
from pathlib import Path

import pytest

from hocket.demo.brief import parse, verify
from hocket.demo.corpus import lay_out

DOCUMENT = "# Notes\n\nThe cursor says how far\n   an agent has come.  It moves on.\n\nA claim makes an owner.\n"

PAGE = (
    "<h1>Notes</h1>\n<p>The <b>cur</b>sor &amp; the claim<!-- a remark -->\nare <a\nhref='x'>records</a>.<p>So it is.\n"
)

QUOTES = [
    "The cursor says how far an agent has come. [a.md:3-4]",
    "It moves on. [a.md:4]",
    "A claim makes an owner. [a.md:6]",
    "The cursor & the claim are records. [b [1].html:2-4]",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text(DOCUMENT)
    (docs / "b [1].html").write_text(PAGE)
    return docs


def brief_of(folder: Path, *lines: str) -> Path:
    """A brief with these lines in its section, and with sources that are right."""
    sources = [
        f"- {p.name} sha256:{sha256(p.read_bytes()).hexdigest()}" for p in sorted(folder.iterdir()) if p.is_file()
    ]
    path = folder.parent / "brief.md"
    path.write_text("\n".join(["# Title", "", "## Section", "", *lines, "", "## Sources", "", *sources, ""]))
    return path


def problems(folder: Path, *lines: str) -> list[str]:
    return [str(problem) for problem in verify(brief_of(folder, *lines), folder)]


def test_a_true_brief_has_no_problem(folder: Path) -> None:
    assert problems(folder, *QUOTES) == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("The cursor says how far an Agent has come. [a.md:3-4]", "a.md:3-4 says something else"),
        ("The cursor says how far anagent has come. [a.md:3-4]", "a.md:3-4 says something else"),
        ("cursor says how far an agent has come [a.md:3-4]", ""),
        ("ursor says how far an agent has come. [a.md:3-4]", "a.md:3-4 says something else"),
        ("It moves on. [a.md:3]", "a.md:3-3 says something else"),
        ("It moves on. [a.md:3-4]", "a.md:3-4 are more lines than it stands on"),
        ("It moves on. [a.md:4-3]", "a.md:4-3 are no lines of the document"),
        ("It moves on. [a.md:99]", "a.md:99-99 are no lines of the document"),
        ("It moves on. [c.md:4]", "no citation of a listed source"),
        ("It moves on. [a.md]", "no citation of a listed source"),
        ("It moves on.", "no citation of a listed source"),
        ("The cursor & a claim are records. [b [1].html:2-4]", "says something else"),
    ],
)
def test_a_line_that_does_not_hold_is_named(folder: Path, line: str, says: str) -> None:
    found = problems(folder, *QUOTES, line)

    assert len(found) == (1 if says else 0)
    assert all(found[i].startswith("line 9: ") and says in found[i] for i in range(len(found)))


@pytest.mark.parametrize("document", ["a.md", "b [1].html"])
def test_every_changed_character_of_a_quoted_document_is_noticed(folder: Path, document: str) -> None:
    path = brief_of(folder, *QUOTES)
    text = (folder / document).read_text()

    for i, character in enumerate(text):
        (folder / document).write_text(text[:i] + ("x" if character != "x" else "y") + text[i + 1 :])
        assert verify(path, folder) != []


def test_a_changed_character_of_a_quote_is_noticed_even_with_its_digest_made_to_fit(folder: Path) -> None:
    (folder / "a.md").write_text(DOCUMENT.replace("far", "fur"))

    assert problems(folder, *QUOTES) == [
        "line 5: a.md:3-4 says something else: The cursor says how far an agent has come."
    ]


def test_a_source_that_is_gone_or_outside_is_named(folder: Path) -> None:
    path = brief_of(folder, *QUOTES)
    path.write_text(path.read_text() + f"- ../brief.md sha256:{'0' * 64}\n")
    (folder / "a.md").unlink()

    found = [str(problem) for problem in verify(path, folder)]

    assert any("source a.md cannot be read" in problem for problem in found)
    assert any("source ../brief.md lies outside of the folder" in problem for problem in found)


@pytest.mark.parametrize("text", ["", "\n", "# Title\n", "no title\n"])
def test_an_empty_brief_is_a_problem(text: str) -> None:
    assert "the brief holds no sentence" in [str(problem) for problem in parse(text).problems]


def test_a_brief_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    [problem] = verify(tmp_path / "brief.md", tmp_path)

    assert "cannot be read" in str(problem)


def test_the_corpus_is_laid_out_once_and_mended_when_it_was_changed(tmp_path: Path) -> None:
    folder = lay_out(tmp_path)
    files = sorted(folder.iterdir())
    written = {path: path.stat().st_mtime_ns for path in files}
    content = files[0].read_bytes()
    files[0].write_text("changed")

    again = lay_out(tmp_path)

    assert again == folder
    assert len(files) > 50
    assert files[0].read_bytes() == content
    assert {path for path in files if path.stat().st_mtime_ns != written[path]} <= {files[0]}
