"""Which services a demo takes: all that hear of a brief, and nobody else."""

from pathlib import Path

import pytest

from hocket.demo.cast import NoCrew, find, members
from hocket.errors import BadManifest

SERVICES = Path(__file__).parents[2] / "services"
CREW = ["coordinator", "librarian", "planner", "publisher", "researcher", "reviewer", "writer"]


def service(directory: Path, name: str, consumes: str, emits: str = "") -> None:
    folder = directory / name
    folder.mkdir(parents=True)
    (folder / "agent.py").touch()
    listed = [f'"{event_type}"' for event_type in emits.split()]
    (folder / "agent.toml").write_text(f'name = "{name}"\nconsumes = ["{consumes}"]\nemits = [{", ".join(listed)}]\n')


def test_the_crew_of_the_checkout_takes_part() -> None:
    assert [folder.name for folder in members(SERVICES)] == CREW


def test_whoever_hears_through_others_takes_part_and_a_stranger_does_not(tmp_path: Path) -> None:
    service(tmp_path, "b", "thought.had.v1", "brief.published.v1")
    service(tmp_path, "a", "brief.requested.v1", "thought.had.v1")
    service(tmp_path, "bell", "brief.published.v1")
    service(tmp_path, "stranger", "trip.requested.v1", "trip.booked.v1")

    assert [folder.name for folder in members(tmp_path)] == ["a", "b", "bell"]


def test_services_of_which_none_publishes_are_no_crew(tmp_path: Path) -> None:
    service(tmp_path, "a", "brief.requested.v1", "thought.had.v1")
    service(tmp_path, "b", "trip.requested.v1", "brief.published.v1")

    with pytest.raises(NoCrew, match="nobody there publishes a brief"):
        members(tmp_path)


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    service(tmp_path, "a", "no type")

    with pytest.raises(BadManifest, match=r"a/agent\.toml"):
        members(tmp_path)


def test_services_here_come_first_and_those_of_the_checkout_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = find()
    service(tmp_path / "services", "all", "brief.requested.v1", "brief.published.v1")

    assert before == SERVICES
    assert find() == tmp_path / "services"
    assert find(SERVICES) == SERVICES


def test_outside_of_a_checkout_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hocket.demo.cast._CHECKOUT", tmp_path)

    with pytest.raises(NoCrew, match="in a checkout of hocket, or give --services DIR"):
        find()
