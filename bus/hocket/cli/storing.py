"""Commands about copies of a domain: `backup`, `restore`, `verify`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hocket.cli.output import AsJson, print_json, print_table, say
from hocket.cli.reach import Domain, Nats, find_place, readable_place
from hocket.clock import SystemClock, utc
from hocket.errors import BadCopy
from hocket.host import runtime
from hocket.host.place import DATA, Place

if TYPE_CHECKING:
    from hocket.storage.backup import Progress
    from hocket.storage.checking import Checked
    from hocket.storage.live import Missing

commands = typer.Typer()

EXIT_UNSOUND = 1

STAMP = "%Y%m%dT%H%M%SZ"

Copy = Annotated[Path, typer.Argument(metavar="FILE|DIR", help="A copy, or a folder: then the newest one in it.")]


@commands.command(epilog="Example: hocket backup backups/")
def backup(
    to: Annotated[
        Path, typer.Argument(metavar="FILE|DIR", help="Where to; in a folder it gets a name. Compressed as NAME.gz.")
    ],
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Copy a domain as it is at one moment, all shards, while the crew works or stands still."""
    runtime.run(_backup(to, to.is_dir(), nats, domain, as_json))


async def _backup(to: Path, is_folder: bool, nats: str | None, domain: str | None, as_json: bool) -> None:
    from hocket.log import jetstream
    from hocket.storage.backup import back_up

    async with (
        readable_place(nats, domain) as place,
        jetstream.connect(place.url, domain=place.domain, name="backup", create=False) as logs,
    ):
        if is_folder:
            to = to / f"{place.domain}-{utc(SystemClock().now_s()).strftime(STAMP)}.jsonl"
        taken = await back_up(logs, to, server=await logs[0].server_version(), told=_tell)
    if as_json:
        print_json(taken)
        return
    ends = ", ".join(f"{end} of shard {shard}" for shard, end in enumerate(taken.ends))
    print(f"{taken.path}: {taken.messages} messages, {taken.bytes:,} bytes, as of {taken.taken}, up to {ends}")
    print(f"digest {taken.digest}")


@commands.command(epilog="Example: hocket restore backups/hocket-20260131T120000Z.jsonl")
def restore(
    copy: Copy,
    force: Annotated[
        bool, typer.Option("--force", help="Also when the domain holds something: that is deleted first.")
    ] = False,
    max_bytes: Annotated[
        int | None,
        typer.Option("--max-bytes", min=1, help="The room of each shard; otherwise 1 GiB, or twice the copy's size."),
    ] = None,
    nats: Nats = None,
    data: Annotated[
        Path, typer.Option("--data", help="Where the log is to be, when no server is named and nothing runs.")
    ] = DATA,
    as_json: AsJson = False,
) -> None:
    """Bring a copy back into an empty domain, every message at its old sequence. Agents must not be at work."""
    from hocket.storage.checking import check, newest_in

    path = newest_in(copy) if copy.is_dir() else copy
    checked = check(path)
    if not checked.sound:
        raise BadCopy(f"{path} is damaged in {len(checked.damage)} places, at first: {checked.damage[0]}")
    if checked.kind != "backup":
        raise BadCopy(f"{path} is no backup of a whole domain, but of kind {checked.kind!r}")
    runtime.run(_restore(path, checked, force, max_bytes, nats, data, as_json))


async def _restore(
    path: Path, checked: "Checked", force: bool, max_bytes: int | None, nats: str | None, data: Path, as_json: bool
) -> None:
    from hocket.log.renewal import Room, renewal
    from hocket.log.topology import STREAM_BYTES_DEFAULT
    from hocket.storage.checking import messages_of
    from hocket.storage.restore import require_idle
    from hocket.storage.restore import restore as refill

    async with _writable_place(nats, checked.domain, data) as place, renewal(place.url, checked.domain) as renewed:
        if not force:
            renewed.require_empty()
        await require_idle(renewed.logs(1))
        room = Room(max_bytes or max(STREAM_BYTES_DEFAULT, 2 * checked.bytes), place.replicas or 1)
        firsts = [first or end + 1 for first, end in zip(checked.firsts, checked.ends, strict=True)]
        logs = await renewed.begin(firsts, room)
        restored = await refill(messages_of(path), checked.ends, logs, told=lambda count: say(f"{count} messages"))
        await renewed.open(checked.shards, room)
    if as_json:
        print_json(restored)
        return
    print(
        f"domain {restored.domain!r} is as it was at {checked.taken}: {restored.messages} messages, "
        f"{restored.fillers} sequences left out, {restored.expired} messages whose time had run out"
    )


