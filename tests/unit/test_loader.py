import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hocket.agent import Agent
from hocket.errors import BadService, ManifestMismatch
from hocket.host import loader, manifest
from hocket.host.loader import differences, load
from hocket.host.manifest import Manifest
from hocket.policy import Limits
from hocket_schemas.event import Catalog, Event

ROOT = Path(__file__).parents[2]
LOCAL = Catalog()


class Asked(Event, type="loader.asked.v1", catalog=LOCAL):
    pass


class Given(Event, type="loader.given.v1", catalog=LOCAL):
    pass


class Decided(Event, type="loader.decided.v1", catalog=LOCAL):
    pass


CODE = """
from hocket.agent import Agent
from hocket_schemas.event import Catalog, Event

from .words import GREETING

LOCAL = Catalog()


class Asked(Event, type="{name}.asked.v1", catalog=LOCAL):
    pass


agent = Agent("{name}")
greeting = GREETING


@agent.on(Asked)
async def greet(event: Asked) -> None:
    pass
"""


def make(folder: Path, code: str = CODE, toml: str = 'name = "{name}"\nconsumes = ["{name}.asked.v1"]\n') -> Path:
    folder.mkdir()
    (folder / "agent.py").write_text(code.replace("{name}", folder.name))
    (folder / "agent.toml").write_text(toml.replace("{name}", folder.name))
    (folder / "words.py").write_text(f"GREETING = 'Hello from {folder.name}'\n")
    return folder


def test_the_manifest_may_bound_how_many_handlers_run_at_once(tmp_path: Path) -> None:
    toml = 'name = "{name}"\nconsumes = ["{name}.asked.v1"]\nmax_concurrency = 3\n'

    bounded, free = load(make(tmp_path / "bounded", toml=toml)), load(make(tmp_path / "free"))

    assert bounded.agents[0].limits == replace(Limits(), concurrency=3)
    assert free.agents[0].limits == Limits()


def test_a_folder_is_loaded_by_its_path_and_sees_its_own_modules(tmp_path: Path) -> None:
    before = list(sys.path)

    service = load(make(tmp_path / "greeter"))

    assert [agent.name for agent in service.agents] == ["greeter"]
    assert service.name == "greeter"
    assert service.module.greeting == "Hello from greeter"
    assert sys.path == before


def test_modules_of_the_same_name_do_not_meet(tmp_path: Path) -> None:
    one, two = load(make(tmp_path / "one")), load(make(tmp_path / "two"))

    assert one.module.greeting == "Hello from one"
    assert two.module.greeting == "Hello from two"


def test_folders_of_the_same_name_do_not_meet(tmp_path: Path) -> None:
    for parent in ("here", "there"):
        (tmp_path / parent).mkdir()

    here, there = load(make(tmp_path / "here" / "greeter")), load(make(tmp_path / "there" / "greeter"))

    assert here.agents != there.agents


def test_an_agent_without_a_version_takes_the_manifests(tmp_path: Path) -> None:
    folder = make(tmp_path / "greeter", toml='name = "{name}"\nversion = "7"\nconsumes = ["{name}.asked.v1"]\n')

    service = load(folder)

    assert service.agents[0].version == "7"


@pytest.mark.parametrize(("line", "replay"), [("", False), ('from = "now"', False), ('from = "start"', True)])
def test_the_manifest_says_where_a_new_agent_begins(tmp_path: Path, line: str, replay: bool) -> None:
    folder = make(tmp_path / "greeter", toml=f'name = "{{name}}"\nconsumes = ["{{name}}.asked.v1"]\n{line}\n')

    assert load(folder).replay == {"greeter": replay}


def test_a_folder_without_code_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "greeter")
    (folder / "agent.py").unlink()

    with pytest.raises(BadService, match=r"has no agent\.py"):
        load(folder)


def test_code_that_fails_is_refused_with_its_line_and_can_be_loaded_once_mended(tmp_path: Path) -> None:
    folder = make(tmp_path / "greeter", code=CODE.replace("greeting = GREETING", "greeting = GREETING + 1"))

    with pytest.raises(BadService, match=r"agent\.py, line 15: TypeError") as refused:
        load(folder)
    (folder / "agent.py").write_text(CODE.replace("{name}", "greeter") + "# mended\n")

    assert isinstance(refused.value.__cause__, TypeError)
    assert load(folder).module.greeting == "Hello from greeter"


def test_code_without_an_agent_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "greeter", code="nothing = None\n")

    with pytest.raises(BadService, match="holds no Agent"):
        load(folder)


def test_a_manifest_that_disagrees_is_refused_with_every_difference(tmp_path: Path) -> None:
    folder = make(tmp_path / "greeter", toml='name = "greter"\nconsumes = ["x.asked.v1"]\nemits = ["y.given.v1"]\n')

    with pytest.raises(ManifestMismatch) as refused:
        load(folder)

    for part in ("'greter'", "'greeter'", "'x.asked.v1'", "'greeter.asked.v1'", "'y.given.v1'"):
        assert part in str(refused.value)


def greeter(version: str = "0", waits: list[type[Event]] | None = None) -> Agent[None]:
    agent = Agent("greeter", version=version)

    @agent.on(Asked, waits=waits or [])
    async def greet(event: Asked) -> Given:
        return Given()

    return agent


AGREED = Manifest("greeter", consumes=("loader.asked.v1",), emits=("loader.given.v1",), agents=("greeter",))


@pytest.mark.parametrize(
    ("declared", "different"),
    [
        (AGREED, []),
        (
            Manifest("greeter", consumes=("loader.asked.v1",), agents=("greeter",)),
            ["emits lacks 'loader.given.v1', which the code has"],
        ),
        (
            Manifest("greeter", "2", consumes=AGREED.consumes, emits=AGREED.emits, agents=("greeter",)),
            ["version is '2', of 'greeter' in the code '1'"],
        ),
    ],
)
def test_differences_are_precise(declared: Manifest, different: list[str]) -> None:
    assert differences(declared, [greeter(version="1")]) == different


def test_what_is_only_waited_for_stands_apart() -> None:
    declared = Manifest("greeter", consumes=AGREED.consumes, emits=AGREED.emits, agents=("greeter",))

    different = differences(declared, [greeter(waits=[Decided])])

    assert different == ["waits lacks 'loader.decided.v1', which the code has"]


def test_several_agents_are_named_and_share_what_is_declared(tmp_path: Path) -> None:
    code = CODE + '\nother = Agent("other")\nalias = other\n'
    toml = 'name = "pair"\nagents = ["pair", "other"]\nconsumes = ["pair.asked.v1"]\n'

    service = load(make(tmp_path / "pair", code=code, toml=toml))

    assert [agent.name for agent in service.agents] == ["pair", "other"]


@pytest.mark.parametrize("folder", manifest.services_in(ROOT / "services"), ids=lambda path: path.name)
def test_every_service_of_the_crew_agrees_with_its_manifest(folder: Path) -> None:
    service = load(folder)

    assert service.agents


def test_a_package_is_named_after_its_folder() -> None:
    assert loader.package_of(Path("/x/my-agent")).startswith("hocket_service_my_agent_")
