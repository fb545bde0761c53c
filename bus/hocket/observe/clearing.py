"""Where something irreversible can happen that nobody has approved of, as far as code tells."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hocket.agent import Agent, Handler
from hocket.effect import Effect
from hocket.host.loader import Service
from hocket.observe.finding import Finding, Severity


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the source of a handler shows."""

    irreversible: tuple[str, ...]
    """Names of effects that it does with nothing before them that clears them."""

    clears: bool
    """Whether it asks for an approval, or does a pivot."""

    hands_on: bool
    """Whether it gives its context to other functions, which may do all of that."""


@dataclass(frozen=True, slots=True)
class _Place:
    agent: Agent[Any]
    handler: Handler
    reading: _Reading


def uncleared(services: Sequence[Service]) -> list[Finding]:
    """Irreversible effects with neither an approval nor a pivot before them: an error where that is certain.

    A warning where an approval lies on some ways to the handler and not on all, where the code does not tell, or where
    a service is looked at on its own.
    """
    alone = len(services) == 1
    places = [
        _Place(agent, handler, _read(handler.function))
        for service in services
        for agent in service.agents
        for handler in agent.handlers.values()
    ]
    return [finding for place in places for finding in _of(place, places, alone=alone)]


def _of(place: _Place, places: Sequence[_Place], *, alone: bool) -> Iterable[Finding]:
    event = place.handler.event.event_type
    if not place.reading.irreversible or _always_cleared(event, places, frozenset()):
        return
    unseen = alone or place.handler.waits or place.reading.hands_on
    sure = not (unseen or _sometimes_cleared(event, places))
    for name in place.reading.irreversible:
        can = "happens" if sure else "may happen"
        yield Finding(
            Severity.ERROR if sure else Severity.WARNING,
            "uncleared",
            place.agent.name,
            f"{name} cannot be undone, and {can} on {event} with neither an approval nor a pivot before it; "
            "ask with ctx.approve first",
        )


def _always_cleared(event: str, places: Sequence[_Place], seen: frozenset[str]) -> bool:
    """Whether every way to an event leads through an approval or a pivot; what nobody here emits comes uncleared."""
    sources = _sources(event, places)
    if event in seen or not sources:
        return event in seen  # going round adds no way that was not looked at
    return all(
        place.reading.clears or _always_cleared(place.handler.event.event_type, places, seen | {event})
        for place in sources
    )


def _sometimes_cleared(event: str, places: Sequence[_Place]) -> bool:
    """Whether any way to an event may lead through an approval or a pivot."""
    seen: set[str] = set()
    ahead = [event]
    while ahead:
        event = ahead.pop()
        if event not in seen:
            seen.add(event)
            sources = _sources(event, places)
            if any(place.reading.clears or place.reading.hands_on for place in sources):
                return True
            ahead += [place.handler.event.event_type for place in sources]
    return False


def _sources(event: str, places: Sequence[_Place]) -> list[_Place]:
    return [place for place in places if event in {emitted.event_type for emitted in place.handler.emits}]


def _read(function: Callable[..., Any]) -> _Reading:
    """Read a handler's source, in the order in which it is written."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return _Reading((), clears=False, hands_on=True)
    names = inspect.getclosurevars(inspect.unwrap(function))
    known = {**names.globals, **names.nonlocals}
    context = [*inspect.signature(function).parameters, "", ""][1]
    cleared = hands_on = False
    irreversible: list[str] = []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        done = _effect_of(call, known)
        hands_on = hands_on or any(isinstance(given, ast.Name) and given.id == context for given in _given(call))
        if done is not None and done.irreversible and not cleared:
            irreversible.append(done.name)
        if not cleared:
            irreversible += _tools_of(call, known)
        cleared = cleared or (done is not None and done.pivot) or _called(call) == "approve"
    return _Reading(tuple(irreversible), cleared, hands_on)


def _effect_of(call: ast.Call, known: dict[str, Any]) -> Effect[Any, Any] | None:
    """The effect that a call of `ctx.step` does, where it is named there."""
    if _called(call) == "step" and call.args and isinstance(call.args[0], ast.Name):
        named = known.get(call.args[0].id)
        return named if isinstance(named, Effect) else None
    return None


def _tools_of(call: ast.Call, known: dict[str, Any]) -> list[str]:
    """The effects that a model could do which is asked by `ask_model(ctx, agent, …)`, and that nothing clears there."""
    if not (isinstance(call.func, ast.Name) and call.func.id == "ask_model" and len(call.args) > 1):
        return []
    asked = known.get(call.args[1].id) if isinstance(call.args[1], ast.Name) else None
    tools = [tool for toolset in getattr(asked, "toolsets", ()) for tool in getattr(toolset, "tools", {}).values()]
    marks = [(getattr(tool, "metadata", None) or {}).get("hocket_cleared_before") for tool in tools]
    return [effect for effect in marks if effect]


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _given(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


__all__ = ["uncleared"]
