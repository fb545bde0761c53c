"""Which event types exist in this program.

`Catalog` itself stands beside `Event` in event.py, since neither can be declared without the other.
"""

import importlib
import pkgutil

import hocket_schemas
from hocket_schemas.event import CATALOG, Catalog

WITHOUT_EVENTS = {"export", "sdk"}
"""Modules that declare no event and take their time to import."""

find = CATALOG.find
"""The class of an event type. Raises UnknownType."""

known = CATALOG.known
"""Every declared event type, sorted."""


def discover() -> list[str]:
    """Import every module of this package, so that all its events are known; return the modules' names."""
    found = {module.name for module in pkgutil.iter_modules(hocket_schemas.__path__)} - WITHOUT_EVENTS
    names = [f"{hocket_schemas.__name__}.{name}" for name in sorted(found)]
    for name in names:
        importlib.import_module(name)
    return names


__all__ = ["CATALOG", "Catalog", "discover", "find", "known"]
