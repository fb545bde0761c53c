"""The pages a newcomer reads: their links lead somewhere, and the code on them runs as it stands.

A fenced block takes part by what follows its language:

    ```bash run         is run; all blocks of a page are one script, in one directory made for it
    ```python run       likewise, by the Python of .venv
    ```python file=X    is written to X
    ```text prints      each line is part of one that the last block that ran has printed, in this order
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket import ids, subjects

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]

FENCE = re.compile(r"^```(\w+)(?: (run|prints|file=\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]\[]+\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MARK = "### block at line "

PAGE_TIMEOUT_S = 100


@dataclass(frozen=True)
class Block:
    """One fenced block that takes part."""

    line: int
    language: str
    purpose: str
    text: str


def shown(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(text[: fence.start()].count("\n") + 1, fence[1], fence[2], fence[3])
        for fence in FENCE.finditer(text)
        if fence[2]
    ]


def script(parts: list[Block]) -> str:
    """All blocks of a page as one bash script, so that what one starts in the background serves the next."""
    lines = ["set -euo pipefail"]
    for block in parts:
        if block.purpose == "prints":
            continue
        lines.append(f"echo '{MARK}{block.line}'")
        if block.purpose.startswith("file="):
            path = shlex.quote(block.purpose.removeprefix("file="))
            lines.append(f'mkdir -p "$(dirname {path})"')
            lines.append(f"cat >{path} <<'END OF FILE'\n{block.text}END OF FILE")
        elif block.language == "python":
            lines.append(f".venv/bin/python - <<'END OF PYTHON'\n{block.text}END OF PYTHON")
        else:
            lines.append(block.text)
    return "\n".join(lines)


def run(text: str, directory: Path) -> str:
    """Run a script with all that it starts; return what it printed. Fails when it fails."""
    (directory / ".venv").symlink_to(sys.prefix)
    process = subprocess.Popen(
        ["bash", "-c", text],
        cwd=directory,
        env=os.environ | {"PYTHONWARNINGS": "default"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=PAGE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"still running after {PAGE_TIMEOUT_S} s:\n{process.communicate()[0]}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, printed
    return printed


def missing_lines(wanted: str, printed: str) -> list[str]:
    """The wanted lines that are not, in this order, part of the printed ones."""
    came = iter(printed.splitlines())
    return [line for line in wanted.splitlines() if line and not any(line in each for each in came)]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_code_on_a_page_runs_as_it_stands(page: Path, tmp_path: Path) -> None:
    parts = blocks(page)

    printed = run(script(parts), tmp_path)

    sections = {int(s.split("\n", 1)[0]): s for s in printed.split(MARK)[1:]}
    section = ""
    for block in parts:
        if block.purpose == "prints":
            assert missing_lines(block.text, section) == [], printed
        else:
            section = sections[block.line]


def test_a_failing_block_fails_its_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash run\nfalse\n```\n")

    with pytest.raises(AssertionError):
        run(script(blocks(page)), tmp_path)


def test_a_missing_line_is_found_and_order_counts() -> None:
    printed = "one\nnumber two\nthree\n"

    assert missing_lines("one\ntwo\n", printed) == []
    assert missing_lines("two\none\n", printed) == ["one"]
    assert missing_lines("four\n", printed) == ["four"]


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    prose = FENCE.sub("", page.read_text())

    links = [link for link in LINK.findall(prose) if "://" not in link and not link.startswith("mailto:")]

    assert [link for link in links if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        return False
    return not anchor or anchor in {slug(title) for title in HEADING.findall(target.read_text())}


def slug(title: str) -> str:
    """The anchor that a heading gets when the page is shown."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def wire_page() -> dict[str, object]:
    """What the arithmetic on docs/wire.md defines, without anything of hocket."""
    defined: dict[str, object] = {}
    exec(blocks(ROOT / "docs" / "wire.md")[0].text, defined)
    return defined


@given(st.text(min_size=1, max_size=16).filter(lambda text: text.isprintable()))
def test_the_wire_page_escapes_as_the_code_does(text: str) -> None:
    token = wire_page()["token"]

    assert callable(token)
    assert token(text) == subjects.token(text)


@given(st.text(max_size=60), st.integers(1, 64))
def test_the_wire_page_finds_the_shard_as_the_code_does(key: str, shards: int) -> None:
    shard_of = wire_page()["shard_of"]

    assert callable(shard_of)
    assert shard_of(key, shards) == subjects.shard_of(key, shards)


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_the_wire_page_derives_causes_as_the_code_does(agent: str, source: str, event_id: str) -> None:
    cause_of = wire_page()["cause_of"]

    assert callable(cause_of)
    assert cause_of(agent, source, event_id) == ids.cause_of(agent, source, event_id)
