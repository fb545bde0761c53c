"""How a handler remembers: it emits an event, which is committed with everything else that it does, or not at all."""

from collections.abc import Sequence
from typing import Any

from hocket.context import Context
from hocket.memory.question import Recalled
from hocket_schemas.event import Event
from hocket_schemas.memory import Disputed, Remembered, Retracted, Scope, Superseded


def remember(
    ctx: Context[Any],
    text: str,
    *,
    about: str = "",
    kind: str = "fact",
    scope: Scope = "crew",
    confidence: float = 1.0,
    sources: Sequence[str] | None = None,
    saga: str | None = None,
) -> str:
    """State a fact when this handling is committed, and return the id that it will have.

    The sources are the ids of the events that it was learned from; None: the one that is being handled. When the saga
    is aborted its facts go with it: what is learned from the failure names another `saga`. The handler has to declare
    `emits=[Remembered]`.
    """
    return _emitted(
        ctx,
        Remembered(
            text=text, about=about, kind=kind, scope=scope, confidence=confidence, sources=_sources(ctx, sources)
        ),
        saga=saga,
    )


def supersede(
    ctx: Context[Any], fact: Recalled, text: str, *, confidence: float = 1.0, sources: Sequence[str] | None = None
) -> str:
    """State what takes the place of a fact, about the same subject and for the same readers; return the new fact's id.

    The handler has to declare `emits=[Superseded]`.
    """
    newer = Superseded(
        fact=fact.id,
        text=text,
        about=fact.about,
        kind=fact.kind,
        scope=fact.scope,
        confidence=confidence,
        sources=_sources(ctx, sources),
    )
    return _emitted(ctx, newer)


def dispute(
    ctx: Context[Any],
    fact: Recalled | str,
    reason: str,
    *,
    confidence: float = 1.0,
    sources: Sequence[str] | None = None,
) -> str:
    """Say that a fact is doubted, and why. It is still recalled, with the doubt; return the doubt's id.

    The handler has to declare `emits=[Disputed]`.
    """
    doubt = Disputed(fact=_id(fact), reason=reason, confidence=confidence, sources=_sources(ctx, sources))
    return _emitted(ctx, doubt)


def retract(ctx: Context[Any], fact: Recalled | str, reason: str = "", *, sources: Sequence[str] | None = None) -> str:
    """Say that a fact was none. It is no longer recalled; what it had superseded does not come back.

    The handler has to declare `emits=[Retracted]`.
    """
    return _emitted(ctx, Retracted(fact=_id(fact), reason=reason, sources=_sources(ctx, sources)))


def _id(fact: Recalled | str) -> str:
    return fact if isinstance(fact, str) else fact.id


def _sources(ctx: Context[Any], given: Sequence[str] | None) -> list[str]:
    return [ctx.envelope.id] if given is None else list(given)


def _emitted(ctx: Context[Any], event: Event, *, saga: str | None = None) -> str:
    ctx.emit(event, saga=saga)
    return f"{ctx.cause}.{ctx.emitted_before + len(ctx.emitted) - 1}"


__all__ = ["dispute", "remember", "retract", "supersede"]
