"""A call that is remembered: what it is made with and what it returns, as JSON and as the function's types."""

import asyncio
import inspect
import typing
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from hocket.errors import StepTimeout, UsageError

T = TypeVar("T")


async def within(timeout_s: float | None, name: str, awaitable: Awaitable[T]) -> T:
    """Await something, but not for longer. Raises StepTimeout then; a function that runs in a thread goes on there."""
    try:
        async with asyncio.timeout(timeout_s) as limit:
            return await awaitable
    except TimeoutError as cause:
        if timeout_s is None or not limit.expired():
            raise  # its own
        raise StepTimeout(name, timeout_s) from cause


async def call(function: Callable[..., Any], arguments: Sequence[Any], keywords: dict[str, Any]) -> bytes:
    """Call a step's function, in a thread when it is not async; return its result as JSON.

    Raises UsageError when the result cannot be written as JSON.
    """
    if inspect.iscoroutinefunction(function):
        result = await function(*arguments, **keywords)
    else:
        result = await asyncio.to_thread(function, *arguments, **keywords)
    return as_json(result)


def as_json(value: Any) -> bytes:
    """A value as JSON. Raises UsageError when it cannot be written so."""
    try:
        return to_json(value)
    except PydanticSerializationError as error:
        raise UsageError(f"{type(value).__qualname__} cannot be written as JSON: {error}") from error


def typed(function: Callable[..., Any], result: Any) -> Any:
    """A remembered result as its function's return annotation says; plain JSON when it says nothing.

    Raises UsageError when it no longer fits, after a change of the code.
    """
    adapter = _adapter(function)
    if adapter is None:
        return orjson.loads(result) if isinstance(result, bytes) else result
    try:
        return adapter.validate_json(result) if isinstance(result, bytes) else adapter.validate_python(result)
    except ValidationError as error:
        raise UsageError(f"the remembered result of {function.__qualname__} does not fit its type: {error}") from error


def typed_arguments(function: Callable[..., Any], stored: Any) -> tuple[list[Any], dict[str, Any]]:
    """What a journal knows of a call's arguments, as the function's annotations say.

    Raises UsageError when they no longer fit, after a change of the code.
    """
    positional, named = stored
    try:
        parameters = list(inspect.signature(function).parameters.values())
        hints = typing.get_type_hints(function)
        names = [parameter.name for parameter in parameters][: len(positional)]
        first = [_validated(hints.get(name), value) for name, value in zip(names, positional, strict=True)]
        return first, {name: _validated(hints.get(name), value) for name, value in named.items()}
    except (TypeError, NameError, ValueError) as error:
        raise UsageError(f"what {function.__qualname__} was called with does not fit it any more: {error}") from error


def digest_of(arguments: Sequence[Any], keywords: dict[str, Any]) -> str:
    """A short digest of a call's arguments, for comparing them over time."""
    try:
        body = to_json([arguments, sorted(keywords.items())], fallback=lambda value: type(value).__qualname__)
    except (PydanticSerializationError, ValueError):
        return ""
    return blake2b(body, digest_size=8).hexdigest()


def _adapter(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    try:
        hint = _returned(function)
    except NameError as error:
        raise UsageError(f"{function.__qualname__}: an annotation cannot be resolved: {error}") from error
    if hint is Any:
        return None
    try:
        return _adapter_of(hint)
    except TypeError:  # no hash: some annotations have parts that can be changed
        return TypeAdapter(hint)


def _returned(function: Callable[..., Any]) -> Any:
    """What a function says that it returns. Looked up once, since that takes as long as the rest of a short step."""
    try:
        known = _RETURNED.get(function, _UNSEEN)
    except TypeError:  # nothing that can be looked up
        return typing.get_type_hints(function).get("return", Any)
    if known is _UNSEEN:
        known = typing.get_type_hints(function).get("return", Any)
        _RETURNED[function] = known
    return known


_UNSEEN = object()
_RETURNED: WeakKeyDictionary[Callable[..., Any], Any] = WeakKeyDictionary()


@lru_cache(maxsize=1024)
def _adapter_of(hint: Any) -> TypeAdapter[Any]:
    """Kept by what is returned, not by who returns it: a function made within a handler holds on to the whole run."""
    return TypeAdapter(hint)


def _validated(hint: Any, value: Any) -> Any:
    return value if hint is None or hint is Any else TypeAdapter(hint).validate_python(value)
