"""Facts that the log will forget, kept in files before it does: each once, in the order of the log.

A file says in its name from which sequence to which of a shard it was read. It has that name only when it is whole, so
the names are all that has to be known to go on after any interruption.
"""

import fcntl
import re
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hocket.clock import Clock, SystemClock, rfc3339
from hocket.errors import FileUnwritable
from hocket.log.base import Whole
from hocket.storage.line import Stored, stored, whose
from hocket.storage.writing import Writing, writable

FILE_FACTS = 100_000
"""So many facts go into one file; what is left over is a file as well."""

_NAME = re.compile(r"(?P<domain>.+)-(?P<shard>\d+)-(?P<first>\d{16})-(?P<last>\d{16})\.jsonl(\.gz)?")


@dataclass(frozen=True, slots=True)
class Archived:
    """What one pass has kept."""

    facts: int
    files: tuple[str, ...]


async def archive(
    logs: Sequence[Whole],
    folder: Path,
    *,
    server: str = "",
    gz: bool = False,
    clock: Clock | None = None,
    file_facts: int = FILE_FACTS,
) -> Archived:
    """Keep all events that the log will forget some day and that no file in the folder holds yet.

    Raises FileUnwritable, also when somebody else archives into the folder, and Unavailable; what is in whole files by
    then stays.
    """
    clock = clock or SystemClock()
    files: list[str] = []
    facts = 0
    with _alone(folder):
        for log in logs:
            header = {"kind": "archive", "domain": log.domain, "shards": len(logs), "server": server}
            end, start = int(await log.end()), archived_up_to(folder, log.domain, log.shard) + 1
            found: list[Stored] = []
            async with aclosing(log.everything(start=start)) as messages:
                async for message in messages:
                    if message.seq > end:
                        break
                    fact = stored(log.shard, message)
                    if fact.ttl is None or not message.data or whose(message.subject).kind not in ("evt", "cmd"):
                        continue
                    found.append(fact)
                    facts += 1
                    if len(found) == file_facts:
                        last = int(message.seq)
                        files.append(_write(folder, header, found, start, last, gz=gz, clock=clock))
                        start, found = last + 1, []
            if found:
                files.append(_write(folder, header, found, start, end, gz=gz, clock=clock))
    return Archived(facts, tuple(files))


def archived_up_to(folder: Path, domain: str, shard: int) -> int:
    """The sequence up to which a shard is archived in a folder; 0: nothing is."""
    names = (_NAME.fullmatch(path.name) for path in folder.glob("*.jsonl*"))
    return max((int(n["last"]) for n in names if n and (n["domain"], int(n["shard"])) == (domain, shard)), default=0)


def _write(
    folder: Path, header: dict[str, Any], facts: Sequence[Stored], first: int, last: int, *, gz: bool, clock: Clock
) -> str:
    name = f"{header['domain']}-{facts[0].shard}-{first:016}-{last:016}.jsonl{'.gz' if gz else ''}"
    now = rfc3339(clock.now_s())
    with Writing(folder / name, {**header, "began": now}) as writing:
        for fact in facts:
            writing.add(fact)
        writing.finish({"taken": now, "shard": facts[0].shard, "first": first, "last": last})
    return name


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from archiving into the same folder."""
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileUnwritable(f"{folder}: somebody else archives into it") from None
        yield


__all__ = ["Archived", "archive", "archived_up_to"]
