"""Commands that run services: `up`, `run`, and `new` to begin one."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.output import say
from hocket.cli.reach import Domain, Nats, find_place
from hocket.clock import SystemClock, rfc3339
from hocket.errors import BadService
from hocket.host import logs, manifest, runtime, template
from hocket.host.place import DATA, Place, from_environment

commands = typer.Typer()

EXIT_INSISTED = 130

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Where the embedded server keeps its log.")]
LogForm = Annotated[str, typer.Option("--log", help="How a service's own lines look: text or json.")]


@commands.command(epilog="Example: hocket up services")
def up(
    services: Annotated[Path, typer.Argument(help="A directory of services, or one service.")] = Path("services"),
    single: Annotated[bool, typer.Option("--single", help="All services in one process.")] = False,
    data: Data = DATA,
    nats: Annotated[str | None, typer.Option("--nats", metavar="URL", help="Your server instead of one's own.")] = None,
) -> None:
    """Run a crew: a server of its own, and each service as a process.

    What ends is started again; a service that ends again and again is given up and the others go on. A folder
    that comes into the directory is started, one that goes is stopped. Ctrl-C stops all in good order.
    """
    if not services.is_dir():
        raise BadService(f"{services} is no directory")
    raise typer.Exit(runtime.run(_up(services, from_environment(url=nats), data, together=single)))


async def _up(services: Path, place: Place | None, data: Path, *, together: bool) -> int:
    from hocket.host.supervisor import Change, Ended, Failed, Fleet, Left, Owns, Restored, Started, text_of
    from hocket.host.system import ServerStarted, system

    def tell(change: Change | ServerStarted) -> None:
        match change:
            case ServerStarted(url, pid, again):
                text = f"nats-server {'is back' if again else 'listens'} on {url} (process {pid})"
            case Started(service, pid, again):
                text = f"{service}: {'started again' if again else 'started'} (process {pid})"
            case Owns(service, agent, shard, _):
                text = f"{service}: at work" + (f" as {agent}" if agent != service else "")
                text += f" on shard {shard}" if shard or (place and place.shards) else ""
            case Ended(service, _, _, "asked"):
                text = f"{service}: ended, as asked for, and starts again"
            case Ended(service, code, wait_s, reason):
                text = f"{service}: ended with {text_of(code, reason)}, starts again"
                text += f" in {wait_s:.2g} s" if wait_s else ""
            case Failed(service, code, ends, reason):
                text = (
                    f"{service}: FAILED. It ended {ends} times, at last with {text_of(code, reason)}, and is given up "
                    f"until its files change or somebody says `hocket restart {service}`; the others go on"
                )
            case Restored(service):
                text = f"{service}: works again"
            case Left(service):
                text = f"{service}: stopped"
        print(f"{rfc3339(SystemClock().now_s())[11:19]} {text}", flush=True)

    stop = asyncio.Event()
    starting = asyncio.current_task()
    fleet: Fleet | None = None
    code = 0

    def on_signal() -> None:
        nonlocal code
        if fleet is None:
            if starting is not None:
                starting.cancel()
        elif stop.is_set():
            code = EXIT_INSISTED
            fleet.abandon()
        else:
            print("stopping in good order; ask again to end at once", flush=True)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    try:
        async with system(services, place=place, data=data, together=together, tell=tell) as fleet:
            if not manifest.services_in(services):
                print(f"no services in {services} yet; `hocket new NAME` makes one", flush=True)
            await stop.wait()
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    return code


@commands.command(epilog="Example: hocket run services/greeter --nats nats://127.0.0.1:4222")
def run(
    folders: Annotated[list[Path], typer.Argument(help="One service or several, all in this process.")],
    nats: Nats = None,
    domain: Domain = None,
    data: Data = DATA,
    log: LogForm = "text",
) -> None:
    """Run one service in this process, in the foreground.

    Joins the system that is named or runs here; without any, starts a server for as long as it runs.
    """
    if log not in ("text", "json"):
        raise typer.BadParameter("--log is text or json")
    from hocket.host.child import host
    from hocket.host.loader import load

    logs.to_stderr("json" if log == "json" else "text")
    services = [load(folder) for folder in folders]
    place = find_place(nats, domain)

    async def hosting() -> None:
        async with _served(place, data, domain) as found:
            await host(services, found)

    runtime.run(hosting())


@asynccontextmanager
async def _served(place: Place | None, data: Path, domain: str | None) -> AsyncIterator[Place]:
    """The place, or one on a server of our own."""
    if place is not None:
        yield place
        return
    from hocket.log.server import EmbeddedServer

    async with EmbeddedServer(data) as server:
        say(f"no system runs here: a server of its own listens on {server.url}, with its log in {data}")
        own = from_environment({**os.environ, "HOCKET_DOMAIN": domain or ""}, url=server.url)
        assert own is not None
        yield own


@commands.command(epilog="Example: hocket new greeter")
def new(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and dashes.")],
    services: Annotated[Path, typer.Option("--in", metavar="DIR", help="The directory of services.")] = Path(
        "services"
    ),
) -> None:
    """Begin a service: a folder with an agent, its manifest and a test, which run as they are."""
    folder = template.begin(services, name)
    print(f"made {folder}: agent.py, agent.toml, test_agent.py")
    print(f"try: python -m pytest {folder}")
    print(f"     hocket up {services}")
    print(f'     hocket publish {template.asked(name)} \'{{"name": "Ada"}}\' --wait {template.answered(name)}')
