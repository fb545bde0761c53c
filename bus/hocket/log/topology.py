"""What a shard's stream and its consumers look like, as values, and what to do when the server's differ.

Everything here is a function of values: `jetstream.py` sends what comes out, as raw JSON, because a client
library that knows fewer fields than the server would lose some on the way.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from hocket.errors import UsageError

STREAM_BYTES_DEFAULT = 1 << 30
"""The size of a new stream, in bytes, when nobody asks for another."""

FORMAT = "2"
"""The version of what the log holds: subjects and records. A stream of another format is refused."""

CLOSED = "being restored"
"""The format of a stream into which a copy is being restored: nobody else uses it until that has come to its end."""

SHARDS_KEY = "hocket.shards"
FORMAT_KEY = "hocket.format"

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FOREIGN = ("mirror", "sources", "republish", "subject_transform")
_RAISED_IN_PLACE = frozenset({"max_bytes", "num_replicas"})
_NOT_IN_API = frozenset({"shards", "format", "foreign"})


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """One shard's stream. The fields with a default are the promises; they are the same everywhere."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int
    """A full stream refuses appends; it never drops old facts."""

    num_replicas: int = 1
    shards: int = 1
    """How many streams the domain has; a key's shard depends on it, so it never changes."""

    format: str = FORMAT

    retention: str = "limits"
    storage: str = "file"
    discard: str = "new"
    discard_new_per_subject: bool = False
    max_msgs_per_subject: int = 1
    """One message for each subject: an event is stored once, a record is overwritten in place."""

    max_msgs: int = -1
    max_age: int = 0
    """In nanoseconds, 0 for no limit: facts age out by their own TTL."""

    max_msg_size: int = -1
    max_consumers: int = -1
    allow_atomic: bool = True
    allow_msg_ttl: bool = True
    allow_direct: bool = True
    allow_rollup_hdrs: bool = False
    """With it anyone who may publish could wipe other agents' subjects."""

    allow_msg_schedules: bool = False
    """With it anyone who may publish could forge other agents' messages."""

    allow_msg_counter: bool = False
    deny_delete: bool = True
    deny_purge: bool = True
    no_ack: bool = False
    sealed: bool = False
    foreign: tuple[str, ...] = ()
    """Features that would bring messages in or out past the append protocol, such as a mirror."""

    def to_api(self) -> dict[str, Any]:
        """The configuration as `$JS.API.STREAM.CREATE` and `UPDATE` take it."""
        body = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_IN_API}
        metadata = {SHARDS_KEY: str(self.shards), FORMAT_KEY: self.format}
        return body | {"subjects": list(self.subjects), "metadata": metadata}

    @classmethod
    def from_api(cls, config: Mapping[str, Any]) -> "StreamSettings":
        """Read the configuration that the server reports. What it leaves out is off or zero."""
        metadata = config.get("metadata") or {}
        read = {f.name: config.get(f.name, _absent(f.name)) for f in fields(cls) if f.name not in _NOT_IN_API}
        shards = str(metadata.get(SHARDS_KEY, ""))
        return cls(
            **read
            | {
                "subjects": tuple(config.get("subjects") or ()),
                "shards": int(shards) if shards.isdigit() else 0,
                "format": str(metadata.get(FORMAT_KEY, "")),
                "foreign": tuple(name for name in _FOREIGN if config.get(name)),
            }
        )


def _absent(field: str) -> Any:
    """What a field that the server left out means."""
    return {"num_replicas": 1, "max_bytes": -1, "max_msgs": -1, "max_msg_size": -1, "max_consumers": -1}.get(
        field, "" if field in ("retention", "storage", "discard") else 0 if field.startswith("max_") else False
    )


def stream_settings(
    domain: str,
    shard: int,
    *,
    shards: int = 1,
    max_bytes: int | None = None,
    replicas: int | None = None,
    like: StreamSettings | None = None,
) -> StreamSettings:
    """The stream of one shard; room and replicas that are not given are those of `like`.

    Raises UsageError for a domain that no subject can carry.
    """
    if max_bytes is None:
        max_bytes = like.max_bytes if like else STREAM_BYTES_DEFAULT
    if replicas is None:
        replicas = like.num_replicas if like else 1
    name = stream_name(domain, shard)
    return StreamSettings(name, (f"{domain}.{shard}.>",), max_bytes, num_replicas=replicas, shards=shards)


