"""The command line as a person uses it: one crew runs in a directory, and every other command finds it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.choreography.folders import CODE, make

from hocket.cli import main
from hocket.host.place import Running, find_running, is_alive

HOCKET = (sys.executable, "-m", "hocket.cli.main")

FRAGILE = """
from pathlib import Path

from hocket import Agent, Event, Retry


class Asked(Event, type="{name}.asked.v1"):
    whom: str


class Given(Event, type="{name}.given.v1"):
    text: str


agent = Agent("{name}")


@agent.on(Asked, retry=Retry(attempts_max=1))
async def greet(event: Asked) -> Given:
    if not (Path(__file__).parent / "mended").exists():
        raise RuntimeError("not mended yet")
    return Given(text="mended")
"""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        return json.loads(self.out)


Hocket = Callable[..., Ended]


class Up:
    """`hocket up` as a process in a directory of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.output = directory / "up.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*HOCKET, "up", *options], cwd=directory, stdout=output, stderr=output, start_new_session=True
            )

    def running(self) -> Running | None:
        return find_running(self.directory / ".hocket" / "run.json")

    def said(self) -> str:
        return self.output.read_text()

    def until(self, met: Callable[[], object]) -> None:
        until_s = time.monotonic() + 30
        while not met():
            assert time.monotonic() < until_s, self.said()
            assert self.process.poll() is None, self.said()
            time.sleep(0.02)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)


