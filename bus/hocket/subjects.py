"""The names of everything in the log, built and read back in one place. docs/wire.md is the table."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from hocket.errors import BadKey, NotFound

TOKEN_LENGTH_MAX = 200
"""Longest token after escaping, in characters: a subject has to fit the protocol line."""

_PLAIN = re.compile(rf"[A-Za-z0-9_-]{{1,{TOKEN_LENGTH_MAX}}}")
_ESCAPED = re.compile(r"((?:=[0-9A-F]{2})+)")


def token(text: str) -> str:
    """Escape `text` so that it is one subject token: each byte outside `[A-Za-z0-9_-]` becomes `=XX`.

    Raises BadKey when it is empty or too long.
    """
    return text if _PLAIN.fullmatch(text) else _escaped(text)


def untoken(escaped: str) -> str:
    """Undo `token`. Text that is no valid escape is returned as far as it can be read."""
    if "=" not in escaped:
        return escaped
    return _ESCAPED.sub(lambda m: bytes.fromhex(m[1].replace("=", "")).decode(errors="replace"), escaped)


_type_token = lru_cache(maxsize=1024)(token)
_untyped = lru_cache(maxsize=1024)(untoken)


def shard_of(key: str, shards: int) -> int:
    """The shard that a key lives on; the same in every language: BLAKE2b-64 of UTF-8, big endian, modulo."""
    if shards == 1:
        return 0
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") % shards


def at_home(name: str, shard: int, shards: int) -> str:
    """The first of `name`, `name-1`, `name-2`, … that lives on a shard."""
    found, n = name, 0
    while shard_of(found, shards) != shard:
        n += 1
        found = f"{name}-{n}"
    return found


class Address(NamedTuple):
    """What the subject of an event or command says."""

    kind: str
    """`evt` or `cmd`."""

    key: str
    agent: str
    """Of an event: who published it. Of a command: whom it is for."""

    cause: str
    i: int
    type: str

    @property
    def id(self) -> str:
        """The CloudEvents id."""
        return f"{self.cause}.{self.i}"


@dataclass(frozen=True, slots=True)
class Names:
    """Builds the subjects of one shard of one domain."""

    domain: str
    shard: int

    root: str = field(init=False, repr=False, compare=False)
    """The first two tokens."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", f"{self.domain}.{self.shard}")

    @property
    def everything(self) -> str:
        """What the shard's stream listens to."""
        return f"{self.root}.>"

    def event(self, key: str, agent: str, cause: str, i: int, event_type: str) -> str:
        """An event's own subject."""
        return f"{self.root}.evt.{_type_token(event_type)}.{token(key)}.{token(agent)}.{token(cause)}.{i}"

    def command(self, agent: str, key: str, cause: str, i: int, event_type: str) -> str:
        """The subject of an event addressed to one agent."""
        return f"{self.root}.cmd.{token(agent)}.{_type_token(event_type)}.{token(key)}.{token(cause)}.{i}"

    def emitted(self, key: str, agent: str, cause: str) -> str:
        """Everything that one handling emitted on its own key."""
        return f"{self.root}.evt.*.{token(key)}.{token(agent)}.{token(cause)}.*"

    def begins(self, event_type: str) -> str:
        """What the subject of every event of a type begins with."""
        return f"{self.root}.evt.{_type_token(event_type)}."

    def events_of_type(self, event_type: str) -> str:
        """Every event of a type."""
        return f"{self.begins(event_type)}>"

    def events_of_key(self, key: str, event_type: str | None = None) -> str:
        """Every event of a key, or those of one type."""
        return f"{self.root}.evt.{_type_token(event_type) if event_type else '*'}.{token(key)}.>"

    def events_by_id(self, event_id: str) -> list[str]:
        """Where events with this id can be: published from outside or emitted by an agent, to all or to one."""
        places = [f"{token(event_id)}.0"]
        cause, dot, i = event_id.rpartition(".")
        if dot and i.isascii() and i.isdigit():
            places.append(f"{token(cause)}.{int(i)}")
        return [f"{self.root}.{kind}.*.*.*.{place}" for kind in ("evt", "cmd") for place in places]

    def caused(self, agent: str, cause: str) -> str:
        """Everything that one handling emitted, on whichever key."""
        return f"{self.root}.evt.*.*.{token(agent)}.{token(cause)}.*"

    def everything_of_key(self, key: str) -> list[str]:
        """All that the log holds under a key: events, commands, states, runs, their ends and journals, dead letters."""
        name = token(key)
        return [
            f"{self.root}.evt.*.{name}.>",
            f"{self.root}.cmd.*.*.{name}.>",
            f"{self.root}.act.*.{name}",
            f"{self.root}.run.*.{name}.*",
            f"{self.root}.end.*.{name}.*",
            f"{self.root}.jrn.*.{name}.>",
            f"{self.root}.dead.*.{name}.*",
        ]

    @property
    def all_events(self) -> str:
        """Every event of the shard."""
        return f"{self.root}.evt.>"

    def commands_for(self, agent: str) -> str:
        """Every command addressed to an agent."""
        return f"{self.root}.cmd.{token(agent)}.>"

    def commands_of_key(self, agent: str, key: str, event_type: str) -> str:
        """Every command of a type to one actor."""
        return f"{self.root}.cmd.{token(agent)}.{_type_token(event_type)}.{token(key)}.>"

    def owner(self, agent: str) -> str:
        """The record of the current owner's claim."""
        return f"{self.root}.own.{token(agent)}"

    @property
    def owners(self) -> str:
        """The claims of all agents that have ever owned this shard."""
        return f"{self.root}.own.*"

    def cursor(self, agent: str) -> str:
        """The record of how far the agent has come."""
        return f"{self.root}.cur.{token(agent)}"

    @property
    def cursors(self) -> str:
        """How far each agent of the shard has come."""
        return f"{self.root}.cur.*"

    def actor(self, agent: str, key: str) -> str:
        """The record of an actor's state."""
        return f"{self.root}.act.{token(agent)}.{token(key)}"

    def actors(self, agent: str) -> str:
        """Every state record of an agent."""
        return f"{self.root}.act.{token(agent)}.*"

    def part(self, agent: str, saga: str, key: str) -> str:
        """The record that an actor's state has taken part in a saga."""
        return f"{self.root}.part.{token(agent)}.{token(saga)}.{token(key)}"

    def parts(self, saga: str, agent: str | None = None) -> str:
        """Those records of a saga, of one agent or of all."""
        return f"{self.root}.part.{'*' if agent is None else token(agent)}.{token(saga)}.*"

    def run(self, agent: str, key: str, run: str) -> str:
        """The head record of an open run."""
        return f"{self.root}.run.{token(agent)}.{token(key)}.{token(run)}"

    def runs(self, agent: str) -> str:
        """Every run head of an agent."""
        return f"{self.root}.run.{token(agent)}.>"

    def end(self, run: str) -> str:
        """The mark of a run's end, from the subject of its head."""
        return f"{self.root}.end.{run.split('.', 3)[3]}"

    @property
    def all_runs(self) -> str:
        """Every run head of the shard."""
        return f"{self.root}.run.>"

    @property
    def all_journals(self) -> str:
        """Every journal entry of the shard."""
        return f"{self.root}.jrn.>"

    def account(self, saga: str) -> str:
        """The record of what a saga has used up of its budget."""
        return f"{self.root}.acc.{token(saga)}"

    def digest(self, agent: str, number: int) -> str:
        """The record of what many requests to cancel are about, as far as an agent has come past them."""
        return f"{self.root}.ask.{token(agent)}.{number}"

    def digests(self, agent: str) -> str:
        """All such records of an agent."""
        return f"{self.root}.ask.{token(agent)}.*"

    def due(self, agent: str, schedule: str) -> str:
        """The record of what is next due of a schedule."""
        return f"{self.root}.due.{token(agent)}.{token(schedule)}"

    def dues(self, agent: str) -> str:
        """The records of all schedules of an agent."""
        return f"{self.root}.due.{token(agent)}.*"

    @property
    def all_dues(self) -> str:
        """The records of all schedules of the shard."""
        return f"{self.root}.due.>"

    def breaker(self, name: str) -> str:
        """The record of a circuit breaker."""
        return f"{self.root}.brk.{token(name)}"

    @property
    def breakers(self) -> str:
        """The records of all breakers of the shard."""
        return f"{self.root}.brk.*"

    def rate(self, name: str) -> str:
        """The record of a rate."""
        return f"{self.root}.rate.{token(name)}"

    def journal(self, agent: str, key: str, run: str) -> str:
        """A run's journal; entry `i` is one token more."""
        return f"{self.root}.jrn.{token(agent)}.{token(key)}.{token(run)}"

    def blob(self, agent: str, digest: str) -> str:
        """What an agent's journals name by its content; piece `i` is one token more."""
        return f"{self.root}.blob.{token(agent)}.{token(digest)}"

    @property
    def all_blobs(self) -> str:
        """What the subject of every such piece begins with."""
        return f"{self.root}.blob."

    def journals_of_run(self, run: str) -> str:
        """A run's journal, when only its token is known."""
        return f"{self.root}.jrn.*.*.{token(run)}.*"

    def dead(self, agent: str, key: str, event_id: str) -> str:
        """A dead letter."""
        return f"{self.root}.dead.{token(agent)}.{token(key)}.{token(event_id)}"

    def letters(self, event_id: str, key: str | None = None) -> str:
        """Every agent's dead letter about an event; faster when its key is known."""
        return f"{self.root}.dead.*.{'*' if key is None else token(key)}.{token(event_id)}"

    @property
    def all_dead(self) -> str:
        """Every dead letter of the shard."""
        return f"{self.root}.dead.>"

    def live(self, key: str, agent: str, run: str) -> str:
        """Where a handling says what it does while it works (core NATS, not stored)."""
        return f"{self.domain}.live.{token(key)}.{token(agent)}.{token(run)}"

    def live_of_key(self, key: str) -> str:
        """All live output of a key."""
        return f"{self.domain}.live.{token(key)}.>"

    def want_live(self, key: str) -> str:
        """Where a reader asks for what was said so far."""
        return f"{self.domain}.want.{token(key)}"

    @property
    def live_wanted(self) -> str:
        """Where readers ask."""
        return f"{self.domain}.want.*"

    def heartbeat(self, agent: str) -> str:
        """Where an agent's instances say that they live (core NATS, not stored)."""
        return f"{self.domain}.hb.{token(agent)}.{self.shard}"

    @property
    def heartbeats(self) -> str:
        """Every heartbeat of this shard."""
        return f"{self.domain}.hb.*.{self.shard}"

    def roster(self, supervisor: str) -> str:
        """Where a supervisor says how its services stand (core NATS, not stored)."""
        return f"{self.domain}.roster.{token(supervisor)}"

    @property
    def rosters(self) -> str:
        """What every supervisor says."""
        return f"{self.domain}.roster.*"


