"""The command `archive`: facts that the log will forget, kept in files."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hocket.cli.output import AsJson, print_json, say
from hocket.cli.reach import Domain, Nats, readable_place
from hocket.host import runtime

if TYPE_CHECKING:
    from hocket.storage.archive import Archived

commands = typer.Typer()


@commands.command(epilog="Example: hocket archive archive/ --follow")
def archive(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files are, and where to add to them.")],
    follow: Annotated[bool, typer.Option("--follow", help="Go on until interrupted.")] = False,
    every_s: Annotated[float, typer.Option("--every", min=1.0, help="With --follow: seconds between looks.")] = 60.0,
    gz: Annotated[bool, typer.Option("--gzip", help="Compress the files.")] = False,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Keep the events that have a retention in files before the log forgets them, each once."""
    runtime.run(_archive(folder, every_s if follow else None, gz, nats, domain, as_json))


async def _archive(
    folder: Path, every_s: float | None, gz: bool, nats: str | None, domain: str | None, as_json: bool
) -> None:
    from hocket.log import jetstream
    from hocket.storage.archive import archive as keep

    async with (
        readable_place(nats, domain) as place,
        jetstream.connect(place.url, domain=place.domain, name="archive", create=False) as logs,
    ):
        server = await logs[0].server_version()
        while True:
            kept = await keep(logs, folder, server=server, gz=gz)
            if kept.files or every_s is None:
                _print(folder, kept, as_json=as_json)
            if every_s is None:
                return
            await asyncio.sleep(every_s)


def _print(folder: Path, kept: "Archived", *, as_json: bool) -> None:
    if as_json:
        print_json(kept)
        return
    for name in kept.files:
        print(folder / name)
    say(f"{kept.facts} facts archived")
