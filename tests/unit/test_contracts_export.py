"""The schemas in the repository are those of the code."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from hocket_schemas import export


def test_the_schemas_in_the_repository_are_those_of_the_code() -> None:
    assert export.drift(export.schemas(), export.FOLDER) == []


def test_a_schema_says_what_a_publisher_must_send() -> None:
    schema = orjson.loads(export.schemas()["hocket.saga.expired.v1.json"])

    assert schema["title"] == "SagaExpired"
    assert schema["required"] == ["name", "saga", "deadline_s", "missing"]
    assert schema["additionalProperties"] is False


def test_only_events_of_the_package_are_exported() -> None:
    from hocket_schemas.event import Event

    class Elsewhere(Event, type="declared.elsewhere.v1"):
        pass

    assert "declared.elsewhere.v1.json" not in export.schemas()


def test_every_kind_of_drift_is_named(tmp_path: Path) -> None:
    (tmp_path / "same.json").write_bytes(b"1")
    (tmp_path / "changed.json").write_bytes(b"2")
    (tmp_path / "stale.json").write_bytes(b"3")

    found = export.drift({"same.json": b"1", "changed.json": b"1", "new.json": b"1"}, tmp_path)

    assert found == ["changed.json: changed", "new.json: missing", "stale.json: no event of this type"]


def test_writing_ends_the_drift(tmp_path: Path) -> None:
    (tmp_path / "stale.json").write_bytes(b"3")
    files = {"new.json": b"1"}

    export.write(files, tmp_path)

    assert export.drift(files, tmp_path) == []


def test_a_drift_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "FOLDER", tmp_path)

    assert export.main(["--check"]) == 1
    assert "hocket.saga.completed.v1.json: missing" in capsys.readouterr().out
    assert export.main([]) == 0
    assert export.main(["--check"]) == 0


def test_another_process_writes_the_same_bytes() -> None:
    script = (
        "import sys; from hocket_schemas import export; sys.stdout.buffer.write(b''.join(export.schemas().values()))"
    )

    other = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)

    assert other.stdout == b"".join(export.schemas().values())
