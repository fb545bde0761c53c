"""Spans of agents, models and tools, by the conventions for generative AI."""

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from pydantic_ai import Agent as Asked
from tests.unit.scripted import Case, Script, breaks, call

from hocket import Context, conventions
from hocket.llm import ask_model


def play() -> str:
    """One inquiry with a tool, in two executions."""
    script, fail = Script([call("look", x=1)], "done"), breaks(1)
    asked = Asked(script.model, name="asked", model_settings={"temperature": 0.5})

    @asked.tool_plain
    async def look(x: int) -> str:
        return "seen"

    async def answer(ctx: Context) -> str:
        text = (await ask_model(ctx, asked, "a prompt")).output
        fail()
        return text

    return Case(answer).play()


def gen_ai(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if "gen_ai.operation.name" in (span.attributes or {})]


def test_requests_and_calls_of_tools_have_a_span_each_and_what_is_read_again_has_none(
    spans: InMemorySpanExporter,
) -> None:
    assert play() == "done"

    told = gen_ai(spans)
    names = [span.name for span in told]
    assert [name for name in names if not name.startswith("invoke_agent")] == [
        "chat function:respond:",
        "execute_tool look",
        "chat function:respond:",
    ]
    assert names.count("invoke_agent asked") == 2, "one for each execution"
    first, tool = told[0].attributes or {}, told[1].attributes or {}
    assert first["gen_ai.operation.name"] == "chat"
    assert first["gen_ai.agent.name"] == "asked"
    assert first["gen_ai.request.model"] == "function:respond:"
    assert first["gen_ai.provider.name"] == "function"
    assert first["gen_ai.request.temperature"] == 0.5
    assert isinstance(first["gen_ai.usage.input_tokens"], int)
    assert (tool["gen_ai.tool.name"], tool["gen_ai.tool.call.id"]) == ("look", "look-1")
    parents = {span.context.span_id: span.name for span in told if span.context}
    assert {parents[span.parent.span_id] for span in told[:2] if span.parent} == {"invoke_agent asked"}


@pytest.mark.parametrize("wanted", [False, True])
def test_what_is_said_is_in_spans_only_when_that_is_wanted(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    if wanted:
        monkeypatch.setenv(conventions.CAPTURE_CONTENT, "true")

    play()

    content = {name for span in gen_ai(spans) for name in span.attributes or {} if name in conventions.CONTENT}
    assert content == (conventions.CONTENT - {conventions.TOOL_CALL_RESULT} if wanted else set())
    assert ("a prompt" in "".join(span.to_json() for span in gen_ai(spans))) is wanted


def test_the_table_holds_names_of_the_conventions_that_it_is_pinned_to() -> None:
    ours = {value for value in vars(conventions).values() if isinstance(value, str) and value.startswith("gen_ai.")}
    theirs = {value for value in vars(gen_ai_attributes).values() if isinstance(value, str)}

    assert len(ours) > 20
    assert ours <= theirs
    operations = {each.value for each in gen_ai_attributes.GenAiOperationNameValues}
    assert {conventions.CHAT, conventions.INVOKE_AGENT, conventions.EXECUTE_TOOL} <= operations
