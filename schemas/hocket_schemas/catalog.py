"""Which event types exist in this program.

`Catalog` itself stands beside `Event` in event.py, since neither can be declared without the other.
"""

import importlib
import os
import pkgutil
import sys

import hocket_schemas
from hocket_schemas.errors import SchemasMissing
from hocket_schemas.event import CATALOG, Catalog

WITHOUT_EVENTS = {"export", "sdk"}
"""Modules that declare no event and take their time to import."""

OWN = "HOCKET_SCHEMAS"
"""Names the modules that declare what is not declared here."""

find = CATALOG.find
"""The class of an event type. Raises UnknownType."""

known = CATALOG.known
"""Every declared event type, sorted."""


def discover() -> list[str]:
    """Import every module of this package and of your own, so that all events are known; return the modules' names.

    Your own are those that HOCKET_SCHEMAS names, with commas or spaces between them. They are looked for in the
    working directory too. Raises SchemasMissing.
    """
    found = {module.name for module in pkgutil.iter_modules(hocket_schemas.__path__)} - WITHOUT_EVENTS
    names = [f"{hocket_schemas.__name__}.{name}" for name in sorted(found)]
    own = os.environ.get(OWN, "").replace(",", " ").split()
    if own and not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    for name in (*names, *own):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(f"{error.name}.")):
                raise SchemasMissing(name, OWN) from error
            raise
    return [*names, *own]


__all__ = ["CATALOG", "Catalog", "discover", "find", "known"]
