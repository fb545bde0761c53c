"""The record that a call of a model leaves beside its answer: what was in the window, what came out, what it took."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any

import orjson
from pydantic import TypeAdapter
from pydantic_ai.durable_exec import ModelRequestParams
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.settings import ModelSettings

from hocket.blob import Blob, Left
from hocket.llm.prompts import BYTES_PER_TOKEN, Made
from hocket.llm.spending import cost_of
from hocket_schemas.lineage import ContextItem, ModelCall

CONTENTS_MAX = 200
"""How many contents a call has kept at most, the newest first: it is one append with its answer."""

CONTENTS_BYTES_MAX = 8 * 1024 * 1024
"""How many bytes they may come to."""

ITEMS_MAX = 1000
"""How many items of the context are told one by one; of a longer window the newest, and how many there were before."""

_VOLATILE = frozenset({"timestamp", "metadata", "run_id", "conversation_id", "usage", "provider_details"})
"""Members of messages that say nothing to a model, and differ from one execution to the next."""

_UNTOLD = frozenset({"extra_headers", "extra_body"})
"""Settings that may bear a credential: it is told only that there are some."""

Redact = Callable[[Any], Any]
"""Takes out of JSON what nobody is to read."""


class Keep(StrEnum):
    """How much of a call stands in the log beside its answer."""

    CONTENTS = "contents"
    """The record, and the texts that were in the window, each once."""

    RECORD = "record"
    """The record alone: what was in the window is named by digest, and can be compared but not read."""

    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the window before it is an item of the record."""

    kind: str
    content: bytes
    made_of: Sequence[Made] = ()
    is_kept: bool = False
    """Whether the journal has it already."""


def record_of(
    *,
    inquiry: str,
    agent: str,
    model: str,
    params: ModelRequestParams,
    response: ModelResponse,
    keep: Keep,
    redact: Redact,
) -> Left:
    """What a call leaves. Digests are of what is kept: of the redacted text."""
    parts = list(_window(params, inquiry, redact))
    contents: dict[str, bytes] = {}
    items, tokens = [], 0
    bytes_left = CONTENTS_BYTES_MAX if keep is Keep.CONTENTS else 0
    for part in reversed(parts):
        blob = Blob.of(part.content)
        fits = blob.digest in contents or (len(contents) < CONTENTS_MAX and blob.size <= bytes_left)
        kept = keep is Keep.CONTENTS and fits and not part.is_kept
        if kept and blob.digest not in contents:
            contents[blob.digest] = part.content
            bytes_left -= blob.size
        items.append(_item(part, blob, kept=kept))
        tokens += items[-1].tokens
    items.reverse()
    prompt = Blob.of("\n".join(item.digest for item in items).encode()).digest
    templates = [item.template for item in items if item.template is not None]
    left_out = [item for part in parts for made_of in part.made_of for item in made_of.left_out]
    dropped = items[:-ITEMS_MAX]
    if dropped:
        counted = sum(item.tokens for item in dropped)
        items[: len(dropped)] = [ContextItem(id="", kind=f"{len(dropped)} earlier ones", tokens=counted)]
    usage = response.usage
    call = ModelCall(
        inquiry=inquiry,
        agent=agent,
        model=model,
        provider=response.provider_name or "",
        parameters=redact(_parameters(params.model_settings)),
        prompt=prompt,
        template=templates[-1] if templates else None,
        context=items,
        left_out=left_out[:ITEMS_MAX],
        tokens_estimated=tokens,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cost=cost_of(response),
        output=Blob.of(_answer(_json_of(response), redact)).digest,
        answered_by=response.model_name or "",
        response=response.provider_response_id or "",
        finish=response.finish_reason or "",
    )
    return Left(call.model_dump_json(exclude_defaults=True).encode(), tuple(contents.values()))


def _window(params: ModelRequestParams, inquiry: str, redact: Redact) -> Iterator[_Part]:
    """All that a model is given, in order."""
    asked = params.model_request_parameters
    tools = [*asked.function_tools, *asked.output_tools]
    if tools:
        yield _Part("tools", _bytes(redact(_TOOLS.dump_python(tools, mode="json", exclude_defaults=True))))
    if asked.output_object is not None:
        yield _Part("output", _bytes(redact(_plain(_TOOLS.dump_python(asked.output_object, mode="json")))))
    instructions = [part.content for part in asked.instruction_parts or ()]
    if not instructions:
        said = (getattr(message, "instructions", None) for message in reversed(params.messages))
        instructions = [text for text in said if text][:1]
    if instructions:
        yield _Part("instructions", _bytes(redact("\n\n".join(instructions))))
    yield from chain.from_iterable(_parts(message, inquiry, redact) for message in params.messages)


def _parts(message: ModelMessage, inquiry: str, redact: Redact) -> Iterator[_Part]:
    told = _json_of(message)
    if isinstance(message, ModelResponse):
        yield _Part("answer", _answer(told, redact), is_kept=message.run_id == inquiry)
        return
    for part, said in zip(message.parts, told["parts"], strict=True):
        content = getattr(part, "content", None)
        each = content if isinstance(content, Sequence) and not isinstance(content, str | bytes) else ()
        made_of = [Made.of(redact(getattr(one, "metadata", None))) for one in (part, *each)]
        plain = _plain(said)
        shown = redact(plain)
        # A digest of what was taken out would tell it to whoever knows all the rest.
        yield _Part(part.part_kind, _bytes(shown), made_of if shown == plain else [m.undigested() for m in made_of])


def _item(part: _Part, blob: Blob, *, kept: bool) -> ContextItem:
    return ContextItem(
        id=blob.digest,
        kind=part.kind,
        tokens=-(-blob.size // BYTES_PER_TOKEN),
        digest=blob.digest,
        size=blob.size,
        kept=kept,
        template=next((made_of.template for made_of in part.made_of if made_of.template), None),
        items=[item for made_of in part.made_of for item in made_of.items],
    )


def _answer(told: Mapping[str, Any], redact: Redact) -> bytes:
    """An answer as it is named: what it says, and not by whom or when."""
    return _bytes(redact(_plain(told["parts"])))


def _json_of(message: ModelMessage) -> dict[str, Any]:
    told: dict[str, Any] = ModelMessagesTypeAdapter.dump_python([message], mode="json")[0]
    return told


def _plain(told: Any) -> Any:
    """JSON without what is volatile, and without what is not said."""
    if isinstance(told, Mapping):
        return {name: _plain(value) for name, value in told.items() if name not in _VOLATILE and value is not None}
    return [_plain(value) for value in told] if isinstance(told, list) else told


def _parameters(settings: ModelSettings | None) -> dict[str, Any]:
    """The settings of a request as JSON; what is none is told by its type."""
    return {
        name: "…" if name in _UNTOLD else orjson.loads(orjson.dumps(value, default=lambda odd: type(odd).__name__))
        for name, value in (settings or {}).items()
        if value is not None
    }


def _bytes(value: Any) -> bytes:
    return value.encode(errors="replace") if isinstance(value, str) else orjson.dumps(value)


_TOOLS: TypeAdapter[Any] = TypeAdapter(Any)