def overlaid(config: Mapping[str, Any], wanted: StreamSettings) -> dict[str, Any]:
    """The server's configuration with ours laid over it: what we do not know stays as it is."""
    kept = {k: v for k, v in (config.get("metadata") or {}).items() if not k.startswith("_nats.")}
    body = wanted.to_api()
    return {**config, **body, "metadata": {**kept, **body["metadata"]}}


def stream_name(domain: str, shard: int) -> str:
    """The name of a shard's stream. Raises UsageError for a domain that no subject can carry."""
    if not _NAME.fullmatch(domain):
        raise UsageError(f"domain {domain!r} may hold 1 to 64 ASCII letters, digits, '-' and '_' only")
    return f"HOCKET_{domain}_{shard}"


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """One reader of a stream, kept by the server: where it starts and what it is sent."""

    name: str
    filters: tuple[str, ...]
    start: int
    """The first sequence to deliver; smaller than 1 counts as 1."""

    durable: bool = True
    """A durable consumer stays and shows its lag; any other goes when nobody has read for `idle`."""

    idle: timedelta = timedelta(seconds=30)
    ack_wait: timedelta = timedelta(days=365)
    """Longer than any process lives: a redelivery would only be noise, the cursor decides what is done."""

    ack_pending_max: int = 20_000
    """Deliveries stop when so many are not finished; the engine's own window is far below."""

    def to_api(self) -> dict[str, Any]:
        """The configuration as `$JS.API.CONSUMER.CREATE` takes it."""
        body: dict[str, Any] = {
            "name": self.name,
            "filter_subjects": list(self.filters),
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": max(1, self.start),
            # In memory, so that making one waits for no disk: whatever it knows is hardly more than a hint. And with
            # one replica, so that it waits for no election either: a reader that loses it makes another where it was.
            "mem_storage": True,
            "num_replicas": 1,
        }
        if self.durable:
            return body | {
                "durable_name": self.name,
                "ack_policy": "all",
                "ack_wait": _nanoseconds(self.ack_wait),
                "max_ack_pending": self.ack_pending_max,
            }
        return body | {"ack_policy": "none", "inactive_threshold": _nanoseconds(self.idle)}


def _nanoseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1) * 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which a stream is not as wanted."""

    field: str
    has: object
    wants: object

    def __str__(self) -> str:
        return f"{self.field} is {self.has!r}, wants {self.wants!r}"


@dataclass(frozen=True, slots=True)
class Create:
    """The stream does not exist."""

    settings: StreamSettings


@dataclass(frozen=True, slots=True)
class Update:
    """The differences can be mended in place, while the stream is in use."""

    settings: StreamSettings
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """The differences cannot be mended in place, or the stream has been open to what a promise excludes."""

    name: str
    differences: tuple[Difference, ...]
    why: str

    def __str__(self) -> str:
        return f"stream {self.name}: {'; '.join(map(str, self.differences))} ({self.why})"


Change = Create | Update | Refuse


def plan(current: StreamSettings | None, wanted: StreamSettings) -> list[Change]:
    """What to do so that the stream is as wanted; nothing when it is.

    Only room and replicas are raised in place. Everything else is refused: a stream that has allowed,
    say, rollups may already hold forged facts, and no setting makes them true again.
    """
    if current is None:
        return [Create(wanted)]
    found = differences(current, wanted)
    refused = tuple(d for d in found if not _raised_in_place(d))
    if refused:
        why = "these break a promise of the log; move the facts to a new domain"
        if current.format == CLOSED:
            why = "a restore into it has not come to its end: `hocket restore` the copy again"
        if all(d.field in _RAISED_IN_PLACE for d in refused):
            why = "a stream is never made smaller in place"
        return [Refuse(wanted.name, refused, why)]
    return [Update(wanted, found)] if found else []


def differences(current: StreamSettings, wanted: StreamSettings) -> tuple[Difference, ...]:
    """The fields in which two configurations differ, in the order of declaration."""
    pairs = ((f.name, getattr(current, f.name), getattr(wanted, f.name)) for f in fields(StreamSettings))
    return tuple(Difference(name, has, wants) for name, has, wants in pairs if has != wants)


def _raised_in_place(difference: Difference) -> bool:
    has, wants = difference.has, difference.wants
    return difference.field in _RAISED_IN_PLACE and isinstance(has, int) and isinstance(wants, int) and 0 < has < wants
