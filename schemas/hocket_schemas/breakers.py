"""Facts about circuit breakers: which one has opened, is being tried, or has closed, and whose call it was."""

from datetime import timedelta

from pydantic import AwareDatetime

from hocket_schemas.event import Event

BREAKERS_KEPT = timedelta(days=30)
"""How long the log keeps such a fact; a circuit that stays open makes two of them in each of its periods."""


class _Changed(Event):
    breaker: str
    """Its name, and the key of these events."""

    agent: str
    """Whose call brought it about."""

    effect: str
    instance: str
    """The process of that agent."""

    key: str
    """Of the event that was being handled."""

    failures: int
    """The limit: so many failures"""

    window_s: float
    """within so many seconds open it."""

    open_s: float
    """While it is open, one call is let through in each period of so many seconds."""


class BreakerOpened(_Changed, type="hocket.breaker.opened.v1", retention=BREAKERS_KEPT):
    """Too many calls have failed, or the one that was let through has: nobody calls for now."""

    until: AwareDatetime
    """When one call is let through."""

    error: str
    """How the last call failed."""

    again: bool = False
    """Whether it was open, and the call that was let through has failed."""


class BreakerHalfOpened(_Changed, type="hocket.breaker.half-opened.v1", retention=BREAKERS_KEPT):
    """One call is let through, to see whether it succeeds."""

    until: AwareDatetime
    """When the next one is let through, if nothing is known of this one by then."""


class BreakerClosed(_Changed, type="hocket.breaker.closed.v1", retention=BREAKERS_KEPT):
    """The call that was let through has succeeded: everybody may call."""