@asynccontextmanager
async def _writable_place(nats: str | None, domain: str, data: Path) -> AsyncIterator[Place]:
    """The system that is meant; when nothing runs, a server on the folder of the log, for as long as it is needed."""
    place = find_place(nats, domain)
    if place is not None:
        yield place
        return
    from hocket.log.server import EmbeddedServer

    say(f"nothing runs here: restoring into {data}")
    async with EmbeddedServer(data) as server:
        yield Place(server.url, domain)


def _tell(progress: "Progress") -> None:
    say(f"shard {progress.shard}: {progress.messages} messages, at {progress.seq} of {progress.of}")


@commands.command(epilog="Example: hocket verify backups/hocket-20260131T120000Z.jsonl --live")
def verify(
    copy: Annotated[
        Path | None, typer.Argument(metavar="FILE|DIR", help="A copy, or a folder of them; without it the log itself.")
    ] = None,
    digest: Annotated[
        str | None, typer.Option("--digest", help="What `backup` printed: it has to be that very copy.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Whether the log has all facts of the copy still.")] = False,
    archived: Annotated[
        Path | None, typer.Option("--archive", metavar="DIR", help="Causes may also be in this folder's files.")
    ] = None,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Check copies from end to end, or the log: what is damaged or missing is named. Exit code 1: something is."""
    from hocket.storage.checking import check, copies_in

    paths = [] if copy is None else copies_in(copy) if copy.is_dir() else [copy]
    checked = [check(path, digest=digest) for path in paths]
    missing: list[Missing] | None = None
    if copy is None or live:
        bad = next((each for each in checked if not each.sound), None)
        if bad is not None:
            raise BadCopy(f"{bad.path} is damaged, at first: {bad.damage[0]}")
        kept = [] if archived is None else copies_in(archived)
        missing = runtime.run(_missing(paths, kept, nats, domain))
    if as_json:
        print_json({"copies": checked, "missing": missing})
    else:
        for each in checked:
            _print_checked(each)
        if missing is not None:
            rows = ((each.key, each.id, each.what, each.shard, each.detail) for each in missing)
            print_table(("key", "id", "what", "shard", "where"), rows, empty="the log has all that it should have")
    raise typer.Exit(0 if all(each.sound for each in checked) and not missing else EXIT_UNSOUND)


async def _missing(
    copies: Sequence[Path], kept: Sequence[Path], nats: str | None, domain: str | None
) -> "list[Missing]":
    """What a copy holds and the log does not; without a copy, what the log cites and does not hold."""
    from hocket.log import jetstream
    from hocket.storage.live import archived_ids, not_in_log, without_cause

    async with (
        readable_place(nats, domain) as place,
        jetstream.connect(place.url, domain=place.domain, name="verify", create=False) as logs,
    ):
        if not copies:
            return await without_cause(logs, archived_ids(kept))
        return [missing for path in copies for missing in await not_in_log(logs, path)]


def _print_checked(checked: "Checked") -> None:
    rows = (
        (each.line, each.what, each.key, each.id, " ".join(filter(None, (each.subject, each.detail))))
        for each in checked.damage
    )
    fine = f"sound: {checked.messages} messages of domain {checked.domain!r}, as of {checked.taken}"
    print(checked.path)
    print_table(("line", "what", "key", "id", "where"), rows, empty=f"{fine}\ndigest {checked.digest}")
