"""What nobody is to read in the log: what the rules find, what they leave, and what becomes of failures."""

import traceback
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_ai import Agent as Asked
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.unit.scripted import Case, breaks

from hocket import Context
from hocket.llm import Durable, ask_model
from hocket.redaction import RedactedFailure, Redaction, pattern, redacting, secret

COMMON = Redaction()
KEY = "sk-abcdefghij0123456789"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"use {KEY} here", "use [redacted: api key] here"),
        ("mail ada@lovelace.example now", "mail [redacted: e-mail] now"),
        ("password = hunter2!", "password = [redacted: secret]"),
        ('{"api_key": "abcd1234"}', '{"api_key": "[redacted: secret]"}'),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer [redacted: credentials]"),
        ("amqp://ann:hunter2@host/x", "amqp://ann:[redacted: password]@host/x"),
        ("pay 4111 1111 1111 1111.", "pay [redacted: card number]."),
        ("order 4111 1111 1111 1112.", "order 4111 1111 1111 1112."),
        ("5000 input tokens: 30 a sentence, no secret; task-list and @home", None),
        ("9a0364b9e99bb480" * 4, None),
    ],
)
def test_what_looks_like_a_secret_is_taken_out_and_the_rest_stays(text: str, shown: str | None) -> None:
    assert COMMON.text(text) == (shown or text)
    assert COMMON.text(COMMON.text(text)) == COMMON.text(text), "once is enough"


def test_members_of_json_are_known_by_their_names_and_a_named_secret_wherever_it_stands() -> None:
    redaction = Redaction((secret("watchword", 'ot"ter'), pattern("room", r"room (?P<value>\d+)")))
    told = {"Password": "x", "deep": [{'ot"ter': "room 12"}, 'a {"b": "ot\\"ter"}', 7, None]}

    shown = redaction.value(told)

    assert shown == {
        "Password": "[redacted: password]",
        "deep": [{"[redacted: watchword]": "room [redacted: room]"}, 'a {"b": "[redacted: watchword]"}', 7, None],
    }
    assert redaction.json(b'{"a":1}') == b'{"a":1}'


class Pin(BaseModel):
    pin: int


def failing(failure: Exception) -> Exception:
    """How a failure comes out that another one has caused."""

    def fail() -> None:
        try:
            raise OSError(f"below: {KEY}")
        except OSError as cause:
            raise failure from cause

    try:
        with redacting(COMMON):
            fail()
    except Exception as shown:  # noqa: BLE001 - of whatever type it comes out
        return shown
    raise AssertionError("it passes")


def test_a_failure_keeps_its_type_and_tells_nothing_nor_does_its_cause() -> None:
    failure = ModelHTTPError(401, "m", body={"message": f"bad {KEY}"})
    failure.add_note(f"with {KEY}")

    shown = failing(failure)

    assert isinstance(shown, ModelHTTPError)
    assert shown.status_code == 401
    assert KEY not in "".join(traceback.format_exception(shown)).replace(f'"{KEY}"', "")
    assert KEY not in str(shown)
    assert KEY not in str(shown.body)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_failure_that_cannot_be_changed_is_replaced(grouped: bool) -> None:
    failure: Exception
    try:
        Pin.model_validate({"pin": KEY})
    except ValidationError as error:
        failure = ExceptionGroup("many", [error]) if grouped else error

    shown = failing(failure)

    assert isinstance(shown, RedactedFailure)
    assert str(shown).startswith("ExceptionGroup: many" if grouped else "ValidationError: 1 validation error")
    assert KEY not in "".join(traceback.format_exception(shown))


def test_a_chain_of_failures_is_gone_through_once_and_may_lead_back() -> None:
    looked = 0

    def look(text: str) -> str:
        nonlocal looked
        looked += 1
        return text.replace(KEY, "…")

    first = failure = ValueError(KEY)
    for _ in range(12):
        try:
            raise RuntimeError(KEY) from failure
        except RuntimeError as raised:
            raised.__context__ = failure
            failure = raised
    first.__context__ = failure

    shown = Redaction(rules=(look,)).failure(failure)

    assert KEY not in "".join(traceback.format_exception(shown))
    assert looked < 200, "not twice for each link"


def test_outside_of_a_redaction_a_failure_is_left_as_it_is() -> None:
    failure = ValueError(KEY)

    with pytest.raises(ValueError, match=KEY), redacting(None):
        raise failure


def test_the_first_execution_goes_on_with_what_a_later_one_reads() -> None:
    asked_with, fail = list[str](), breaks(1)

    async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("look", {"key": KEY}, tool_call_id="one")])
        asked_with.append(str(messages))
        return ModelResponse(parts=[TextPart(f"got {KEY}")])

    asked = Asked(FunctionModel(respond), name="asked", capabilities=[Durable[Any](redaction=COMMON)])
    looked = list[str]()

    @asked.tool_plain
    async def look(key: str) -> str:
        looked.append(key)
        return f"answer {KEY}"

    async def answer(ctx: Context) -> str:
        said = (await ask_model(ctx, asked, f"with {KEY}")).output
        looked.append(said)
        fail()
        return said

    assert Case(answer).play() == "got [redacted: api key]"
    assert looked == ["[redacted: api key]", "got [redacted: api key]", "got [redacted: api key]"]
    assert len(asked_with) == 1
    assert f"with {KEY}" in asked_with[0], "the prompt goes to the model as it is"
    assert f"answer {KEY}" not in asked_with[0], "a tool's answer goes to it as it is remembered"
