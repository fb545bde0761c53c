"""What the rows answer to a question as of a moment: which facts stood then, and how they fit."""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hocket.clock import rfc3339
from hocket.memory.index import Index
from hocket.memory.question import AsOf, Question, Recalled

WORDS_MAX = 64
"""So many words of a question are looked for."""

_WORD = re.compile(r"\w+")

_COLUMNS = "f.id, f.kind, f.text, f.about, f.scope, f.author, f.confidence, f.sources, f.saga, f.supersedes, f.shard"

_ABORTED = """
aborted(saga) AS (
    SELECT e.saga FROM ends e WHERE e.aborted AND {e} AND NOT EXISTS (
        SELECT 1 FROM ends later WHERE later.saga = e.saga AND {later} AND NOT later.aborted AND later.seq > e.seq
    )
)
"""

_STANDING = """
{f} AND f.saga NOT IN aborted AND NOT EXISTS (
    SELECT 1 FROM marks m WHERE m.fact = f.id AND m.ends AND {m} AND m.saga NOT IN aborted
)
"""


def standing(index: Index, question: Question, as_of: AsOf) -> list[str]:
    """The ids of the facts that stood at a moment and answer a question, those that fit best first.

    Equally good ones: the surer first, then the newer.
    """
    condition, values = _as_of(as_of)
    words = _WORD.findall(question.words)[:WORDS_MAX]
    wanted = [_STANDING.format(f=condition("f"), m=condition("m"))]
    if words:
        wanted.append("words MATCH :words")
        values["words"] = " OR ".join(f'"{word}"' for word in words)
    elif question.words.strip():
        return []  # nothing but punctuation
    if question.about:
        wanted.append("f.about = :about")
    elif question.asker is not None:
        wanted.append("f.scope <> 'subject'")
    if question.kind:
        wanted.append("f.kind = :kind")
    if question.asker is not None:
        wanted.append("(f.scope <> 'agent' OR f.author = :asker)")
    values |= {"about": question.about, "kind": question.kind, "asker": question.asker, "most": question.most}
    source = "words CROSS JOIN facts f ON f.row = words.rowid" if words else "facts f"
    order = "bm25(words), f.confidence DESC, f.time_ns DESC, f.row DESC" if words else "f.time_ns DESC, f.row DESC"
    query = (
        f"WITH {_ABORTED.format(e=condition('e'), later=condition('later'))} "
        f"SELECT f.id FROM {source} WHERE {' AND '.join(wanted)} ORDER BY {order} LIMIT :most"
    )
    return [fact for (fact,) in index.database.execute(query, values)]


def facts(index: Index, ids: Sequence[str], as_of: AsOf) -> list[Recalled]:
    """Facts by their ids, in that order, as they stood at a moment; those that were forgotten since are missing."""
    condition, values = _as_of(as_of)
    doubts = (
        f"WITH {_ABORTED.format(e=condition('e'), later=condition('later'))} SELECT m.fact, m.reason FROM marks m "
        f"WHERE m.fact IN (SELECT value FROM json_each(:ids)) AND NOT m.ends AND {condition('m')} "
        "AND m.saga NOT IN aborted ORDER BY m.time_ns, m.row"
    )
    values["ids"] = json.dumps(list(ids))
    disputed: dict[str, list[str]] = {}
    for fact, reason in index.database.execute(doubts, values):
        disputed.setdefault(fact, []).append(reason)
    rows = index.database.execute(
        f"SELECT {_COLUMNS}, f.seq, f.time_ns FROM facts f WHERE f.id IN (SELECT value FROM json_each(:ids))",
        {"ids": values["ids"]},
    )
    found = {row[0]: _recalled(row, disputed.get(row[0], ())) for row in rows}
    return [found[fact] for fact in ids if fact in found]


def _recalled(row: Sequence[Any], disputed: Sequence[str]) -> Recalled:
    fact, kind, text, about, scope, author, confidence, sources, saga, supersedes, shard, seq, time_ns = row
    return Recalled(
        id=fact,
        kind=kind,
        text=text,
        about=about,
        scope=scope,
        author=author,
        confidence=confidence,
        sources=tuple(json.loads(sources)),
        saga=saga,
        supersedes=supersedes,
        disputed=tuple(disputed),
        shard=shard,
        seq=seq,
        stored=rfc3339(time_ns / 1e9),
    )


def _as_of(as_of: AsOf) -> tuple[Any, dict[str, Any]]:
    """The condition under which a row counts, given its table's name, and the values in it."""
    if isinstance(as_of, datetime):
        values: dict[str, Any] = {"time_ns": int(as_of.timestamp() * 1_000_000) * 1000 + 999}
        return (lambda table: f"{table}.time_ns <= :time_ns"), values
    values = {f"seq_{shard}": seq for shard, seq in enumerate(as_of)}
    cases = " ".join(f"WHEN {shard} THEN :seq_{shard}" for shard in range(len(as_of)))
    return (lambda table: f"{table}.seq <= CASE {table}.shard {cases} END"), values


__all__ = ["facts", "standing"]
