"""The contracts of hocket: events, the envelope that they travel in, and the sagas that they make up."""

from hocket_schemas.budgets import Budget
from hocket_schemas.envelope import Envelope
from hocket_schemas.errors import (
    ContractError,
    DataRefused,
    DuplicateType,
    HocketError,
    MalformedEvent,
    UnknownType,
)
from hocket_schemas.event import Catalog, Event
from hocket_schemas.sagas import Saga

__all__ = [
    "Event",
    "Envelope",
    "Saga",
    "Budget",
    "Catalog",
    "HocketError",
    "ContractError",
    "DuplicateType",
    "MalformedEvent",
    "UnknownType",
    "DataRefused",
]
