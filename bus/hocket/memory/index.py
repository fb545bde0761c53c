"""The projection's rows: what the log says of facts, in SQLite, with the position up to which that was read.

Nothing in it is true by itself: it can be thrown away at any time, and made again from the log.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hocket.errors import HocketError, MalformedEvent, NotFound, UsageError
from hocket.forgotten import is_tombstone, tombstone_in
from hocket.log.base import Message
from hocket.memory.question import Position
from hocket.subjects import address
from hocket_schemas import gate
from hocket_schemas.envelope import Envelope
from hocket_schemas.event import Event
from hocket_schemas.memory import Disputed, Remembered, Retracted, Statement, Superseded
from hocket_schemas.runtime import SagaCancelled, SagaCompensated, SagaCompleted, SagaExpired, SagaFailed

if TYPE_CHECKING:
    import sqlite3

FACTS: tuple[type[Event], ...] = (Remembered, Superseded, Disputed, Retracted)
"""What agents say of facts."""

ENDS: Mapping[type[Event], bool] = {
    SagaFailed: True,
    SagaExpired: True,
    SagaCancelled: True,
    SagaCompensated: True,
    SagaCompleted: False,
}
"""What is said of a saga, and whether from then on it counts as aborted. One that got stuck may yet be completed."""

TYPES = {event.event_type: event for event in (*FACTS, *ENDS)}
"""All that the rows follow from."""

FORMAT = 1
"""Of the rows; a file of another format is made again."""

APPLICATION = 0x686B6D31
"""By which SQLite knows our files from those of others."""

BUSY_S = 5.0
"""How long to wait for another process that is writing to the same file."""

_TABLES = """
CREATE TABLE place (
    shard INTEGER PRIMARY KEY, seq INTEGER NOT NULL,
    newest TEXT NOT NULL DEFAULT '', newest_seq INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE facts (
    row INTEGER PRIMARY KEY,
    shard INTEGER NOT NULL, seq INTEGER NOT NULL, time_ns INTEGER NOT NULL,
    id TEXT NOT NULL, saga TEXT NOT NULL, author TEXT NOT NULL, key TEXT NOT NULL,
    text TEXT NOT NULL, about TEXT NOT NULL, kind TEXT NOT NULL, scope TEXT NOT NULL,
    confidence REAL NOT NULL, sources TEXT NOT NULL, supersedes TEXT NOT NULL
);
CREATE INDEX facts_by_id ON facts (id);
CREATE INDEX facts_by_subject ON facts (about, row);
CREATE TABLE marks (
    row INTEGER PRIMARY KEY,
    shard INTEGER NOT NULL, seq INTEGER NOT NULL, time_ns INTEGER NOT NULL,
    id TEXT NOT NULL, saga TEXT NOT NULL,
    fact TEXT NOT NULL, ends INTEGER NOT NULL, reason TEXT NOT NULL
);
CREATE INDEX marks_by_fact ON marks (fact);
CREATE TABLE ends (
    row INTEGER PRIMARY KEY,
    shard INTEGER NOT NULL, seq INTEGER NOT NULL, time_ns INTEGER NOT NULL,
    saga TEXT NOT NULL, aborted INTEGER NOT NULL
);
CREATE INDEX ends_by_saga ON ends (saga);
CREATE VIRTUAL TABLE words USING fts5(
    text, content='facts', content_rowid='row', tokenize='unicode61 remove_diacritics 2'
);
"""

_CONTENT = ("facts", "marks", "ends")
_DROPPED = ("words", "place", *_CONTENT)


class NoFullTextSearch(HocketError):
    """There is no SQLite in this Python, or one without FTS5, so that nothing can be searched.

    Use a Python that was built with it; those of python.org, of Debian and of Docker Hub are.
    """


class Index:
    """The rows of one domain, in a file or in memory."""

    def __init__(self, path: Path | None, shards: int) -> None:
        """Open the rows, or begin them. Raises NoFullTextSearch, and UsageError for a file that is something else."""
        self.shards = shards
        self.database = _opened(path)
        if self._value("PRAGMA user_version") != FORMAT or len(self.position) != shards:
            self.clear()

    @property
    def position(self) -> Position:
        """Up to where the log was read."""
        return tuple(seq for (seq,) in self.database.execute("SELECT seq FROM place ORDER BY shard"))

    @property
    def newest(self) -> list[tuple[str, int]]:
        """Of each shard the subject and the sequence of the newest message that the rows follow from."""
        return self.database.execute("SELECT newest, newest_seq FROM place ORDER BY shard").fetchall()

    def clear(self) -> None:
        """Forget everything, and stand at the log's beginning."""
        with self._writing():
            for table in _DROPPED:
                self.database.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in _TABLES.split(";\n"):
                self.database.execute(statement)
            self.database.executemany(
                "INSERT INTO place(shard, seq) VALUES (?, 0)", [(shard,) for shard in range(self.shards)]
            )
            self.database.execute(f"PRAGMA user_version = {FORMAT}")
            self.database.execute(f"PRAGMA application_id = {APPLICATION}")

    def take(self, shard: int, messages: Sequence[Message], *, since: int, upto: int) -> bool:
        """Add what the log says between two of its sequences, with the new position, at once.

        False: another process has brought the rows further meanwhile, and nothing was added.
        """
        forgotten = False
        with self._writing():
            if self.position[shard] != since:
                return False
            for message in messages:
                if is_tombstone(message):
                    forgotten = self._bury(shard, message) or forgotten
                else:
                    self._add(shard, message)
            self.database.execute("UPDATE place SET seq = ? WHERE shard = ?", (upto, shard))
            for newest in messages[-1:]:
                known = (newest.subject, newest.seq, shard)
                self.database.execute("UPDATE place SET newest = ?, newest_seq = ? WHERE shard = ?", known)
            if forgotten:
                # Taking a text out leaves its words behind until segments are merged; making them anew does not.
                self.database.execute("INSERT INTO words(words) VALUES ('rebuild')")
        return True

    def close(self) -> None:
        """Let go of the file."""
        self.database.close()

    def digest(self) -> str:
        """SHA-256 over all rows: the same for two projections of one log, however they came to be."""
        found = sha256()
        for table in _CONTENT:
            for row in self.database.execute(f"SELECT * FROM {table} ORDER BY 1"):
                found.update(repr((table, row)).encode())
        return found.hexdigest()

    def _add(self, shard: int, message: Message) -> None:
        """What one event says. What is no event of its type says nothing."""
        try:
            where = address(message.subject)
            envelope = gate.read(message.data, None, message.headers)
            event = gate.event_of(envelope, TYPES[where.type])
        except (MalformedEvent, NotFound, KeyError):
            return
        place = (shard, message.seq, message.time_ns)
        saga = envelope.correlationid or where.key
        match event:
            case Statement():
                self._state(place, envelope, event, saga=saga, author=where.agent, key=where.key)
                if isinstance(event, Superseded):
                    self._mark(place, envelope.id, saga, event.fact, ends=True)
            case Retracted():
                self._mark(place, envelope.id, saga, event.fact, ends=True)
            case Disputed():
                self._mark(place, envelope.id, saga, event.fact, ends=False, reason=event.reason)
            case SagaFailed() | SagaExpired() | SagaCancelled() | SagaCompensated() | SagaCompleted():
                self._end(place, event.saga, aborted=ENDS[type(event)])

    def _state(
        self, place: tuple[int, int, int], envelope: Envelope, said: Statement, *, saga: str, author: str, key: str
    ) -> None:
        row = self._row(place)
        learned = (said.confidence, json.dumps(said.sources), said.fact if isinstance(said, Superseded) else "")
        what = (said.text, said.about, said.kind, said.scope, *learned)
        self.database.execute(
            "INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row, *place, envelope.id, saga, author, key, *what),
        )
        self.database.execute("INSERT INTO words(rowid, text) VALUES (?, ?)", (row, said.text))

    def _mark(
        self, place: tuple[int, int, int], event_id: str, saga: str, fact: str, *, ends: bool, reason: str = ""
    ) -> None:
        row = (self._row(place), *place, event_id, saga, fact, ends, reason)
        self.database.execute("INSERT INTO marks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _end(self, place: tuple[int, int, int], saga: str, *, aborted: bool) -> None:
        """Note how a saga ended; that one was completed says something only of one that was aborted before."""
        known = aborted or self._value("SELECT count(*) FROM ends WHERE saga = ?", saga)
        if known:
            self.database.execute(
                "INSERT INTO ends VALUES (?, ?, ?, ?, ?, ?)", (self._row(place), *place, saga, aborted)
            )

    def _bury(self, shard: int, message: Message) -> bool:
        """Put what a tombstone has left in the place of what was there; whether a text is gone by that."""
        try:
            where = address(message.subject)
            envelope, stone = tombstone_in(message)
        except (MalformedEvent, NotFound):
            return False
        place = (shard, stone.seq, stone.time_ns)
        row = self._row(place)
        gone = self.database.execute("DELETE FROM facts WHERE row = ?", (row,)).rowcount
        self.database.execute("DELETE FROM marks WHERE row = ?", (row,))
        if stone.fact:
            saga = envelope.correlationid or where.key
            self._mark(place, envelope.id, saga, stone.fact, ends=where.type != Disputed.event_type)
        return gone > 0

    def _row(self, place: tuple[int, int, int]) -> int:
        """The number of a row, from its place in the log: the same however the rows came to be."""
        shard, seq, _ = place
        return seq * self.shards + shard

    def _value(self, query: str, *values: object) -> Any:
        row = self.database.execute(query, values).fetchone()
        return row[0] if row else None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")


def _opened(path: Path | None) -> "sqlite3.Connection":
    try:
        import sqlite3  # here: whoever does not recall needs none
    except ImportError as error:
        raise NoFullTextSearch(f"this Python has no SQLite: {error}") from error

    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path or ":memory:", timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    if path is not None and not _is_ours(database):
        database.close()
        raise UsageError(f"{path} is something else than what is read of a memory; name another file")
    try:
        database.execute("CREATE VIRTUAL TABLE temp.probe USING fts5(text)")
    except sqlite3.OperationalError as error:
        database.close()
        raise NoFullTextSearch(f"SQLite {sqlite3.sqlite_version} has no FTS5: {error}") from error
    database.execute("DROP TABLE temp.probe")
    database.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten in the file too
    return database


def _is_ours(database: "sqlite3.Connection") -> bool:
    """Whether a file is ours, or new: what we write to is thrown away when it does not suit."""
    from sqlite3 import DatabaseError, OperationalError

    try:
        [(application,)] = database.execute("PRAGMA application_id").fetchall()
        [(tables,)] = database.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except OperationalError:
        raise
    except DatabaseError:
        return False
    return bool(application == APPLICATION or tables == 0)


__all__ = ["ENDS", "FACTS", "TYPES", "Index", "NoFullTextSearch"]
