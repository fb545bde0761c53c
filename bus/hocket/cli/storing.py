"""Commands about copies of a domain: `backup`, `verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hocket.cli.output import AsJson, print_json, print_table, say
from hocket.cli.reach import Domain, Nats, readable_place
from hocket.clock import SystemClock, utc
from hocket.host import runtime

if TYPE_CHECKING:
    from hocket.storage.backup import Progress
    from hocket.storage.checking import Checked

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


def _tell(progress: "Progress") -> None:
    say(f"shard {progress.shard}: {progress.messages} messages, at {progress.seq} of {progress.of}")


@commands.command(epilog="Example: hocket verify backups/hocket-20260131T120000Z.jsonl")
def verify(
    copy: Copy,
    digest: Annotated[
        str | None, typer.Option("--digest", help="What `backup` printed: it has to be that very copy.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a copy from end to end, and name what is damaged or missing in it. Exit code 1: something is."""
    from hocket.storage.checking import check, newest_in

    checked = check(newest_in(copy) if copy.is_dir() else copy, digest=digest)
    if as_json:
        print_json(checked)
    else:
        _print_checked(checked)
    raise typer.Exit(0 if checked.sound else EXIT_UNSOUND)


def _print_checked(checked: "Checked") -> None:
    rows = (
        (each.line, each.what, each.key, each.id, " ".join(filter(None, (each.subject, each.detail))))
        for each in checked.damage
    )
    fine = f"sound: {checked.messages} messages of domain {checked.domain!r}, as of {checked.taken}"
    print_table(("line", "what", "key", "id", "where"), rows, empty=f"{fine}\ndigest {checked.digest}")
