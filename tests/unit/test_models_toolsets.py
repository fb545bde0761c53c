"""Where a model's tools come from: whatever toolset has them, each call is a step, and what cannot be is refused."""

from typing import Any

import pytest
from pydantic_ai import Agent as Asked
from pydantic_ai import DeferredToolRequests, DeferredToolResults, RunContext
from pydantic_ai.capabilities import DynamicCapability, Toolset
from pydantic_ai.tools import Tool, ToolDefinition
from pydantic_ai.toolsets import (
    AbstractToolset,
    CombinedToolset,
    DynamicToolset,
    ExternalToolset,
    FunctionToolset,
    ToolsetTool,
    WrapperToolset,
)
from tests.unit.scripted import Case, Script, asking, breaks, call

from hocket import Context
from hocket.llm import Durable, ask_model


class Eyes:
    """A tool, and what it was called with."""

    def __init__(self) -> None:
        self.looked: list[int] = []

    def toolset(self, id: str | None = "eyes", **options: Any) -> FunctionToolset[Any]:
        async def look(x: int) -> int:
            self.looked.append(x)
            return -x

        return FunctionToolset([Tool(look, **options)], id=id)


async def _kept(run: RunContext[Any], definitions: list[ToolDefinition]) -> list[ToolDefinition]:
    return definitions


