"""What becomes of services as processes: one has failed for good, it works again, a person wants it anew.

All are published under the service's name as key, so whoever depends on a service follows it by that: a death watch
is a handler like any other.
"""

from datetime import timedelta

from pydantic import Field

from hocket_schemas.event import Event

KEPT = timedelta(days=90)
"""How long the log keeps what became of a service."""


class ServiceFailed(Event, type="hocket.service.failed.v1", retention=KEPT):
    """A service ended too often within its window, and is not started again until a person sees to it.

    Stated once for each time that it is given up, by the supervisor. A host that dies states nothing.
    """

    service: str
    """The name of its folder."""

    agents: list[str] = Field(min_length=1)
    """The agents that it should bring up, and which work no more on this host."""

    host: str
    pid: int | None = None
    """Of its last process; none when none could be started."""

    reason: str
    """Why the last process ended: `ended` by itself, `memory` or `blocked` when its supervisor ended it."""

    code: int | None = None
    """The last process's exit code, unless a signal ended it."""

    signal: str | None = None
    """The signal that ended it, such as `SIGKILL`."""

    restarts: int = Field(ge=0)
    """How often it was started again within the window."""

    window_s: float = Field(gt=0)
    """How long that window is, in seconds."""

    printed: list[str] = Field(default=[], max_length=50)
    """The last lines that it printed on standard error."""

    at: str
    """When it was given up, RFC 3339."""


class ServiceRestored(Event, type="hocket.service.restored.v1", retention=KEPT):
    """A service that had failed is at work again: all its agents are heard, on all shards."""

    service: str
    agents: list[str] = Field(min_length=1)
    host: str
    failure: str
    """The id of the event that said that it had failed."""

    at: str


class RestartRequested(Event, type="hocket.restart.requested.v1", retention=KEPT):
    """A person wants a service's process anew: in good order if it runs, at once if it was given up."""

    service: str
    host: str | None = None
    """Only on this host; none: wherever a supervisor keeps it."""

    by: str
    reason: str = ""
