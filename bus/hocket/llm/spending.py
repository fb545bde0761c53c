"""What a request to a model uses up: at most before it is made, in truth when it is answered."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from genai_prices import calc_price
from pydantic_ai.durable_exec import ModelRequestParams
from pydantic_ai.messages import ModelMessage, ModelResponse, TextContent
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage
from pydantic_core import to_json

from hocket.account import Spends
from hocket.llm.errors import UnknownPrice
from hocket_schemas.budgets import Purse, Unit

FRAME_TOKENS = 8
"""What a message or a part of one takes besides its text."""

BILLED: frozenset[Unit] = frozenset({"tokens", "cost"})


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs per million tokens, in the currency of the budgets."""

    read: float
    written: float

    def of(self, usage: RequestUsage) -> float:
        """Of some tokens."""
        return (usage.input_tokens * self.read + usage.output_tokens * self.written) / 1_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """How much a request is taken to use up at most, until its answer tells. Where a saga has a budget for that."""

    answer_tokens: int = 4096
    """The longest answer of a request that sets no `max_tokens` itself: it is set for it."""

    bytes_per_token: float = 2.0
    """Of what is sent. Texts have three to four, so that this reserves more than is used; the rest is given back."""

    file_tokens: int = 3000
    """For each picture, document or other file that is sent."""

    prices: Mapping[str, Price] = field(default_factory=dict)
    """By the model's name: of those that the table in genai-prices does not have, or has otherwise."""


def limited(purse: Purse) -> frozenset[Unit]:
    """Which of tokens and cost any account binds."""
    return BILLED & {unit for account in purse for unit in account.limits}


def bounded(settings: ModelSettings | None, estimate: Estimate) -> ModelSettings:
    """The settings with a bound on the answer."""
    given: ModelSettings = settings or {}
    return given if given.get("max_tokens") else {**given, "max_tokens": estimate.answer_tokens}


def at_most(request: ModelRequestParams, estimate: Estimate, purse: Purse, label: str) -> Spends:
    """What a request may use up. Raises UnknownPrice where a budget binds the cost and nobody knows it."""
    binds = limited(purse)
    if not binds:
        return Spends(label=label)
    answer = (request.model_settings or {}).get("max_tokens") or estimate.answer_tokens
    sent = sent_tokens(request.messages, request.model_request_parameters, estimate)
    usage = RequestUsage(input_tokens=sent, output_tokens=answer)
    cost = 0.0
    if "cost" in binds:
        models = _serving(request.run_context.model)  # type: ignore[arg-type]  # a run that makes requests has such a model
        costs = {model.model_name: _cost_at(model, usage, estimate.prices) for model in models}
        unknown = [name for name, cost in costs.items() if cost is None]
        if unknown:
            raise UnknownPrice(unknown[0], next(a.saga for a in purse if "cost" in a.limits))
        cost = max(cost for cost in costs.values() if cost is not None)
    return Spends(tokens=sent + answer, cost=cost, label=label)


def used_up(reserved: Spends, estimate: Estimate) -> Callable[[Any], Spends]:
    """Tells from an answer what it took; of money that nobody knows, what was reserved."""

    def of(response: ModelResponse) -> Spends:
        usage, price = response.usage, estimate.prices.get(response.model_name or "")
        known = price.of(usage) if price else cost_of(response)
        cost = reserved.cost if known is None else known
        return Spends(tokens=usage.input_tokens + usage.output_tokens, cost=cost)

    return of


def cost_of(response: ModelResponse) -> float | None:
    """What an answer has cost, as its provider or the table of prices says; None: nobody knows."""
    if response.usage.cost is not None:
        return float(response.usage.cost)
    if not response.model_name:
        return None
    try:
        return float(response.cost().total_price)
    except (LookupError, ValueError, ArithmeticError):  # no such model, or tokens that do not add up
        return None


def sent_tokens(messages: Sequence[ModelMessage], parameters: ModelRequestParameters, estimate: Estimate) -> int:
    """How many tokens a request sends, more rather than less: no tokenizer is asked."""
    texts: list[str | bytes] = []
    frames = files = 0
    for message in messages:
        frames += 1
        texts.append(getattr(message, "instructions", None) or "")
        for part in message.parts:
            frames += 1
            for piece in _pieces(part):
                if isinstance(piece, str | bytes):
                    texts.append(piece)
                else:
                    files += 1
    for instruction in parameters.instruction_parts or ():
        texts.append(instruction.content)
    for tool in (*parameters.function_tools, *parameters.output_tools):
        frames += 1
        texts += [tool.name, tool.description or "", to_json(tool.parameters_json_schema)]
    if parameters.output_object is not None:
        texts.append(to_json(parameters.output_object.json_schema))
    size = sum(len(text.encode(errors="replace") if isinstance(text, str) else text) for text in texts)
    return round(size / estimate.bytes_per_token) + FRAME_TOKENS * frames + estimate.file_tokens * files


def _pieces(part: Any) -> Iterable[object]:
    """The texts of a part of a message, and whatever else is in it."""
    yield getattr(part, "tool_name", None) or ""
    arguments = getattr(part, "args", None)
    if arguments:
        yield arguments if isinstance(arguments, str) else to_json(arguments, fallback=str)
    content = getattr(part, "content", None)
    if content is None or isinstance(content, str):
        yield content or ""
    elif part.part_kind == "user-prompt":
        yield from (piece.content if isinstance(piece, TextContent) else piece for piece in content)
    else:
        yield to_json(content, fallback=str)


def _serving(model: Model) -> list[Model]:
    """The models that may answer in the end."""
    if isinstance(model, FallbackModel):
        return [found for each in model.models for found in _serving(each)]
    return _serving(model.wrapped) if isinstance(model, WrapperModel) else [model]


def _cost_at(model: Model, usage: RequestUsage, prices: Mapping[str, Price]) -> float | None:
    if model.model_name in prices:
        return prices[model.model_name].of(usage)
    for place in ({"provider_api_url": model.base_url}, {"provider_id": model.system}):
        if any(place.values()):
            try:
                return float(calc_price(usage, model.model_name, **place).total_price)
            except LookupError:
                continue
    return None