def address(subject: str) -> Address:
    """Read the subject of an event or command back.

    Raises NotFound for any other subject.
    """
    parts = subject.split(".")
    if len(parts) != 8 or parts[2] not in ("evt", "cmd") or not (parts[7].isascii() and parts[7].isdigit()):
        raise NotFound(f"{subject[:200]!r} is not the subject of an event")
    if len(subject) > TOKEN_LENGTH_MAX and any(len(name) > TOKEN_LENGTH_MAX for name in parts[3:7]):
        raise NotFound(f"{subject[:200]!r} holds a token that is too long")
    _, _, kind, event_type, key, agent, cause, i = parts
    if kind == "cmd":
        agent, event_type, key = event_type, key, agent
    if "=" in key or "=" in agent or "=" in cause:  # hardly ever, while most types have dots
        key, agent, cause = _read(key), _read(agent), _read(cause)
    return Address(kind, key, agent, cause, int(i), _read(event_type) if "=" in event_type else event_type)


def found_by(subject: str) -> Iterator[str]:
    """The patterns that find a subject: itself, its siblings, and for an event what `Names.emitted` gives."""
    domain, shard, kind, *rest = subject.split(".")
    siblings = [*rest[:-1], "*"]
    yield subject
    yield ".".join((domain, shard, kind, *siblings))
    if kind == "evt":
        yield ".".join((domain, shard, kind, "*", *siblings[1:]))


