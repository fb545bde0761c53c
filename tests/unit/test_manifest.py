from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.errors import BadManifest
from hocket.host import manifest
from hocket.host.manifest import Manifest
from hocket.host.restarts import Restarts

ROOT = Path(__file__).parents[2]
COMPLETE = """
name = "greeter"
version = "2"
about = "Greets."
from = "start"
consumes = ["b.asked.v1", "a.asked.v1"]
waits = ["a.decided.v1"]
emits = ["a.given.v1"]
memory_mib = 300
max_concurrency = 16
instances = 2

[restart]
restarts_max = 3
window_s = 120
"""


def test_a_complete_manifest_is_a_value() -> None:
    read = manifest.parse(COMPLETE, "agent.toml")

    assert read == Manifest(
        name="greeter",
        version="2",
        about="Greets.",
        start="start",
        consumes=("a.asked.v1", "b.asked.v1"),
        waits=("a.decided.v1",),
        emits=("a.given.v1",),
        agents=("greeter",),
        memory_mib=300,
        max_concurrency=16,
        instances=2,
        restarts=Restarts(restarts_max=3, window_s=120),
    )


def test_a_name_is_enough() -> None:
    read = manifest.parse('name = "greeter"', "agent.toml")

    assert read == Manifest(name="greeter", agents=("greeter",))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name = ", "is no TOML"),
        ("", "name is ''"),
        ('name = "a b"', "name is 'a b'"),
        ("name = 7", "name is 7, wants a text"),
        ('name = "a"\nversion = 1', "version is 1, wants a text"),
        ('name = "a"\nconsume = []', "unknown key 'consume'"),
        ('name = "a"\nfrom = "yesterday"', "from is 'yesterday'"),
        ('name = "a"\nconsumes = "b.asked.v1"', "consumes is 'b.asked.v1', wants a list"),
        ('name = "a"\nemits = [1]', "emits is [1], wants a list"),
        ('name = "a"\nemits = ["Asked"]', "emits names 'Asked'"),
        ('name = "a"\nemits = ["b.asked.v1", "b.asked.v1"]', "'b.asked.v1' twice"),
        ('name = "a"\nmemory_mib = 0', "memory_mib is 0, wants a whole number from 1 on"),
        ('name = "a"\nmemory_mib = "1 GiB"', "memory_mib is '1 GiB', wants a whole number"),
        ('name = "a"\ninstances = 0', "instances is 0, wants a whole number from 1 on"),
        ('name = "a"\nmax_concurrency = true', "max_concurrency is True, wants a whole number"),
        ('name = "a"\nrestart = 3', "restart is 3, wants a table"),
        ('name = "a"\n[restart]\nattempts = 3', "restart has an unknown key 'attempts', known are restarts_max"),
        ('name = "a"\n[restart]\nwindow_s = nan', "restart.window_s is nan, wants a number"),
        ('name = "a"\n[restart]\nrestarts_max = 1.5', "restart.restarts_max is 1.5, wants a whole number"),
        ('name = "a"\n[restart]\nwindow_s = -1', "restart.window_s is -1, wants more than 0"),
        ('name = "a"\noutside = ["b.asked.v1"]', "outside names 'b.asked.v1', which neither consumes nor waits does"),
    ],
)
def test_what_is_wrong_names_the_file_and_the_key(text: str, complaint: str) -> None:
    with pytest.raises(BadManifest) as refused:
        manifest.parse(text, "services/a/agent.toml")

    assert str(refused.value).startswith("services/a/agent.toml")
    assert complaint in str(refused.value)


def test_a_folder_without_a_manifest_is_refused_by_path(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match=str(tmp_path)):
        manifest.read(tmp_path)


def test_services_are_folders_with_a_manifest_and_code_and_a_service_is_its_own_only_one(tmp_path: Path) -> None:
    for name in ("b", "a", "half", "other"):
        (tmp_path / name).mkdir()
    for name in ("b", "a"):
        (tmp_path / name / "agent.py").touch()
    for name in ("b", "a", "half"):
        (tmp_path / name / "agent.toml").touch()

    found = manifest.services_in(tmp_path)

    assert found == [tmp_path / "a", tmp_path / "b"]
    assert manifest.services_in(tmp_path / "a") == [tmp_path / "a"]
    assert manifest.services_in(tmp_path / "nowhere") == []


@given(st.text(max_size=200))
def test_any_text_is_a_manifest_or_refused(text: str) -> None:
    try:
        read = manifest.parse(text, "agent.toml")
    except BadManifest:
        return

    assert read.agents


@pytest.mark.parametrize("folder", manifest.services_in(ROOT / "services"), ids=lambda path: path.name)
def test_every_service_of_the_crew_has_a_manifest_named_like_its_folder(folder: Path) -> None:
    assert manifest.read(folder).name == folder.name
