"""A TCP proxy in front of a server, for connections that break."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Passes bytes on both ways. Cut, it hangs up on everybody and lets nobody in until it is mended."""

    def __init__(self, port: int) -> None:
        self.url = ""
        self.connections = 0
        """How many it has let in."""

        self._port = port
        self._whole = True
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Break every connection."""
        self._whole = False
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Let connections in again."""
        self._whole = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what one client and the server say, until either hangs up."""
        if not self._whole:
            writer.transport.abort()
            return
        self.connections += 1
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._port)
        both = {writer, there}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pass_on(reader, there))
                tasks.create_task(_pass_on(there_reader, writer))
        except* ConnectionError:
            pass  # it is what the proxy is for
        finally:
            self._writers -= both
            for each in both:
                each.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """A proxy to a server, for as long as the block lasts."""
    proxy = Proxy(int(url.rpartition(":")[2]))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()
