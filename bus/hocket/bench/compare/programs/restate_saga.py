"""The saga on Restate: a handler of four durable steps, served by hypercorn, called through the server's ingress."""

import asyncio
import os
from typing import Any

import aiohttp
import restate
from hypercorn.asyncio import serve as serve_asgi
from hypercorn.config import Config
from lanes import HOPS, SETTINGS, serve, until_closed, worker
from lanes import run as run_program

chain = restate.Service("Chain")


async def step(passed: dict[str, Any]) -> dict[str, Any]:
    """Pass on what came."""
    return passed | {"hop": passed["hop"] + 1}


@chain.handler()
async def run(ctx: restate.Context, passed: dict[str, Any]) -> dict[str, Any]:
    """The four steps."""
    for i in range(HOPS):
        passed = await ctx.run_typed(f"step-{i + 1}", step, passed=passed)
    return passed


app = restate.app(services=[chain])


async def work() -> None:
    """Serve the handler."""
    config = Config()
    config.bind = [f"127.0.0.1:{SETTINGS['service_port']}"]
    # As Restate's documentation has it for production.
    config.h2_max_concurrent_streams = 2147483647
    config.keep_alive_max_requests = 2147483647
    config.keep_alive_timeout = 2147483647
    over = asyncio.Event()

    async def served() -> None:
        await serve_asgi(app, config, shutdown_trigger=over.wait)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(served())
        while not await listens(int(SETTINGS["service_port"])):  # noqa: ASYNC110 - hypercorn does not say when it listens
            await asyncio.sleep(0.02)
        await until_closed()
        over.set()


async def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def main() -> None:
    """Register the handler, call it and be measured."""
    call = f"{SETTINGS['ingress']}/Chain/run"
    async with (
        worker(),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), raise_for_status=True) as session,
    ):
        uri = f"http://127.0.0.1:{SETTINGS['service_port']}"
        await register(session, {"uri": uri})

        async def saga(number: int) -> None:
            first = {"number": number, "text": SETTINGS["text"], "hop": 0}
            async with session.post(call, json=first) as answer:
                last = await answer.json()
            assert last["hop"] == HOPS

        await serve(saga, "restate-sdk", "hypercorn")


async def register(session: aiohttp.ClientSession, deployment: dict[str, str]) -> None:
    """Tell the server of the handler, once it is ready for that."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with session.post(f"{SETTINGS['admin']}/deployments", json=deployment):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)


if __name__ == "__main__":
    os.environ.setdefault("RESTATE_LOGGING", "ERROR")
    run_program(work() if SETTINGS.get("role") == "worker" else main())
