"""Starts a service's process, with a line to it and a pipe for what it prints."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hocket.host.line import HostEnd
from hocket.host.nursery import Nursery, Nursling
from hocket.host.printed import Printed

STDERR = 2


async def launch(
    name: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    output: Path | None,
    nursery: Nursery | None,
    heard: Callable[[dict[str, Any]], None],
) -> tuple[Process | Nursling, HostEnd, Printed]:
    """Start `hocket.host.child` with these arguments; what it prints is added to `output`, else goes where ours does.

    The line and what it prints are the caller's to close. Raises OSError when no process can be had.
    """
    line = HostEnd(heard)
    target = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666) if output else STDERR
    printed = Printed(target)
    try:
        process: Process | Nursling
        if nursery is not None and nursery.open:
            process = await nursery.start(name, arguments, environment, stdin=line.child.fileno(), output=printed.child)
        else:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "hocket.host.child", *arguments),
                env=environment,
                stdin=line.child.fileno(),
                stdout=printed.child if output else None,
                stderr=printed.child,
                start_new_session=True,  # Ctrl-C is ours: we ask the services to stop, once
            )
    except BaseException:
        line.close()
        printed.close()
        raise
    finally:
        if output:
            os.close(target)
    line.child.close()
    printed.started()
    return process, line, printed


__all__ = ["launch"]
