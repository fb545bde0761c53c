"""The crew with a model as its writer: what it says is reviewed, and each sentence can be followed back to its file."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.choreography.test_brief import CREW, crew

from hocket.cli.lineage import print_calls, print_origins
from hocket.demo.brief import parse, verify
from hocket.llm import configured
from hocket.observe.why import Chain, why
from hocket.testing import Bed, run_virtual
from hocket_schemas.briefs import MODEL, BriefPublished, BriefRequested, BriefReviewed, RevisionRequested
from hocket_schemas.words import plain

DOCS = {
    "cursor.md": "# Cursors\n\nThe cursor says how far an agent has come in the log.\nIt is written as a record.\n",
    "claim.md": "# Claims\n\nA claim makes one instance the owner of an agent for 5 seconds at least.\n",
    "log.md": "# The log\n\nNobody changes a fact that is in the log, and every agent reads it from its own cursor.\n",
}
SHOWN = re.compile(r"^\[([^\]]+)\] (.+?)(?=\n\n\[|\Z)", re.MULTILINE | re.DOTALL)


class Writer:
    """A model that says each passage again, and at first one thing that the passage does not say."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    async def respond(self, messages: Sequence[ModelMessage], info: AgentInfo) -> ModelResponse:
        prompt = str(messages[0].parts[-1].content[0].content)  # type: ignore[union-attr, index]  # a filled template
        self.prompts.append(prompt)
        sentences = [self._told(id, text) for id, text in SHOWN.findall(prompt.partition("brackets:")[2])]
        if "did not accept" not in prompt:
            sentences = [
                {**sentences[0], "quote": "The cursor says it all."},
                {**sentences[-1], "passage": "nowhere.md:1"},
            ]
        return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, {"sentences": sentences})])

    def _told(self, id: str, text: str) -> dict[str, Any]:
        first = plain(text).partition(". ")[0].rstrip(".") + "."
        return {"text": f"In short, {first[0].lower()}{first[1:]}", "passage": id, "quote": first}


def written_with(
    model: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Chain, BriefReviewed, set[str]]:
    """Why the brief is there, what was reviewed in the end, and what was objected to before."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in DOCS.items():
        (folder / name).write_text(text)
    monkeypatch.setenv(MODEL, "scripted")
    monkeypatch.setattr(configured, "model", lambda: FunctionModel(model.respond))

    async def main() -> tuple[Chain, BriefReviewed, set[str]]:
        async with Bed(*crew()) as bed:
            await bed.publish(BriefRequested(folder=str(folder), out=str(tmp_path / "brief.md")), key="b-1")
            await bed.settled()
            await bed.decide(by="ann")
            await bed.quiet()
            assert [bed.dead(agent) for agent in bed.agents] == [[] for _ in CREW]
            [published] = [delivery.envelope.id async for delivery in bed.bus.read(BriefPublished)]
            [reviewed] = bed.events(BriefReviewed)
            reasons = {each.reason for revision in bed.events(RevisionRequested) for each in revision.objections}
            return await why(bed.bus, published), reviewed, reasons

    return run_virtual(main())


def test_why_names_call_template_passages_and_files_for_every_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Writer()

    chain, reviewed, _ = written_with(model, tmp_path, monkeypatch)

    sentences = [sentence for section in reviewed.sections for sentence in section.sentences]
    assert sentences
    assert [piece.text for piece in chain.origins] == [sentence.text for sentence in sentences]
    steps = {call.step: call for call in chain.calls}
    for piece, sentence in zip(chain.origins, sentences, strict=True):
        [step] = piece.steps
        assert piece.template == "brief.section@1"
        assert [(item.id, item.source) for item in piece.items] == [(f"{sentence.document}:{sentence.line_first}",) * 2]
        assert (tmp_path / "docs" / sentence.document).exists()
        assert piece.unknown == ()
        assert piece.items[0] in [item for part in steps[step].made.context for item in part.items]
    assert len(steps) == len(model.prompts), "drafts that were sent back are told too"
    print_calls(chain.calls)
    print_origins(chain.origins)
    told = capsys.readouterr().out
    assert all(f"{sentence.document}:{sentence.line_first}" in told for sentence in sentences)


def test_what_a_model_says_is_reviewed_and_the_brief_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, _, reasons = written_with(Writer(), tmp_path, monkeypatch)

    brief = parse((tmp_path / "brief.md").read_text())
    assert {"its source says something else there", "its source has no such passage"} <= reasons
    assert verify(tmp_path / "brief.md", tmp_path / "docs") == []
    assert len(brief.told) == len(brief.quotes) == len(chain.origins)
    assert all(text.startswith("In short, ") for text in brief.told)
    assert "## Written with a model\n\n- scripted: " in (tmp_path / "brief.md").read_text()


def test_without_a_model_the_writer_does_not_load_what_talks_to_models() -> None:
    import subprocess

    program = (
        "import sys; from pathlib import Path; from hocket.host.loader import load; "
        f"load(Path({str(Path(__file__).parents[2] / 'services' / 'writer')!r})); print('pydantic_ai' in sys.modules)"
    )

    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"
