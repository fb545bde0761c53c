"""What holds for the repository as a whole and no other tool checks."""

import ast
import json
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("bus/**/*.py"), *ROOT.glob("schemas/**/*.py"), *ROOT.glob("services/**/*.py")])
PYTHON_FILES = sorted([*SOURCES, *ROOT.glob("tests/**/*.py")])
MODULES = [p for p in SOURCES if not p.name.startswith("test_") and p.read_text().strip()]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
)
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
NODES = [s for s in COMPOSE["services"].values() if s["command"][0] == "nats-server"]
CREW = {name: s for name, s in COMPOSE["services"].items() if s["command"][0] == "hocket"}

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60

SILENCING = re.compile(r"# (noqa|type: ignore)")
SILENCING_WITH_REASON = re.compile(r"# (noqa: [A-Z]+\d+(, ?[A-Z]+\d+)*|type: ignore\[[\w, -]+\])\W+\w+\W+\w+")


def names(paths: list[Path]) -> list[str]:
    return [p.relative_to(ROOT).as_posix() for p in paths]


def canonical(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def calls(tree: ast.AST) -> set[str]:
    """Every dotted name that is called."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_a_module_opens_with_one_sentence(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""

    first_line = docstring.split("\n", 1)[0]

    assert first_line.endswith((".", ".)", "…)")), f"{path.name}: {first_line!r}"


@pytest.mark.parametrize("path", PYTHON_FILES, ids=names(PYTHON_FILES))
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    text = path.read_text()

    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]

    assert text.count("\n") <= MODULE_LINES_MAX
    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= FUNCTION_LINES_MAX] == []


@pytest.mark.parametrize("path", PYTHON_FILES, ids=names(PYTHON_FILES))
def test_every_silenced_check_names_its_code_and_its_reason(path: Path) -> None:
    with path.open("rb") as file:
        comments = [t.string for t in tokenize.tokenize(file.readline) if t.type == tokenize.COMMENT]

    silencing = [comment for comment in comments if SILENCING.match(comment)]

    assert [comment for comment in silencing if not SILENCING_WITH_REASON.match(comment)] == []


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_time_and_chance_come_from_one_place_and_every_task_has_an_owner(path: Path) -> None:
    called = calls(ast.parse(path.read_text()))

    if path.name != "clock.py":
        assert called.isdisjoint({"time.time", "time.time_ns", "datetime.now", "datetime.utcnow"})
    if path.name != "ids.py":
        assert not [c for c in called if c.startswith(("uuid.uuid", "secrets.", "os.urandom"))]
    assert called.isdisjoint({"asyncio.create_task", "loop.create_task"})


def test_importing_hocket_brings_neither_the_command_line_nor_an_sdk() -> None:
    program = "import hocket, json, sys; print(json.dumps(sorted(sys.modules)))"

    loaded = json.loads(subprocess.check_output([sys.executable, "-c", program], text=True))

    assert "hocket" in loaded
    assert set(loaded).isdisjoint({"typer", "rich", "opentelemetry.sdk", "cloudevents.core", "uvloop", "sqlite3"})


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_no_module_needs_an_opentelemetry_sdk(path: Path) -> None:
    imported = re.findall(r"^\s*(?:from|import) (opentelemetry\.\w+)", path.read_text(), re.MULTILINE)

    assert "opentelemetry.sdk" not in imported


def test_every_dependency_is_pinned() -> None:
    optional = PROJECT["project"]["optional-dependencies"].values()
    wanted = [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *(requirement for extra in optional for requirement in extra),
        *PROJECT["dependency-groups"]["dev"],
    ]

    pinned = {canonical(name) for name in PINS}

    assert [w for w in wanted if canonical(w) not in pinned] == []


def test_the_pins_are_versions_and_nothing_else() -> None:
    odd = {name: version for name, version in PINS.items() if not re.fullmatch(r"[0-9][0-9a-z.]*", version)}

    assert odd == {}


def test_the_changelog_speaks_of_the_version_that_is_built() -> None:
    titles = re.findall(r"^## \[?([^\]\s]+)\]?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert PROJECT["project"]["version"] in titles


def test_compose_and_the_image_are_of_the_version_that_is_built() -> None:
    images = {service["image"] for service in COMPOSE["services"].values()}

    assert images == {f"hocket:{PROJECT['project']['version']}"}


def test_the_pages_name_only_targets_that_make_has() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    told = {
        target
        for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
        for target in re.findall(r"(?:`|^)make ([a-z]+)", page.read_text(), re.MULTILINE)
    }

    assert told
    assert told <= targets


def test_every_service_has_its_container() -> None:
    folders = {p.parent.name for p in ROOT.glob("services/*/agent.toml")}

    assert folders
    assert {s["command"][2] for s in CREW.values()} == {f"services/{name}" for name in folders}
    assert set(CREW) == folders


def test_the_crew_knows_every_node() -> None:
    urls = ",".join(f"nats://{node['hostname']}:{node['environment']['HOCKET_NATS_PORT']}" for node in NODES)

    assert len(NODES) == 3
    assert {s["command"][s["command"].index("--nats") + 1] for s in CREW.values()} == {urls}


def test_compose_sets_every_variable_that_a_node_needs_and_no_other() -> None:
    wanted = set(re.findall(r"\$([A-Z_]+)", (ROOT / "deploy" / "nats.conf").read_text()))

    assert [set(node["environment"]) for node in NODES] == [wanted] * 3


def test_a_node_answers_only_after_the_disk_has_it() -> None:
    configuration = (ROOT / "deploy" / "nats.conf").read_text()

    assert re.search(r"^\s*sync_interval: always$", configuration, re.MULTILINE)
