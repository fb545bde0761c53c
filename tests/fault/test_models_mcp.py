"""Tools that a server of the Model Context Protocol has: a real one, in a process of its own."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent as Asked
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.unit.scripted import Answered, Case, Put, Script, asking, call

from hocket import Retry
from hocket.testing import Bed

pytest.importorskip("fastmcp", reason="wants pydantic-ai-slim[mcp], which brings thirty packages: installed by hand")

from fastmcp.client.transports import StdioTransport
from pydantic_ai.mcp import MCPToolset

SERVER = Path(__file__).with_name("scripted_mcp.py")


class Served:
    """A toolset of a server that is begun when it is needed, and what was asked of it."""

    def __init__(self, folder: Path, id: str | None = "eyes", **options: Any) -> None:
        self.log = folder / "mcp.log"
        transport = StdioTransport(sys.executable, [str(SERVER), str(self.log)], keep_alive=False)
        self.toolset = MCPToolset[Any](transport, id=id, **options)

    def asked(self, method: str) -> list[Any]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [line.get("params") for line in lines if line["method"] == method]


async def played(asked: Asked[Any, Any], fails: int = 1) -> tuple[str, Case]:
    """What the agent answers in the end, on the time of the wall: the server's process knows no other."""
    case = Case(asking(asked, fails=fails), retry=Retry(attempts_max=3, first_s=0.01))
    async with Bed(case.crew) as case.bed:
        await case.bed.publish(Put(), key="k")
        await case.bed.quiet()
        return str([answer.text for answer in case.bed.events(Answered)] or case.bed.dead(case.crew)), case


async def test_a_call_to_a_server_is_a_step_and_so_is_the_list_of_its_tools(tmp_path: Path) -> None:
    served, script = Served(tmp_path), Script([call("look", x=1), call("look", x=2)], [call("look", x=3)])

    said, case = await played(Asked(script.model, name="asked", toolsets=[served.toolset]))

    assert said == "[\"['seen 1', 'seen 2', 'seen 3']\"]"
    assert (case.attempts, script.requests) == (2, [0, 1, 2])
    assert sorted(given["arguments"]["x"] for given in served.asked("tools/call")) == [1, 2, 3]
    assert len(served.asked("initialize")) == 1, "a run keeps its connection; one that only remembers wants none"


async def test_what_a_server_refuses_goes_back_to_the_model_once(tmp_path: Path) -> None:
    served, script = Served(tmp_path), Script([call("look", x=0)], [call("look", x=1)])

    said, _ = await played(Asked(script.model, name="asked", toolsets=[served.toolset], retries=2))

    assert said == "[\"['not zero', 'seen 1']\"]"
    assert [given["arguments"]["x"] for given in served.asked("tools/call")] == [0, 1]


async def test_a_servers_instructions_reach_the_model_and_are_remembered(tmp_path: Path) -> None:
    async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart(f"{info.instructions}")])

    served = Served(tmp_path, include_instructions=True)

    said, case = await played(Asked(FunctionModel(respond), name="asked", toolsets=[served.toolset.prefixed("my")]))

    assert "Look twice." in said
    assert (case.attempts, len(served.asked("initialize"))) == (2, 1)


async def test_a_server_without_an_id_is_refused(tmp_path: Path) -> None:
    served = Served(tmp_path, id=None)

    said, _ = await played(Asked(Script("never").model, name="asked", toolsets=[served.toolset]))

    assert "unique `id`" in said
    assert served.asked("initialize") == []
