"""The command line without a running system: what it says, and what it ends with."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hocket.cli import main
from hocket.cli.output import print_table, short
from hocket.errors import NotFound, Unavailable
from hocket.host.loader import load

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Hocket = Callable[..., Ended]


@pytest.fixture
def hocket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hocket:
    """Runs a command line in an empty directory."""
    monkeypatch.chdir(tmp_path)
    for variable in ("HOCKET_NATS", "HOCKET_DOMAIN"):
        monkeypatch.delenv(variable, raising=False)

    def hocket(*arguments: str) -> Ended:
        code = main.run(arguments)
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return hocket


def test_the_version_is_the_packages(hocket: Hocket) -> None:
    ended = hocket("--version")

    assert ended == Ended(0, "hocket 0.1.0\n", "")


HOLDS = ["breakers", "pause", "resume", "quarantine", "release"]
COMMANDS = ["up", "run", "new", "publish", "sagas", "why", "history", "agents", "check", "graph", "doctor", "dead"]


STORING = ["backup", "restore", "verify", "archive"]


@pytest.mark.parametrize("command", [*COMMANDS, "redrive", "discard", "schedules", "cancel", *HOLDS, *STORING])
def test_every_command_explains_itself_with_an_example(hocket: Hocket, command: str) -> None:
    ended = hocket(command, "--help")

    assert ended.code == 0
    assert f"Example: hocket {command}" in ended.out
    assert command in hocket("--help").out


@pytest.mark.parametrize(
    "command",
    [
        "sagas",
        "why x",
        "history x",
        "agents",
        "check",
        "graph",
        "doctor",
        "dead",
        "schedules",
        "quarantine",
        "breakers",
        "backup",
        "restore",
        "verify",
        "archive",
    ],
)
def test_every_listing_has_a_form_for_programs(hocket: Hocket, command: str) -> None:
    ended = hocket(command.split()[0], "--help")

    assert "--json" in ended.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("why",),
        ("publish", "a.b.v1"),
        ("sagas", "--nonsense"),
        ("redrive",),
        ("redrive", "x", "--all"),
        ("redrive", "x", "--rate", "5/s"),
        ("redrive", "--all", "--rate", "0/s"),
        ("redrive", "--all", "--rate", "soon"),
        ("redrive", "--all", "--edit", "{}"),
        ("redrive", "x", "--edit", "[]"),
        ("redrive", "x", "--edit", "{"),
        ("discard", "x"),
        ("cancel",),
        ("cancel", "s", "--key", "k"),
        ("cancel", "--run", ""),
        ("discard", "x", "--reason", " "),
        ("run", "x", "--log", "xml"),
        ("publish", "a.b.v1", "{}", "--timeout", "soon"),
    ],
)
def test_a_wrong_command_line_ends_with_64(hocket: Hocket, arguments: tuple[str, ...]) -> None:
    ended = hocket(*arguments)

    assert ended.code == main.EXIT_USAGE
    assert "Usage: hocket" in ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    "arguments", [("sagas",), ("why", "x"), ("history", "x"), ("agents",), ("dead",), ("schedules",)]
)
def test_without_a_system_it_says_how_to_get_one(hocket: Hocket, arguments: tuple[str, ...]) -> None:
    ended = hocket(*arguments)

    assert ended.code == main.EXIT_REFUSED
    assert ended.err.startswith("hocket: no system runs from this directory")
    assert ended.err.endswith("try: hocket up\n")


@pytest.mark.parametrize("data", ["{", "[]", "7", '{"a": NaN}'])
def test_data_that_is_no_json_object_is_refused_before_anything_else(hocket: Hocket, data: str) -> None:
    ended = hocket("publish", "a.b.v1", data)

    assert ended.code == main.EXIT_REFUSED
    assert "the data is" in ended.err


def test_data_that_does_not_fit_its_type_is_refused_by_field(hocket: Hocket, nats_url: str) -> None:
    ended = hocket("publish", "brief.requested.v1", '{"folder": "/x", "uot": "y"}', "--nats", nats_url)

    assert ended.code == main.EXIT_REFUSED
    assert "out: Field required" in ended.err
    assert "uot: Extra inputs are not permitted" in ended.err


def test_a_server_that_is_not_there_is_named(hocket: Hocket) -> None:
    ended = hocket("doctor", "--nats", "nats://127.0.0.1:1")

    assert ended.code == main.EXIT_REFUSED
    assert "127.0.0.1:1" in ended.err
    assert "try: hocket doctor" in ended.err


def test_a_domain_that_is_not_there_is_not_made_by_looking(hocket: Hocket, nats_url: str, domain: str) -> None:
    ended = hocket("sagas", "--nats", nats_url, "--domain", domain)
    examined = hocket("doctor", "--nats", nats_url, "--domain", domain)

    assert ended.code == main.EXIT_REFUSED
    assert f"HOCKET_{domain}_0 does not exist" in ended.err
    assert examined.code == main.EXIT_BAD_NEWS
    assert "does not exist" in examined.out


def test_what_was_not_foreseen_is_shown_whole_only_on_request(hocket: Hocket, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("hocket.cli.looking.policies", broken)

    ended = hocket("sagas")
    shown = hocket("sagas", "--debug")

    assert (ended.code, shown.code) == (main.EXIT_BUG, main.EXIT_BUG)
    assert "unforeseen ZeroDivisionError: by zero" in ended.err
    assert "Traceback" not in ended.err
    assert "Traceback" in shown.err


def test_of_several_errors_each_is_said_and_the_worst_code_counts(
    hocket: Hocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ExceptionGroup("both", [NotFound("nothing here"), ExceptionGroup("x", [Unavailable("away")])])

    monkeypatch.setattr("hocket.cli.looking.policies", broken)

    ended = hocket("sagas")

    assert ended.code == main.EXIT_REFUSED
    assert ended.err == "hocket: nothing here\ntry: hocket sagas\nhocket: away\ntry: hocket doctor\n"


def test_a_new_service_agrees_with_its_manifest_and_passes_its_test(hocket: Hocket, tmp_path: Path) -> None:
    ended = hocket("new", "my-first2")
    checked = hocket("check", "services", "--json")
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "services/my-first2", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        check=False,
    )
    in_the_repository = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", tmp_path, "-p", "no:cacheprovider", "-n0"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.code == 0
    assert load(tmp_path / "services" / "my-first2").agents[0].version == "1"
    assert (checked.code, {f["severity"] for f in json.loads(checked.out)}) == (0, {"note"})
    assert tested.returncode == 0, tested.stdout
    assert in_the_repository.returncode == 0, in_the_repository.stdout


def test_a_new_service_looks_as_the_project_does(hocket: Hocket, tmp_path: Path) -> None:
    hocket("new", "class")

    code = tmp_path / "services" / "class" / "agent.py"
    styled = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--config", ROOT / "pyproject.toml", code.parent], check=False
    )
    formatted = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "--config", ROOT / "pyproject.toml", code.parent],
        check=False,
    )

    assert ast.parse(code.read_text())
    assert (styled.returncode, formatted.returncode) == (0, 0)


@pytest.mark.parametrize("name", ["", "Greeter", "a b", "../x", "1st", "a_b", "a-", "ä"])
def test_a_name_that_is_none_makes_nothing(hocket: Hocket, tmp_path: Path, name: str) -> None:
    ended = hocket("new", name)

    assert ended.code == main.EXIT_REFUSED
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_is_there_is_not_overwritten(hocket: Hocket) -> None:
    hocket("new", "twice")

    ended = hocket("new", "twice")

    assert ended.code == main.EXIT_REFUSED
    assert "is there already" in ended.err


def test_check_finds_what_is_broken_and_ends_with_1(hocket: Hocket, tmp_path: Path) -> None:
    hocket("new", "checked")
    manifest = tmp_path / "services" / "checked" / "agent.toml"
    manifest.write_text(manifest.read_text().replace("answered", "forgotten"))
    (tmp_path / "services" / "half").mkdir()
    (tmp_path / "services" / "half" / "agent.py").touch()

    ended = hocket("check", "--json")

    assert ended.code == main.EXIT_BAD_NEWS
    assert [(f["code"], f["where"]) for f in json.loads(ended.out)] == [
        ("manifest-mismatch", "checked"),
        ("bad-manifest", "half"),
    ]


def test_strictly_a_warning_is_an_error(hocket: Hocket) -> None:
    for name in ("strict-a", "strict-b"):
        hocket("new", name)

    calm, strict = hocket("check"), hocket("check", "--strict")

    assert (calm.code, strict.code) == (0, main.EXIT_BAD_NEWS)
    assert "unhandled" in calm.out


def test_a_folder_without_services_is_said_to_be_one(hocket: Hocket) -> None:
    ended = hocket("check", "nowhere")

    assert ended.code == main.EXIT_REFUSED
    assert "nowhere is no service and holds none" in ended.err


def test_the_graph_is_drawn(hocket: Hocket) -> None:
    hocket("new", "drawn")

    text, value = hocket("graph"), hocket("graph", "--json")

    assert text.out.startswith("flowchart LR\n    agent_drawn[drawn]\n")
    assert json.loads(value.out)["agents"] == ["drawn"]


def test_commands_that_need_no_server_do_not_load_its_client() -> None:
    program = (
        "import sys; from hocket.cli import main; main.run(['--help']);"
        "print(sorted({'nats', 'rich', 'uvloop'} & set(sys.modules)), file=sys.stderr)"
    )

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert loaded.stderr == "[]\n"


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    program = f"{sys.executable} -m hocket.cli.main --help | head -1; echo ${{PIPESTATUS[0]}}"

    ended = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert ended.stdout.splitlines()[-1] == "0"
    assert ended.stderr == ""


def test_what_events_say_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [("\x1b[2Jgone", "[red]x[/red] :smile:")], empty="")

    printed = capsys.readouterr().out

    assert "\x1b" not in printed
    assert "[red]x[/red] :smile:" in printed


def test_long_values_are_cut_to_one_line() -> None:
    assert short({"a": "b"}) == '{"a":"b"}'
    assert short("x\ny" * 100, 10) == "x yx yx y…"


def test_the_page_on_exit_codes_has_them_all() -> None:
    page = (ROOT / "docs" / "guides" / "exit-codes.md").read_text()

    told = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}

    assert told == {value for name, value in vars(main).items() if name.startswith("EXIT_")}
    assert told == {int(code) for code in re.findall(r"\b(\d+) (?=[ait])", main._CODES)}


def test_contracts_of_the_project_are_found_and_nothing_is_shadowed(tmp_path: Path) -> None:
    (tmp_path / "contracts.py").write_text(
        "from hocket import Event\nclass Said(Event, type='cli.said.v1'):\n    x: int\n"
    )
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')\n")
    folder = tmp_path / "services" / "listener"
    folder.mkdir(parents=True)
    (folder / "agent.toml").write_text('name = "listener"\nconsumes = ["cli.said.v1"]\noutside = ["cli.said.v1"]\n')
    (folder / "agent.py").write_text(
        "from contracts import Said\nfrom hocket import Agent\nagent = Agent('listener')\n\n\n"
        "@agent.on(Said)\nasync def hear(event: Said) -> None:\n    pass\n"
    )

    ended = subprocess.run(
        [sys.executable, "-P", "-m", "hocket.cli.main", "check", "--json"],
        cwd=tmp_path,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[]\n", "")
