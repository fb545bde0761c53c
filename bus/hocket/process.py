"""What all workers of one process share with each other and with no other process."""

import os
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hocket.clock import ServerClock
from hocket.crashpoints import Reach, from_environment
from hocket.ids import fresh
from hocket.log.base import Log


@dataclass(frozen=True, slots=True)
class Process:
    """A name that no other process has, a clock, randomness, the crash points, and how it is."""

    instance: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{fresh()[:6]}")
    clock: ServerClock = field(default_factory=ServerClock)
    """What decides when something is due; each owner corrects it as it claims, and the crew from time to time."""

    rng: random.Random = field(default_factory=random.Random)
    reach: Reach = field(default_factory=from_environment)
    vitals: Callable[[], Mapping[str, Any]] = dict
    """What else the process says of itself in each heartbeat."""

    trying: Callable[[str | None], None] = lambda event_id: None
    """Told which event is tried that may have ended a process before, the first of several; None: there is none."""

    spent: Callable[[], bool] = lambda: False
    """Whether the process has to go for what its handlers did to it. Then what they could not finish before it went
    counts as if it had been killed."""

    logs: Sequence[Log] = ()
    """The shards of the domain that it works on, for who reads beyond one key. Nothing is written through them."""
