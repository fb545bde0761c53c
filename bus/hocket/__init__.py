"""Durable choreography for crews of AI agents: CloudEvents on NATS JetStream, exactly-once handling.

Write agents with `Agent` and `Context`, events with `Event`; reach a running system with `connect`.
"""

from hocket.account import Spends
from hocket.agent import Agent
from hocket.breaker import Breaker
from hocket.client import Bus, Delivery, Receipt, connect
from hocket.collect import Awaited
from hocket.context import Context
from hocket.errors import HocketError, StepFailed, WaitExpired
from hocket.policy import Limits, OnExhausted, Retry
from hocket.rate import Rate
from hocket_schemas.budgets import Budget
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Event
from hocket_schemas.sagas import Saga

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Context",
    "Event",
    "Saga",
    "Budget",
    "Spends",
    "Retry",
    "Breaker",
    "Rate",
    "OnExhausted",
    "Limits",
    "Awaited",
    "connect",
    "Bus",
    "Delivery",
    "Receipt",
    "Envelope",
    "HocketError",
    "StepFailed",
    "WaitExpired",
]
