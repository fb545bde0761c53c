"""An event: an immutable fact with a named, versioned type, and the catalog in which a type is found again."""

import re
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from hocket_schemas.errors import ContractError, DuplicateType, UnknownType

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

    # NaN is refused where the field's type shows that it can come. Where it cannot be seen (`Any`), the
    # dump keeps it, so that the gate refuses to write it; pydantic's own default is to write null instead.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")

    event_type: ClassVar[str] = ""
    """The CloudEvents `type`; empty on bases that are never published."""

    retention: ClassVar[timedelta | None] = None
    """How long the log keeps such an event; None: as long as the log itself."""

    def __init_subclass__(
        cls,
        *,
        type: str = "",
        retention: timedelta | None = None,
        catalog: "Catalog | None" = None,
        **config: Any,
    ) -> None:
        """Declare an event type; it goes into `CATALOG`, or into a catalog of the caller's own.

        Raises ContractError for a type that is not of the form `noun.verbed.v1`, and DuplicateType.
        """
        super().__init_subclass__(**config)
        if type and not TYPE_PATTERN.fullmatch(type):
            raise ContractError(
                f"{cls.__qualname__}: type {type!r} is not of the form 'noun.verbed.v1' "
                "(lower case, dots, the version last)"
            )
        cls.event_type = type
        if retention is not None:
            cls.retention = retention
        if type:
            (CATALOG if catalog is None else catalog).add(cls)


class Catalog:
    """Finds the class of an event type: one type, one class."""

    def __init__(self) -> None:
        self._classes: dict[str, type[Event]] = {}

    def add(self, declared: type[Event]) -> None:
        """Enter a class under its type. Raises DuplicateType when another class holds it.

        A class takes the place of its own earlier self (same module and name), as when a module is loaded
        again; and of one that was declared inside a function, which no import could bring back.
        """
        event_type = declared.event_type
        holder = self._classes.get(event_type)
        if holder is not None and _name_of(holder) != _name_of(declared) and not _is_local(holder):
            raise DuplicateType(event_type, _name_of(holder), _name_of(declared))
        self._classes[event_type] = declared

    def find(self, event_type: str) -> type[Event]:
        """The class of a type. Raises UnknownType; a type is known once its module is imported."""
        try:
            return self._classes[event_type]
        except KeyError:
            raise UnknownType(event_type) from None

    def known(self) -> list[str]:
        """Every type that has a class, sorted."""
        return sorted(self._classes)


CATALOG = Catalog()
"""Where every event goes that is not declared with a catalog of its own."""


def _name_of(declared: type[Event]) -> str:
    return f"{declared.__module__}.{declared.__qualname__}"


def _is_local(declared: type[Event]) -> bool:
    return "<locals>" in declared.__qualname__
