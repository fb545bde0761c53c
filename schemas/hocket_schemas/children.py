"""Facts about sagas that were started by others: that a child began, what is wanted of it, and how it ended."""

from typing import Literal

from pydantic import Field

from hocket_schemas.event import Event
from hocket_schemas.sagas import Link


class ChildStarted(Event, type="hocket.child.started.v1"):
    """A saga has started another one. In the log together with the child's first event, in one append."""

    child: str = Field(min_length=1)
    """The child's id."""

    starts: str
    """The type of its first event."""

    link: Link | None = None
    """None: as the policy has it that the event starts."""


class ChildEnded(Event, type="hocket.child.ended.v1"):
    """How a child stands that nothing more is expected of, told to its parent on the parent's own key."""

    child: str
    name: str = ""
    """Of its policy; empty: none is known."""

    state: Literal["completed", "compensated", "stuck", "foreign"]
    """`stuck` is no end yet: a person decides, and it is said again. `foreign`: that saga was there before, and is not
    the child of the one that asks."""

    reason: str = ""
    """Why it was aborted, or is stuck."""


class AbortRequested(Event, type="hocket.abort.requested.v1"):
    """An aborted saga wants its child undone. Travels as a command to the coordinator, on the child's key."""

    parent: str
    reason: str
    attempt: int = Field(default=1, ge=1)
    """Which request it is: a person may have one made again."""
