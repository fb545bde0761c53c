"""The command `hocket demo` as somebody types it: in a pipe, at a terminal, interrupted, and killed."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import psutil
import pytest

from hocket.cli.main import EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_USAGE, run
from hocket.host.place import find_running

PROMPT = b"Publish this brief? [y/N] "
TEXT = """# The log

The log is a list of facts in the order of their arrival, and nobody changes a fact that is in the log.
Every agent reads the log from its own cursor, and a cursor moves only when the work for a fact is done.

# Cursors

A cursor says how far an agent has come in the log, and it is written together with what the agent emits.
When an agent dies, the next owner reads the cursor and goes on with the first fact that is not finished.
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two documents."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "log.md").write_text(TEXT)
    (tmp_path / "notes" / "more.txt").write_text("An owner of the log is one agent on one shard, and no other agent.\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Terminal:
    """A demo whose standard input and error are a terminal."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hocket.cli.main", "demo", *arguments],
            stdin=slave,
            stderr=slave,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            # Whoever runs the tests in the background has Ctrl-C ignored, and that is handed down.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(slave)
        self.seen = b""

    def read_until(self, wanted: bytes) -> None:
        while wanted not in self.seen:
            ready, _, _ = select.select([self._master], [], [], 30)
            assert ready, f"nothing more came than {self.seen!r}"
            self.seen += os.read(self._master, 65536)

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def close(self) -> None:
        os.close(self._master)


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    demo = Terminal(*arguments)
    try:
        yield demo
    finally:
        demo.process.kill()
        demo.process.wait()
        demo.close()


def everybody(pid: int) -> list[psutil.Process]:
    """A demo's process and all below it."""
    demo = psutil.Process(pid)
    return [demo, *demo.children(recursive=True)]


def gone(processes: list[psutil.Process], within_s: float) -> bool:
    """Whether all of them end in time; one that has lost its parent may stay in the table when it has ended."""
    until_s = time.monotonic() + within_s
    while alive := [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        if time.monotonic() > until_s:
            return False
        psutil.wait_procs(alive, timeout=0.1)
    return True


def test_without_a_terminal_and_without_yes_nothing_is_begun(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["demo", "notes"])

    assert code == EXIT_USAGE
    assert "give --yes, or run it in a terminal" in capsys.readouterr().err
    assert not (here / ".hocket").exists()


@pytest.mark.parametrize("documents", ["nowhere", "notes/log.md"])
def test_documents_that_are_no_folder_are_refused_at_once(
    here: Path, capsys: pytest.CaptureFixture[str], documents: str
) -> None:
    code = run(["demo", documents, "--yes"])

    assert code == EXIT_USAGE
    assert documents in capsys.readouterr().err
    assert not (here / ".hocket").exists()


def test_without_services_it_says_what_is_needed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["demo", "notes", "--yes", "--services", "notes"])

    assert code == EXIT_REFUSED
    assert "no service in notes emits brief.published.v1" in capsys.readouterr().err


def test_in_a_pipe_it_tells_in_lines_and_says_where_to_look_further(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["demo", "notes", "--yes", "--topic", "the log and its cursors", "--out", "out"])

    told = capsys.readouterr().out
    assert code == 0
    assert "librarian    found 2 documents" in told
    assert "publisher    wrote" in told
    assert "\x1b" not in told
    assert "out/brief.md: " in told
    assert "every citation was found in its document" in told
    assert (here / "out" / "brief.md").is_file()
    looks = [line.removeprefix("try:").split() for line in told.splitlines()[-3:]]
    assert [look[:2] for look in looks] == [["hocket", "why"], ["hocket", "demo"], ["hocket", "history"]]
    assert [run(look[1:]) for look in looks] == [0, 0, 0]
    shown = capsys.readouterr().out
    assert "brief.requested.v1" in shown
    assert "each one stands where it says" in shown


def test_a_changed_character_or_document_is_found(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = (
        "A cursor says how far an agent has come in the log, and it is written together with what the agent emits."
    )
    document, brief = here / "notes" / "log.md", here / "brief.md"
    digest = sha256(document.read_bytes()).hexdigest()
    text = f"# Notes\n\n## Cursors\n\n{sentence} [log.md:8]\n\n## Sources\n\n- log.md sha256:{digest}\n"

    brief.write_text(text)
    whole = run(["demo", "notes", "--verify", "brief.md", "--json"])
    brief.write_text(text.replace("cursor", "curser", 1))
    changed = run(["demo", "notes", "--verify", "brief.md"])
    brief.write_text(text)
    document.write_text(TEXT + " ")
    outdated = run(["demo", "notes", "--verify", "brief.md"])
    missing = run(["demo", "notes", "--verify", "other.md"])

    assert (whole, changed, outdated, missing) == (0, 1, 1, 1)
    said = capsys.readouterr().out
    assert '"problems": []' in said
    assert "log.md:8-8 says something else" in said
    assert "source log.md has changed since it was read" in said
    assert "other.md cannot be read" in said


def test_a_folder_without_documents_ends_with_code_1_and_what_to_do(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty").mkdir()

    code = run(["demo", "empty", "--yes", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert code == 1
    assert told["brief"] is None
    assert "There is no document in" in told["reason"]
    assert not (here / "brief.md").exists()


def test_under_chaos_the_same_brief_comes_out_and_every_promise_is_kept(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["demo", "notes", "--yes", "--chaos", "--seed", "7", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert [invariant for invariant in told["chaos"]["invariants"] if not invariant["holds"]] == []
    assert code == 0
    assert told["chaos"]["passed"]
    assert {strike["target"] for strike in told["chaos"]["strikes"]} >= {"all services", "nats-server"}
    assert sum(strike["hit"] for strike in told["chaos"]["strikes"]) >= 2


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"\n", 1)], ids=["yes", "no"])
def test_at_a_terminal_somebody_decides(here: Path, answer: bytes, code: int) -> None:
    with terminal("notes") as demo:
        demo.read_until(PROMPT)
        before = (here / "brief.md").exists()
        found = find_running(here / ".hocket" / "demo" / "run.json")
        demo.type(answer)
        ended = demo.process.wait(30)

    assert not before
    assert found is not None
    assert len(found.services) == 7
    assert ended == code
    assert b"Title:     Notes" in demo.seen
    assert (here / "brief.md").exists() is (code == 0)


@pytest.mark.parametrize(("verb", "code"), [("approve", 0), ("deny", 1)])
def test_somebody_else_may_decide_in_another_terminal(
    here: Path, capsys: pytest.CaptureFixture[str], verb: str, code: int
) -> None:
    with terminal("notes") as demo:
        demo.read_until(PROMPT)
        listed = run(["approvals", "--json"])
        [asked] = json.loads(capsys.readouterr().out)
        decided = run([verb, asked["approval"], "--by", "ann", "--reason", "so be it"])
        ended = demo.process.wait(30)

    assert (listed, decided, ended) == (0, 0, code)
    assert f"Elsewhere: hocket approve {asked['approval']}".encode() in demo.seen
    assert asked["details"]["text"].startswith("# Notes\n")
    assert (here / "brief.md").exists() is (code == 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_interrupted_or_killed_it_leaves_nothing_running(here: Path, number: signal.Signals) -> None:
    with terminal("notes") as demo:
        demo.read_until(PROMPT)
        processes = everybody(demo.process.pid)
        demo.process.send_signal(number)
        code = demo.process.wait(30)

    assert len(processes) >= 9
    assert code == (EXIT_INTERRUPTED if number == signal.SIGINT else -signal.SIGKILL)
    assert gone(processes, within_s=20)
