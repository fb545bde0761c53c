"""Which event types exist in this program.

`Catalog` itself stands beside `Event` in event.py, since neither can be declared without the other.
"""

import importlib
import pkgutil

import hocket_schemas
from hocket_schemas.event import CATALOG, Catalog

find = CATALOG.find
"""The class of an event type. Raises UnknownType."""

known = CATALOG.known
"""Every declared event type, sorted."""


def discover() -> list[str]:
    """Import every module of this package, so that all its events are known; return the modules' names."""
    names = [f"{hocket_schemas.__name__}.{found.name}" for found in pkgutil.iter_modules(hocket_schemas.__path__)]
    for name in names:
        importlib.import_module(name)
    return names


__all__ = ["CATALOG", "Catalog", "discover", "find", "known"]
