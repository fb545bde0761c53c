"""An event: an immutable fact with a named, versioned type."""

import re
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from hocket_schemas.errors import ContractError

TYPE_PATTERN = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+\.v[1-9][0-9]*")
"""What a declared type looks like: `noun.verbed.v1`, lower case, the version last."""


class Event(BaseModel):
    """The base of every event; a subclass states a fact in the past tense.

    ```python
    class TripPlanned(Event, type="trip.planned.v1"):
        route: str
    ```

    Instances are frozen and unknown fields are refused. A field may be added with a default under the
    same version; anything else is a new version, since events live longer than the code that wrote them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    event_type: ClassVar[str] = ""
    """The CloudEvents `type`; empty on bases that are never published."""

    retention: ClassVar[timedelta | None] = None
    """How long the log keeps such an event; None: as long as the log itself."""

    def __init_subclass__(cls, *, type: str = "", retention: timedelta | None = None, **config: Any) -> None:
        super().__init_subclass__(**config)
        if type and not TYPE_PATTERN.fullmatch(type):
            raise ContractError(
                f"{cls.__qualname__}: type {type!r} is not of the form 'noun.verbed.v1' "
                "(lower case, dots, the version last)"
            )
        cls.event_type = type
        if retention is not None:
            cls.retention = retention
