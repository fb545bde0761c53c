"""The coding example's repository: one commit for a key, whatever was going on, and a way back that hurts nobody."""

import asyncio
import sys
from pathlib import Path

import pytest
from examples.coding import repository
from examples.coding.repository import BuiltUpon, Refused
from tests.fault.repositories import commit, every_byte, git, made
from tests.fault.services import until

KEY = "a" * 40
FILES = {"words.py": "N = 1\n", "test_words.py": "import words\n"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = made(tmp_path / "repository")
    monkeypatch.setenv("CODING_REPOSITORY", str(place))
    return place


def test_a_key_is_merged_once_and_found_by_its_trailer(place: Path) -> None:
    base = repository.head()

    first = repository.merge(FILES, base, "Add words\n", key=KEY)
    again = repository.merge(FILES, base, "Add words\n", key=KEY)

    assert first == again == repository.find(KEY) == repository.head()
    assert git(place, "rev-list", "--count", f"{base}..HEAD") == "1"
    assert git(place, "log", "-1", "--format=%(trailers:key=Hocket-Key,valueonly)") == KEY
    assert (git(place, "status", "--porcelain"), (place / "words.py").read_text()) == ("", "N = 1\n")
    assert repository.find("b" * 40) is None


def test_what_is_shown_is_what_changes_and_showing_it_changes_nothing(place: Path) -> None:
    base = commit(place, "words.py", "N = 0\n")
    before = every_byte(place)

    shown = repository.diff(base, FILES)
    untouched = every_byte(place) == before
    repository.merge(FILES, base, "Add words\n", key=KEY)

    assert untouched
    changed = [line for line in git(place, "show", "--format=").splitlines() if not line.startswith(("diff", "index"))]
    assert [line for line in changed if not line.startswith("new file")] == [
        line.replace("@@ -0,0 +1,1 @@", "@@ -0,0 +1 @@") for line in shown.splitlines()
    ]


def test_what_others_have_changed_meanwhile_is_not_overwritten(place: Path) -> None:
    base = repository.head()
    after = commit(place, "words.py", "N = 7\n")

    with pytest.raises(Refused, match=r"somebody else has changed words\.py"):
        repository.merge(FILES, base, "Add words\n", key=KEY)

    assert (repository.head(), git(place, "status", "--porcelain")) == (after, "")


def test_a_file_that_nobody_has_committed_is_not_overwritten(place: Path) -> None:
    (place / "words.py").write_text("mine\n")

    with pytest.raises(Refused, match=r"words\.py"):
        repository.merge(FILES, repository.head(), "Add words\n", key=KEY)

    assert (place / "words.py").read_text() == "mine\n"
    assert repository.find(KEY) is None


def test_taken_back_once_it_is_as_before_and_what_has_nothing_to_do_with_it_stays(place: Path) -> None:
    base = commit(place, "words.py", "N = 0\n")
    merged = repository.merge(FILES, base, "Add words\n", key=KEY)
    commit(place, "other.py", "M = 1\n")

    repository.take_back(merged, key=KEY)
    repository.take_back(merged, key=KEY)

    assert git(place, "rev-list", "--count", f"{merged}..HEAD") == "2"
    assert git(place, "diff", "--name-only", base, "HEAD") == "other.py"
    assert (git(place, "status", "--porcelain"), (place / "words.py").read_text()) == ("", "N = 0\n")


@pytest.mark.parametrize(
    ("path", "text"), [("words.py", "N = 2\n"), ("other.py", "from words import N\n")], ids=["changed", "used"]
)
def test_what_others_have_built_upon_is_not_taken_back(place: Path, path: str, text: str) -> None:
    merged = repository.merge(FILES, repository.head(), "Add words\n", key=KEY)
    after = commit(place, path, text)

    with pytest.raises(BuiltUpon, match=path):
        repository.take_back(merged, key=KEY)

    assert repository.head() == after


def test_what_was_taken_back_before_it_came_does_not_come(place: Path) -> None:
    base = repository.head()
    repository.take_back(None, key=KEY)

    with pytest.raises(Refused, match="taken back before it came"):
        repository.merge(FILES, base, "Add words\n", key=KEY)

    assert repository.head() == base


async def test_who_is_killed_while_git_merges_is_followed_by_one_who_waits_and_finds_the_commit(place: Path) -> None:
    hook = place / ".git" / "hooks" / "post-merge"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch .git/reached\nwhile [ ! -e .git/go ]; do sleep 0.02; done\n")
    hook.chmod(0o755)
    merging = "import sys; from examples.coding import repository as r; "
    merging += "r.merge({'a.py': ''}, r.head(), 'Add a\\n', key=sys.argv[1])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", merging, KEY, cwd=Path(__file__).parents[2])
    await until((place / ".git" / "reached").exists)
    process.kill()
    await process.wait()

    async with asyncio.timeout(20):
        finding = asyncio.ensure_future(asyncio.to_thread(repository.find, KEY))
        done, _ = await asyncio.wait([finding], timeout=0.2)
        (place / ".git" / "go").touch()
        found = await finding

    assert done == set()
    assert found == repository.head()