WRAPPED = {
    "combined": ("look", lambda tools: CombinedToolset([tools, FunctionToolset(id="other")])),
    "prefixed": ("my_look", lambda tools: tools.prefixed("my")),
    "renamed": ("see", lambda tools: tools.renamed({"see": "look"})),
    "filtered": ("look", lambda tools: tools.filtered(lambda run, definition: definition.name == "look")),
    "prepared": ("look", lambda tools: tools.prepared(_kept)),
    "described": ("look", lambda tools: tools.with_metadata(kind="eyes")),
    "wrapped": ("look", WrapperToolset),
    "dynamic": ("look", lambda tools: DynamicToolset(lambda run: tools, id="found")),
    "dynamic for the run": ("look", lambda tools: DynamicToolset(lambda run: tools, id="found", per_run_step=False)),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_tool_is_called_once_whatever_its_toolset_is_wrapped_in(kind: str) -> None:
    name, wrap = WRAPPED[kind]
    eyes, script = Eyes(), Script([call(name, x=1), call(name, x=2)])
    asked = Asked(script.model, name="asked", toolsets=[wrap(eyes.toolset())])

    assert Case(asking(asked)).play() == "[-1, -2]"
    assert (script.requests, sorted(eyes.looked)) == ([0, 1], [1, 2])


def test_a_wrapper_sees_each_call_and_the_call_stays_one_step() -> None:
    class Counted(WrapperToolset[Any]):
        async def call_tool(self, name: str, arguments: dict[str, Any], run: RunContext[Any], tool: Any) -> Any:
            seen.append(name)
            return await super().call_tool(name, arguments, run, tool)

    seen, eyes, script = list[str](), Eyes(), Script([call("look", x=1)])
    asked = Asked(script.model, name="asked", toolsets=[Counted(eyes.toolset())])

    assert Case(asking(asked)).play() == "[-1]"
    assert eyes.looked == [1]
    assert seen == ["look", "look"], "what wraps a toolset is code of the handler: it runs again with it"


def test_a_toolset_that_is_added_to_the_agent_later_is_refused() -> None:
    asked = Asked(Script("never").model, name="asked")

    @asked.toolset(id="found")
    def find(run: RunContext[None]) -> AbstractToolset[None]:
        return Eyes().toolset()

    assert "Pass them to the agent constructor instead" in Case(asking(asked)).play()


def test_what_tools_a_dynamic_toolset_had_is_remembered() -> None:
    found, script = list[int](), Script([call("look", x=1)], "done")

    def find(run: RunContext[Any]) -> AbstractToolset[Any]:
        found.append(1)
        return Eyes().toolset() if len(found) < 3 else FunctionToolset(id="none")

    asked = Asked(script.model, name="asked", toolsets=[DynamicToolset(find, id="found")])

    assert Case(asking(asked, fails=3)).play() == "done"
    assert script.requests == [0, 1]


def test_a_capability_may_bring_tools() -> None:
    eyes, script = Eyes(), Script([call("look", x=1)])
    asked = Asked(script.model, name="asked", capabilities=[Toolset(eyes.toolset()), Durable()])

    assert Case(asking(asked)).play() == "[-1]"
    assert eyes.looked == [1]


def test_a_capability_that_is_chosen_by_the_run_may_bring_tools() -> None:
    eyes, script = Eyes(), Script([call("look", x=1)])
    chosen = DynamicCapability(lambda run: Toolset(eyes.toolset()), id="chosen")
    asked = Asked(script.model, name="asked", capabilities=[chosen, Durable()])

    assert Case(asking(asked)).play() == "[-1]"
    assert eyes.looked == [1]


def test_a_toolset_of_ones_own_kind_is_code_of_the_handler() -> None:
    class Own(AbstractToolset[Any]):
        id = "own"

        async def get_tools(self, run: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
            return await inner.get_tools(run)

        async def call_tool(self, name: str, arguments: dict[str, Any], run: RunContext[Any], tool: Any) -> Any:
            return await inner.call_tool(name, arguments, run, tool)

    eyes, script = Eyes(), Script([call("look", x=1)])
    inner = eyes.toolset()
    asked = Asked(script.model, name="asked", toolsets=[Own()])

    assert Case(asking(asked)).play() == "[-1]"
    assert eyes.looked == [1, 1], "only toolsets of functions, dynamic ones and MCP's are made steps of"


def test_a_toolset_without_an_id_is_refused() -> None:
    asked = Asked(Script("never").model, name="asked", toolsets=[Eyes().toolset(id=None)])

    assert "unique `id`" in Case(asking(asked)).play()


def test_two_toolsets_of_one_id_are_refused() -> None:
    asked = Asked(Script("never").model, name="asked", toolsets=[Eyes().toolset(), Eyes().toolset().prefixed("my")])

    assert "Two toolsets have the same `id` 'eyes'" in Case(asking(asked)).play()


def test_one_toolset_in_two_places_is_one() -> None:
    eyes, script = Eyes(), Script([call("one_look", x=1), call("two_look", x=2)])
    tools = eyes.toolset()
    asked = Asked(script.model, name="asked", toolsets=[tools.prefixed("one"), tools.prefixed("two")])

    assert Case(asking(asked)).play() == "[-1, -2]"
    assert sorted(eyes.looked) == [1, 2]


@pytest.mark.parametrize("kind", ["function", "dynamic"])
def test_tools_that_come_with_the_question_are_refused(kind: str) -> None:
    eyes, script = Eyes(), Script([call("look", x=1)])
    tools = eyes.toolset() if kind == "function" else DynamicToolset(lambda run: eyes.toolset(), id="found")

    answer = Case(asking(Asked(script.model, name="asked"), toolsets=[tools])).play()

    assert "Pass them to the agent constructor instead" in answer
    assert (script.requests, eyes.looked) == ([], [])


def test_tools_that_come_with_the_question_may_do_without_steps() -> None:
    eyes, script = Eyes(), Script([call("look", x=1)])
    tools = eyes.toolset(metadata={"hocket": False})

    assert Case(asking(Asked(script.model, name="asked"), toolsets=[tools])).play() == "[-1]"
    assert (script.requests, eyes.looked) == ([0, 1], [1, 1])


def test_tools_that_are_put_in_the_place_of_the_agents_own_are_refused() -> None:
    eyes, script = Eyes(), Script([call("look", x=1)])
    asked = Asked(script.model, name="asked")

    async def answer(ctx: Context) -> str:
        with asked.override(toolsets=[eyes.toolset()]):
            return (await ask_model(ctx, asked, "?")).output

    assert "Pass them to the agent constructor instead" in Case(answer).play()


def test_a_tool_that_others_execute_is_answered_in_the_next_inquiry() -> None:
    hire = ToolDefinition(name="hire", parameters_json_schema={"type": "object", "properties": {"who": {}}})
    script, fail, outside = Script([call("hire", who="ada")]), breaks(1), ExternalToolset[None]([hire])
    asked = Asked[None, Any](script.model, name="asked", output_type=[str, DeferredToolRequests])

    async def answer(ctx: Context) -> str:
        first = await ask_model(ctx, asked, "?", toolsets=[outside])
        [wanted] = first.output.calls
        results = DeferredToolResults(calls={wanted.tool_call_id: f"{wanted.args_as_dict()['who']} is hired"})
        history = first.all_messages()
        second = await ask_model(
            ctx, asked, None, toolsets=[outside], message_history=history, deferred_tool_results=results
        )
        fail()
        return str(second.output)

    assert Case(answer).play() == "['ada is hired']"
    assert script.requests == [0, 1]
