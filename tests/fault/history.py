"""What was seen of a run from outside: what was ever stored and through whom, what clients and the world saw.

Nothing in here was told by the engine about itself; the checks read this and nothing else.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import orjson

from hocket.errors import HocketError
from hocket.log.base import Message
from hocket.subjects import Address, address

CLIENT = "test"
"""Who publishes from outside."""


class Stored(NamedTuple):
    """One message as the log took it."""

    message: Message
    line: int
    """The connection that it came through: each process has one of its own, and a restarted one has another."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a client asked of the log, and what it was told."""

    event_id: str
    key: str
    began_s: float
    ended_s: float
    within_s: float
    """The bound that it was promised."""

    error: BaseException | None = None

    @property
    def end(self) -> Literal["ok", "fail", "unknown"]:
        """`unknown`: it may have happened."""
        if self.error is None:
            return "ok"
        return "unknown" if "Unknown" in type(self.error).__name__ or not self.typed else "fail"

    @property
    def typed(self) -> bool:
        """Whether a refusal said in a type of its own what it was."""
        return self.error is None or isinstance(self.error, HocketError)


@dataclass(frozen=True, slots=True)
class Deed:
    """What the outside world saw: a call, and whether it changed anything."""

    at_s: float
    kind: Literal["do", "undo"]
    saga: str
    n: int
    key: str
    effective: bool


class Fact(NamedTuple):
    """An event in the history, read once."""

    seq: int
    at_s: float
    line: int
    where: Address
    id: str
    type: str
    cause: str | None
    saga: str
    data: Any


@dataclass(slots=True)
class Trouble:
    """What was provoked."""

    struck: Counter[str] = field(default_factory=Counter)
    """How often each fault really struck, by its name."""

    at_work: int = 0
    """How often one struck while something was in hand."""


@dataclass
class History:
    """One run, as it was seen."""

    stored: Sequence[Stored]
    operations: Sequence[Operation]
    deeds: Sequence[Deed]
    agents: Sequence[str]
    consumes: dict[str, Sequence[str]]
    healed_s: float
    """When the last fault was over, in the log's time."""

    quiet_s: float | None
    """When nothing was left to do; None: that never came."""

    trouble: Trouble = field(default_factory=Trouble)

    @cached_property
    def facts(self) -> list[Fact]:
        """Every event and command, in log order."""
        found = []
        for message, line in self.stored:
            if message.subject.split(".", 3)[2] in ("evt", "cmd"):
                body = orjson.loads(message.data)
                where = address(message.subject)
                cause, saga = body.get("causationid"), body.get("correlationid") or where.key
                at_s = message.time_ns / 1e9
                found.append(
                    Fact(message.seq, at_s, line, where, body["id"], body["type"], cause, saga, body.get("data"))
                )
        return found

    @cached_property
    def by_id(self) -> dict[str, Fact]:
        """The first event with each id."""
        found: dict[str, Fact] = {}
        for fact in self.facts:
            found.setdefault(fact.id, fact)
        return found

    @cached_property
    def by_type(self) -> dict[str, list[Fact]]:
        """Events of each type, in log order."""
        found: dict[str, list[Fact]] = {}
        for fact in self.facts:
            found.setdefault(fact.type, []).append(fact)
        return found

    def of(self, event_type: str) -> list[Fact]:
        """Events of a type, in log order."""
        return self.by_type.get(event_type, [])

    @cached_property
    def newest(self) -> dict[str, Message]:
        """What each subject held at the end."""
        return {message.subject: message for message, _ in self.stored}

    def records(self, kind: str) -> list[Stored]:
        """Every version of the records of one kind, such as `act`, in log order."""
        return self.by_kind.get(kind, [])

    @cached_property
    def by_kind(self) -> dict[str, list[Stored]]:
        """What was stored, by the kind that its subject names."""
        found: dict[str, list[Stored]] = {}
        for stored in self.stored:
            found.setdefault(stored.message.subject.split(".", 3)[2], []).append(stored)
        return found

    @cached_property
    def dead(self) -> set[str]:
        """The ids of events in the dead letters."""
        return {orjson.loads(orjson.loads(m.data)["event"])["id"] for m, _ in self.records("dead") if m.data}
