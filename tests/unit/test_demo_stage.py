"""The log of earlier demos is bounded, and only a log that a demo has begun is ever removed."""

import fcntl
from pathlib import Path

import pytest

from hocket.demo import stage
from hocket.demo.stage import make_room


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "LOG_BYTES_MAX", 1000)


def store(home: Path, size: int) -> Path:
    (home / "jetstream" / "stream").mkdir(parents=True)
    (home / "jetstream" / "stream" / "1.blk").write_bytes(bytes(size))
    return home / "jetstream"


@pytest.mark.usefixtures("small")
def test_a_log_that_a_demo_has_begun_is_removed_when_it_has_outgrown_its_bound(tmp_path: Path) -> None:
    make_room(tmp_path)
    log = store(tmp_path, 1001)

    assert make_room(tmp_path) == 1001
    assert not log.exists()


@pytest.mark.usefixtures("small")
def test_a_smaller_one_stays(tmp_path: Path) -> None:
    make_room(tmp_path)
    log = store(tmp_path, 1000)

    assert make_room(tmp_path) == 0
    assert log.exists()


@pytest.mark.usefixtures("small")
def test_a_log_that_no_demo_has_begun_stays_whatever_its_size(tmp_path: Path) -> None:
    log = store(tmp_path, 5000)

    assert make_room(tmp_path) == 0
    assert log.exists()


@pytest.mark.usefixtures("small")
def test_a_log_in_use_stays(tmp_path: Path) -> None:
    make_room(tmp_path)
    log = store(tmp_path, 5000)

    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        freed = make_room(tmp_path)

    assert freed == 0
    assert log.exists()