def type_of(subject: str) -> str:
    """The type that the subject of an event or command says, empty for any other; faster than `address`."""
    _, _, kind, *rest = subject.split(".", 5)
    return _untyped(rest[0]) if kind == "evt" else _untyped(rest[1]) if kind == "cmd" else ""


def tokens_of(subject: str) -> tuple[str, ...]:
    """A subject's tokens after domain and shard, unescaped: its kind, then whose it is."""
    return tuple(untoken(part) for part in subject.split(".")[2:])


@lru_cache(maxsize=1024)
def _read(escaped: str) -> str:
    """A token as it was before. Raises NotFound when it is not in the one form that it may have."""
    text = untoken(escaped)
    if token(text) != escaped:
        raise NotFound(f"{escaped[:200]!r} is wrongly escaped")
    return text


def _escaped(text: str) -> str:
    if not text:
        raise BadKey("a key, an id or a name is empty")
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise BadKey(f"{text!r} holds a lone surrogate") from None
    text = "".join(chr(b) if (chr(b).isalnum() and b < 128) or b in b"_-" else f"={b:02X}" for b in raw)
    if len(text) > TOKEN_LENGTH_MAX:
        raise BadKey(f"{text[:40]}… is {len(text)} characters as a token, the limit is {TOKEN_LENGTH_MAX}")
    return text