def end(up: Up) -> None:
    if up.process.poll() is None:
        up.process.kill()
        up.process.wait()


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A crew of two at work: one that greets, and one that cannot until it is mended."""
    directory = tmp_path_factory.mktemp("crew")
    (directory / "services").mkdir()
    make(directory / "services", "ada")
    make(directory / "services", "fragile", code=FRAGILE)
    up = Up(directory)
    try:
        up.until(lambda: (running := up.running()) and running.ready)
        yield up
        assert up.stop() == 0, up.said()
    finally:
        end(up)


@pytest.fixture
def hocket(crew: Up, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Hocket:
    """Runs a command line where the crew runs."""
    monkeypatch.chdir(crew.directory)
    for variable in ("HOCKET_NATS", "HOCKET_DOMAIN"):
        monkeypatch.delenv(variable, raising=False)

    def hocket(*arguments: str) -> Ended:
        code = main.run(arguments)
        printed = capfd.readouterr()
        return Ended(code, printed.out, printed.err)

    return hocket


def ask(hocket: Hocket, name: str, whom: str, *options: str) -> Ended:
    return hocket("publish", f"{name}.asked.v1", json.dumps({"whom": whom}), "--wait", f"{name}.given.v1", *options)


def test_a_question_is_answered_with_nothing_but_the_answer(hocket: Hocket) -> None:
    ended = ask(hocket, "ada", "you")

    assert (ended.code, ended.out) == (0, "Hello from ada, you!\n")


def test_asked_again_under_its_id_it_is_answered_as_before(hocket: Hocket) -> None:
    first = ask(hocket, "ada", "once", "--id", "q-1", "--json").value
    second = ask(hocket, "ada", "once", "--id", "q-1", "--json").value
    receipt = hocket("publish", "ada.asked.v1", '{"whom": "once"}', "--id", "q-1", "--json").value

    assert first == second
    assert (receipt["duplicate"], receipt["key"]) == (True, "q-1")
    assert [entry["type"] for entry in hocket("history", "q-1", "--json").value] == ["ada.asked.v1", "ada.given.v1"]


def test_who_is_at_work_is_listed(hocket: Hocket, crew: Up) -> None:
    agents = hocket("agents", "--json").value

    running = crew.running()
    assert running is not None
    assert {(a["agent"], a["role"], a["pid"]) for a in agents} == {
        ("ada", "owner", running.services["ada"]),
        ("fragile", "owner", running.services["fragile"]),
    }


def test_an_answer_knows_why_it_is_there_and_its_saga_what_happened(hocket: Hocket) -> None:
    answer = ask(hocket, "ada", "why", "--saga", "s-1", "--json").value

    chain = hocket("why", answer["id"], "--json").value
    saga = hocket("sagas", "s-1", "--json").value
    listed = hocket("sagas", "--json", "--limit", "0").value

    assert [fact["type"] for fact in chain["facts"]] == ["ada.asked.v1", "ada.given.v1"]
    assert chain["missing"] is None
    assert (saga["saga"]["events"], saga["saga"]["state"]) == (2, "open")
    assert "s-1" in {line["id"] for line in listed}
    for command in (("why", answer["id"]), ("sagas", "s-1"), ("sagas",), ("history", "s-1"), ("agents",)):
        assert "ada" in hocket(*command).out


def test_what_cannot_be_handled_is_said_listed_and_sent_again_once(hocket: Hocket, crew: Up) -> None:
    unanswered = ask(hocket, "fragile", "x", "--id", "q-2", "--timeout", "1")
    (crew.directory / "services" / "fragile" / "mended").touch()
    [letter] = hocket("dead", "q-2", "--json").value
    shown = hocket("dead", "q-2")
    sent = hocket("redrive", "--all", "--json").value
    again = hocket("redrive", "q-2", "--json").value
    answer = ask(hocket, "fragile", "x", "--id", "q-2")
    nothing = hocket("redrive", "--all")

    assert unanswered.code == main.EXIT_BAD_NEWS
    assert "fragile could not handle fragile.asked.v1 q-2: 1 attempts, the last: RuntimeError: not mended yet" in (
        unanswered.err
    )
    assert (letter["agent"], letter["redriven"]) == ("fragile", None)
    assert "RuntimeError: not mended yet" in shown.out
    assert [(s["id"], s["duplicate"]) for s in (*sent, *again)] == [("q-2", False), ("q-2", True)]
    assert answer.out == "mended\n"
    assert nothing.out == "nothing to send\n"


def test_a_letter_is_edited_sent_discarded_and_counted_and_each_hand_is_named(hocket: Hocket, crew: Up) -> None:
    mended = crew.directory / "services" / "fragile" / "mended"
    mended.unlink(missing_ok=True)
    for name in ("q-3", "q-4"):
        ask(hocket, "fragile", "x", "--id", name, "--key", name, "--timeout", "1")
    listed = hocket("dead", "--json").value
    warned = {d["what"]: d for d in hocket("doctor", "--json").value["diagnoses"]}["dead letters"]
    refused = hocket("redrive", "q-3", "--edit", '{"whom": 7}')
    again = hocket("redrive", "q-3", "--edit", '{"whom": "y"}', "--by", "ada", "--json")
    crew.until(lambda: len(hocket("dead", "--json").value) == 2)
    unwanted = hocket("redrive", "q-3", "--edit", '{"whom": "z"}')
    discarded = hocket("discard", "q-4", "--reason", "a test", "--by", "bob")
    twice = hocket("discard", "q-4", "--reason", "another", "--by", "eve")
    too_late = hocket("redrive", "q-4")
    mended.touch()
    sent = hocket("redrive", "--all", "--type", "fragile.asked.v1", "--rate", "50/s", "--by", "ada")
    shown = hocket("dead", "q-4")
    left = hocket("dead", "--json").value
    every = {letter["id"]: letter for letter in hocket("dead", "--all", "--json").value}

    assert [(letter["id"], letter["status"]) for letter in listed] == [("q-3", "open"), ("q-4", "open")]
    assert warned["verdict"] == "warning"
    assert refused.code == unwanted.code == too_late.code == main.EXIT_BAD_NEWS
    assert "whom: Input should be a valid string" in refused.err
    assert "was sent again as" in unwanted.err
    assert (discarded.out, twice.code) == ("q-4 of fragile is discarded\n", 0)
    assert "was discarded by bob" in twice.out
    assert "was discarded by bob" in too_late.err
    assert "a test" in shown.out
    [child] = again.value
    assert (sent.code, sent.out.split()[0]) == (0, child["as"])
    assert left == []
    assert (every[child["as"]]["ancestor"], every[child["as"]]["generation"]) == ("q-3", 1)
    assert (every["q-3"]["fate"]["by"], every["q-3"]["fate"]["edit"]) == ("ada", {"whom": "y"})
    assert every["q-4"]["status"] == "discarded"


def test_the_doctor_finds_a_healthy_system_and_a_log_that_keeps_its_promises(hocket: Hocket) -> None:
    ask(hocket, "ada", "audit")

    examined = hocket("doctor", "--audit", "--json")

    verdicts = {d["what"]: d["verdict"] for d in examined.value["diagnoses"]}
    assert examined.code == 0
    assert verdicts["server"] == verdicts["fsync"] == verdicts["stream HOCKET_hocket_0"] == verdicts["clock"] == "ok"
    assert verdicts["agent ada on shard 0"] == "ok"
    assert [f for f in examined.value["findings"] if f["severity"] == "error"] == []
    assert "ok" in hocket("doctor").out


def test_a_folder_that_comes_is_asked_only_when_it_is_at_work(hocket: Hocket, crew: Up) -> None:
    make(crew.directory / "services", "late")

    ended = ask(hocket, "late", "you")

    assert ended.out == "Hello from late, you!\n"
    shutil.rmtree(crew.directory / "services" / "late")


def test_a_service_that_has_failed_is_listed_with_why_and_comes_back_when_a_person_says_so(
    hocket: Hocket, crew: Up
) -> None:
    folder = make(crew.directory / "services", "broken", code="1 / 0\n", more="\n[restart]\nrestarts_max = 0\n")
    crew.until(lambda: (running := crew.running()) and "broken" in running.failed)
    listed = hocket("agents")
    [before] = [a for a in hocket("agents", "--json").value if a["agent"] == "broken"]
    examined = hocket("doctor", "--json")
    in_vain = hocket("restart", "broken", "--json")
    (folder / "mended.py").touch()
    (folder / "agent.py").write_text(CODE.replace("{name}", "broken"))
    restarted = hocket("restart", "broken")
    [after] = [a for a in hocket("agents", "--json").value if a["agent"] == "broken"]
    shutil.rmtree(folder)
    unknown = hocket("restart", "nobody")

    assert (before["state"], before["shard"], before["restarts"]) == ("failed", None, 0)
    why = "ended with exit code 2, the last of 1 ends within 60 s: ZeroDivisionError: division by zero"
    assert f"broken failed: {why}\ntry: hocket restart broken\n" in listed.out
    assert ("service broken", "failed") in {(d["what"], d["verdict"]) for d in examined.value["diagnoses"]}
    assert (in_vain.code, in_vain.value[0]["state"]) == (main.EXIT_BAD_NEWS, "failed")
    assert (restarted.code, restarted.err) == (0, "")
    assert restarted.out.endswith(": running\n")
    assert (after["state"], after["why"], after["concurrency"]) == ("owner", "", 256)
    assert after["memory_bytes"] is None or after["memory_bytes"] > 1 << 20
    assert unknown.code == main.EXIT_REFUSED
    assert "no such service is kept: 'nobody'; there are ada on " in unknown.err


def test_a_second_crew_in_the_same_place_is_refused(hocket: Hocket, crew: Up) -> None:
    ended = hocket("up")

    assert ended.code == main.EXIT_REFUSED
    assert f"a system runs from here already, as process {crew.process.pid}" in ended.err


def test_an_unknown_event_or_key_or_saga_is_said_to_be_unknown(hocket: Hocket) -> None:
    codes = [hocket(*command).code for command in (("why", "x"), ("history", "x"), ("sagas", "x"), ("dead", "x"))]

    assert codes == [main.EXIT_REFUSED] * 4


def test_a_type_that_nobody_declares_is_published_as_it_is(hocket: Hocket) -> None:
    ended = hocket("publish", "stranger.said.v1", '{"x": [1]}', "--key", "k-9", "--json")

    assert ended.code == 0
    assert "no class is known here" in ended.err
    assert [entry["data"] for entry in hocket("history", "k-9", "--json").value] == [{"x": [1]}]


def run(directory: Path, *arguments: str) -> Ended:
    done = subprocess.run([*HOCKET, *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=60)
    return Ended(done.returncode, done.stdout, done.stderr)


def test_a_crew_can_be_asked_while_it_starts_and_its_log_be_read_when_it_has_ended(tmp_path: Path) -> None:
    assert run(tmp_path, "new", "greeter").code == 0
    up = Up(tmp_path, "services/greeter")
    try:
        answer = run(
            tmp_path, "publish", "greeter.asked.v1", '{"name": "Ada"}', "--key", "ada", "--wait", "greeter.answered.v1"
        )
        ended = up.stop()
    finally:
        end(up)
    history = run(tmp_path, "history", "ada", "--json")

    assert (answer.code, answer.out) == (0, "Hello, Ada!\n")
    assert ended == 0
    assert up.said().splitlines()[-1].endswith("greeter: stopped")
    assert [entry["type"] for entry in history.value] == ["greeter.asked.v1", "greeter.answered.v1"]
    assert "reading the log in .hocket" in history.err


def test_when_up_is_killed_everything_that_it_started_ends(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    make(tmp_path / "services", "ada")
    up = Up(tmp_path, "--single", "--data", "elsewhere")
    try:
        up.until(lambda: (running := up.running()) and running.ready)
        running = up.running()
        assert running is not None
        assert running.server is not None
        pids = [*running.services.values(), running.server]
    finally:
        end(up)
    until_s = time.monotonic() + 20
    while any(is_alive(pid) for pid in pids) and time.monotonic() < until_s:
        time.sleep(0.02)

    assert list(running.services) == ["all"]
    assert [pid for pid in pids if is_alive(pid)] == []
    assert up.running() is None
    assert (tmp_path / "elsewhere" / "jetstream").is_dir()


def test_a_service_in_the_foreground_brings_its_own_server_if_there_is_none(tmp_path: Path) -> None:
    make(tmp_path, "ada", code=CODE)
    with subprocess.Popen(
        [*HOCKET, "run", "ada", "--log", "json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        first = process.stderr.readline()
        while '"owns"' not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()

    assert process.returncode == 0
    assert "no system runs here: a server of its own listens on nats://127.0.0.1:" in first
    assert json.loads(rest.splitlines()[-1])["event"] == "released"


def test_a_service_in_the_foreground_that_cannot_run_says_why(tmp_path: Path) -> None:
    make(tmp_path, "ada", code="\n\n1 / 0\n")

    ended = run(tmp_path, "run", "ada")

    assert ended.code == main.EXIT_REFUSED
    assert "agent.py, line 3: ZeroDivisionError: division by zero" in ended.err
    assert "try: hocket check" in ended.err
    assert not os.path.exists(tmp_path / ".hocket")


def test_up_can_be_stopped_while_it_starts(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    up = Up(tmp_path, "services")
    try:
        up.until(lambda: up.running() is not None)
        ended = up.stop()
    finally:
        end(up)

    assert ended == 0, up.said()
    assert not (tmp_path / ".hocket" / "run.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_twice_up_does_not_wait_for_what_is_in_hand(tmp_path: Path, number: int) -> None:
    (tmp_path / "services").mkdir()
    slow = CODE.replace("from .words", "import time\n\nfrom .words").replace(
        "    return Given", "    time.sleep(60)\n    return Given"
    )
    make(tmp_path / "services", "ada", code=slow)
    up = Up(tmp_path)
    try:
        up.until(lambda: (running := up.running()) and running.ready)
        run(tmp_path, "publish", "ada.asked.v1", '{"whom": "you"}')
        running = up.running()
        assert running is not None
        up.process.send_signal(number)
        up.until(lambda: "ask again to end at once" in up.said())
        up.process.send_signal(number)
        began_s = time.monotonic()
        ended = up.process.wait(30)
    finally:
        end(up)

    assert ended == main.EXIT_INTERRUPTED, up.said()
    assert time.monotonic() - began_s < 8
    assert not any(is_alive(pid) for pid in running.services.values())
