"""A PostgreSQL server for as long as a system is measured, with the sync that it has when nobody changes it."""

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hocket.bench.compare import serving
from hocket.bench.compare.serving import LeftOut
from hocket.bench.compare.system import Place, Started

ON_DISK = "PostgreSQL: fsync on, synchronous_commit on"

_SETTINGS = ("fsync=on", "synchronous_commit=on", "max_connections=200", "shared_buffers=256MB")
_NOBODY = ("postgres", "nobody")
"""Who runs it when we are root, which PostgreSQL refuses to be."""


@asynccontextmanager
async def started(place: Place) -> AsyncIterator[Started]:
    """Start one in `place`. Raises LeftOut where there is none, or it does not come up."""
    programs = _programs(place.postgres)
    data = place.data / "postgres"
    data.mkdir()
    become = _become(data)
    version = await serving.output([str(programs / "postgres"), "--version"])
    init = ["--pgdata", str(data), "--auth", "trust", "--username", "postgres", "--encoding", "UTF8"]
    await serving.output([*become, str(programs / "initdb"), *init])
    port = serving.free_port()
    told = [word for setting in _SETTINGS for word in ("-c", setting)]
    command = [
        *become,
        str(programs / "postgres"),
        "-D",
        str(data),
        "-h",
        "127.0.0.1",
        "-k",
        "",
        "-p",
        str(port),
        *told,
    ]
    log = place.data / "postgres.log"
    async with serving.running(command, log) as process:
        await serving.listens(process, port, log)
        number = re.search(r"\d+(\.\d+)*", version)
        yield Started(
            {"postgres": f"postgresql://postgres@127.0.0.1:{port}/postgres"},
            (process.pid,),
            {"PostgreSQL": number[0] if number else version.strip()},
        )


def _programs(named: Path | None) -> Path:
    """The folder with `postgres` and `initdb`."""
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -int(folder.parent.name))
    for folder in [named] if named else folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise LeftOut(
        f"no PostgreSQL server in {named}" if named else "no PostgreSQL here: install its package, or give --postgres"
    )


def _become(data: Path) -> list[str]:
    """What makes a command run as an ordinary user, to whom the folder is given."""
    if os.geteuid():
        return []
    import pwd

    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = next((known[name] for name in _NOBODY if name in known), None)
    if user is None or shutil.which("setpriv") is None:
        raise LeftOut("PostgreSQL does not run as root, and there is no other user to run it as")
    os.chown(data, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
