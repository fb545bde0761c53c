"""The nats-server of the systems that work on JetStream, the same for all of them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from hocket.bench.compare import serving
from hocket.bench.compare.system import Place, Started
from hocket.log.server import EmbeddedServer, find_binary

ALWAYS = "always"
LATER = "2m"
"""What nats-server does where nobody says otherwise."""

SYNCED = "nats-server: sync_interval always"
NOT_SYNCED = "nats-server: sync_interval 2m, acknowledged before fsync"


def started(sync: str, **settings: str) -> Callable[[Place], AbstractAsyncContextManager[Started]]:
    """Starts one that syncs so; `settings` are told to the program."""

    @asynccontextmanager
    async def start(place: Place) -> AsyncIterator[Started]:
        version = await serving.output([str(find_binary()), "--version"])
        async with EmbeddedServer(place.data, sync=sync) as server:
            yield Started(
                {"nats": server.url, **settings}, (server.pid,), {"nats-server": version.split("v")[-1].strip()}
            )

    return start
