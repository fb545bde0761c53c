"""The command that shows work as it happens: `tail`."""

import sys
from typing import Annotated

import typer

from hocket.beside import beside
from hocket.cli.output import AsJson, say
from hocket.cli.reach import Domain, Nats, opened, running_place
from hocket.client import Bus
from hocket.engine.live import Chunk
from hocket.host import runtime
from hocket.observe.tail import tailing

commands = typer.Typer()


@commands.command("tail", epilog="Example: hocket tail brief-17 --until brief.published.v1")
def tail_command(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Whose work to follow.")],
    until: Annotated[str | None, typer.Option(metavar="TYPE", help="End with the first event of this type.")] = None,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Show what a key's agents say while they work, and each event as it is published. Ctrl-C ends it."""
    runtime.run(_tail(key, until, nats, domain, as_json))


async def _tail(key: str, until: str | None, nats: str | None, domain: str | None, as_json: bool) -> None:
    async with (
        opened(running_place(nats, domain)) as bus,
        beside(_show(bus, key, as_json)),
        bus.subscribe(key=key, start="start" if until else "live") as deliveries,
    ):
        async for delivery in deliveries:
            say(f"\n— {delivery.address.type} {delivery.address.id}")
            if delivery.address.type == until:
                return


async def _show(bus: Bus, key: str, as_json: bool) -> None:
    last: Chunk | None = None
    async with tailing(bus, key) as chunks:
        async for chunk in chunks:
            if as_json:
                print(chunk.to_json().decode(), flush=True)
                continue
            if last is not None and (last.run, last.execution) != (chunk.run, chunk.execution):
                say(f"\n— {chunk.agent} begins {'again' if last.run == chunk.run else chunk.run}")
            last = chunk
            sys.stdout.write("".join(char if char.isprintable() or char in "\n\t" else "�" for char in chunk.text))
            sys.stdout.flush()
