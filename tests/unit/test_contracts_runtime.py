"""The front door of the contracts, and the runtime's own facts."""

import pytest
from pydantic import ValidationError

import hocket_schemas
from hocket_schemas.runtime import SagaCompleted, SagaExpired, SagaFailed


def test_the_front_door_is_small() -> None:
    assert hocket_schemas.__all__ == [
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
    assert all(hasattr(hocket_schemas, name) for name in hocket_schemas.__all__)


def test_the_runtime_says_how_a_saga_ended() -> None:
    ends = [
        SagaCompleted(name="trip", saga="s-1", ended_by="c.0"),
        SagaFailed(name="trip", saga="s-1", ended_by="c.0", failure="trip.refused.v1"),
        SagaExpired(name="trip", saga="s-1", deadline_s=60, missing=["trip.booked.v1"]),
    ]

    assert [end.event_type for end in ends] == [
        "hocket.saga.completed.v1",
        "hocket.saga.failed.v1",
        "hocket.saga.expired.v1",
    ]


def test_an_expired_saga_names_what_was_missing() -> None:
    with pytest.raises(ValidationError):
        SagaExpired(name="trip", saga="s-1", deadline_s=60, missing=[])
