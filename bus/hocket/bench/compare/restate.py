"""Restate: its server as it is when nobody configures it, and a handler under hypercorn."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hocket.bench.compare import serving
from hocket.bench.compare.environment import Environment
from hocket.bench.compare.serving import LeftOut
from hocket.bench.compare.system import Place, Started, System

_PACKAGE = "@restatedev/restate-server"


@asynccontextmanager
async def _start(place: Place) -> AsyncIterator[Started]:
    modules = place.installed / "node_modules" / "@restatedev"
    binary = next(modules.glob("restate-server-*/bin/restate-server"), None)
    if binary is None:
        raise LeftOut(f"{_PACKAGE} has no server for this machine")
    version = json.loads((modules / "restate-server" / "package.json").read_text())["version"]
    node, ingress, admin, service = (serving.free_port() for _ in range(4))
    variables = {
        "RESTATE_BASE_DIR": str(place.data / "restate"),
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_BIND_PORT": str(node),
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_INGRESS__BIND_PORT": str(ingress),
        "RESTATE_ADMIN__BIND_PORT": str(admin),
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "error",
        "DO_NOT_TRACK": "1",
    }
    log = place.data / "restate.log"
    async with serving.running([str(binary), "--no-logo"], log, variables=variables) as process:
        await serving.listens(process, admin, log)
        await serving.listens(process, ingress, log)
        addresses = {
            "ingress": f"http://127.0.0.1:{ingress}",
            "admin": f"http://127.0.0.1:{admin}",
            "service_port": str(service),
        }
        yield Started(addresses, (process.pid,), {"restate-server": version})


RESTATE = System(
    "restate",
    "Restate",
    "restate_saga.py",
    "its default, rocksdb-disable-wal-fsync false: its log is synced in batches",
    _start,
    Environment("restate", ("aiohttp", "hypercorn", "restate-sdk", "uvloop"), (_PACKAGE,)),
)
