"""Secrets all over an inquiry: with a redaction none is in the files of the log, its messages, spans or log lines."""

import asyncio
import io
import logging
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent as Asked
from pydantic_ai import Tool
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from hocket import Agent, Context, Retry
from hocket.client import open_bus
from hocket.conventions import CAPTURE_CONTENT
from hocket.effect import NotDone
from hocket.host.crew import Crew, running
from hocket.host.logs import JsonLines
from hocket.llm import Durable, Passage, Template, ask_model, effect_tool
from hocket.log import jetstream
from hocket.log.server import EmbeddedServer
from hocket.redaction import COMMON, Redaction, secret
from hocket.subjects import Names
from hocket_schemas.event import Catalog, Event

EVENTS = Catalog()

PROMPT = [
    "sk-proj-Zq81mNv7TtLw03xYcB5e",
    "AKIAQ7WZ3M5N9P2R4T6V",
    "ada.lovelace@analytical.example",
    "hunter2-in-the-url",
    "vermilion otter",
]
"""The last one looks like nothing and is named, as are those with signs of JSON in them."""

ARGUMENTS = ["xoxb-9081726354-abcdefGHIJ", "s3cr3t-member-value", 'quo"ted\\pass', "4111 1111 1111 1111"]
RESULTS = [
    "ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJub2JvZHkifQ.c2lnbmF0dXJlLW9mLW5vbm",
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    "opaque-bearer-0123456789",
]
OUTPUT = ["glpat-Xy7Zw9Vu5Ts3Rq1Po8Nm", "AIzaSyD4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T", "grace@navy.example", "päss wörd"]
ERRORS = ["hf_QwErTyUiOpAsDfGhJkLz12345", "token-of-the-tool-77", "rk_live_0a1b2c3d4e5f6g7h8i"]
SECRETS = [*PROMPT, *ARGUMENTS, *RESULTS, *OUTPUT, *ERRORS]
NAMED = ["vermilion otter", 'quo"ted\\pass', "päss wörd"]

REDACTION = Redaction((*(secret(f"named {i}", value) for i, value in enumerate(NAMED)), *COMMON))

TEMPLATE = Template("errand", "1", "Use {key} and {other}, mail {mail}, at https://ada:{url}@host. Known:\n{passages}")


class Put(Event, type="redacted.put.v1", catalog=EVENTS):
    pass


class Done(Event, type="redacted.done.v1", catalog=EVENTS):
    text: str


class Failing(Event, type="redacted.failing.v1", catalog=EVENTS):
    pass


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What all loggers say, at any level."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    before = {logger: logger.level for logger in (root, logging.getLogger("hocket"))}
    root.addHandler(handler)
    for logger in before:
        logger.setLevel(logging.DEBUG)
    yield said
    root.removeHandler(handler)
    for logger, level in before.items():
        logger.setLevel(level)


class Errand:
    """An agent that comes across secrets wherever there can be any."""

    def __init__(self, redaction: Redaction | None) -> None:
        self.seen_by_the_model = ""
        self.failures = 0
        self.crew = Agent("crew")
        durable = [Durable[Any](redaction=redaction)]
        refused = Asked(FunctionModel(self.refuse), name="refused", capabilities=durable)

        async def look(url: str, credentials: dict[str, str]) -> dict[str, Any]:
            self.failures += 1
            if self.failures == 1:
                raise ConnectionError(f"refused: {ERRORS[0]}", {"told": [ERRORS[0]]})
            return {"found": [RESULTS[0], {"session": RESULTS[1]}], "file": pem(RESULTS[2])}

        @self.crew.effect()
        async def pay(card: str, *, key: str) -> str:
            if self.failures < 3:
                self.failures = 3
                raise NotDone(f"wrong: token={ERRORS[1]}")
            return f"paid, Bearer {RESULTS[3]}"

        tools = [Tool(look), effect_tool(pay)]
        asked = Asked(FunctionModel(self.respond), name="asked", capabilities=durable, tools=tools)

        @self.crew.on(Put, retry=Retry(first_s=0.01))
        async def run_errand(event: Put, ctx: Context) -> Done:
            known = [Passage("p1", f"The watchword is {PROMPT[4]}.", "notes.md:1")]
            prompt = TEMPLATE.filled(key=PROMPT[0], other=PROMPT[1], mail=PROMPT[2], url=PROMPT[3], passages=known)
            return Done(text=(await ask_model(ctx, asked, prompt)).output)

        @self.crew.on(Failing, retry=Retry(attempts_max=2, first_s=0.01))
        async def fail(event: Failing, ctx: Context) -> Done:
            return Done(text=(await ask_model(ctx, refused, "go")).output)

    async def respond(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        self.seen_by_the_model += str(messages)
        if turn == 0:
            given = {"password": ARGUMENTS[1], "phrase": ARGUMENTS[2]}
            call = {"url": f"https://chat.example/?k={ARGUMENTS[0]}", "credentials": given}
            return ModelResponse(parts=[ToolCallPart("look", call, tool_call_id="one")])
        if turn == 1:
            return ModelResponse(parts=[ToolCallPart("pay", f'{{"card": "{ARGUMENTS[3]}"}}', tool_call_id="two")])
        return ModelResponse(parts=[TextPart(f"Done with {OUTPUT[0]}, {OUTPUT[1]}, {OUTPUT[2]} and {OUTPUT[3]}.")])

    async def refuse(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise ModelHTTPError(400, "m", body={"error": {"message": f"bad key {ERRORS[2]}"}})


def pem(body: str) -> str:
    return f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize("redaction", [REDACTION, None], ids=["redacted", "as it is"])
async def test_of_twenty_secrets_none_is_in_the_log_in_spans_or_in_lines(
    tmp_path: Path,
    domain: str,
    spans: InMemorySpanExporter,
    lines: io.StringIO,
    redaction: Redaction | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CAPTURE_CONTENT, "true")
    errand, stored, done = Errand(redaction), list[bytes](), ""

    async with EmbeddedServer(tmp_path / "server") as server, jetstream.connect(server.url, domain=domain) as logs:
        async with (
            open_bus(logs, publisher="test") as bus,
            running(Crew([errand.crew], logs)) as crew,
            asyncio.timeout(30),
            bus.subscribe(Done) as answers,
        ):
            await crew.owning()
            await bus.publish(Failing(), key="b")
            await bus.publish(Put(), key="a")
            done = str((await anext(answers)).envelope.data)
            async with aclosing(logs[0].scan([f"{Names(domain, 0).root}.dead.>"], follow=True)) as letters:
                await anext(letters)
        async for message in logs[0].scan([Names(domain, 0).everything]):
            stored += [message.subject.encode(), message.data]

    files = b"".join(path.read_bytes() for path in sorted((tmp_path / "server").rglob("*")) if path.is_file())
    told = "".join(span.to_json() for span in spans.get_finished_spans())
    places = [files, b"".join(stored), told.encode(), lines.getvalue().encode(), done.encode()]
    found = [value for value in SECRETS if any(form in place for form in forms(value) for place in places)]
    assert len(SECRETS) == len(set(SECRETS)) == 20
    assert all(value in errand.seen_by_the_model for value in PROMPT), "the model is asked with what is there"
    assert b"Use " in files, "files are searched that hold what was stored"
    assert '"gen_ai.tool.call.arguments"' in told
    assert "attempt failed" in lines.getvalue()
    assert found == ([] if redaction else SECRETS)


def forms(value: str) -> list[bytes]:
    """A secret as it may stand in files: as it is, and within JSON."""
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return [value.encode(), quoted.encode(), value.encode("unicode_escape")]
