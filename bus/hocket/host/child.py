"""One service process: loads its agents, does their part of the work, and stops when it is told to.

`python -m hocket.host.child FOLDER…` is what the supervisor starts, one for each service. It imports no more
than it needs: a crew of seven starts seven of them.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hocket.clock import SystemClock, rfc3339
from hocket.errors import HocketError, NothingRuns, Unavailable
from hocket.host import logs, runtime
from hocket.host.crew import Crew
from hocket.host.line import ChildEnd
from hocket.host.loader import Service, load
from hocket.host.manifest import cap_of
from hocket.host.memory import resident_bytes
from hocket.host.place import Place, from_environment
from hocket.host.watchdog import BLOCKED_S, watching
from hocket.process import Process
from hocket.telemetry import note

CONNECT_S = 30.0
"""How long a service waits for its server at the start. Later it waits without end."""

EXIT_REFUSED = 2
"""The service cannot run as it is: its code, its manifest, the server or the permissions are to blame."""

EXIT_INSISTED = 130
"""Somebody asked a second time to stop, and whatever was in hand was dropped."""


class Stop:
    """The request to stop: at first in good order, the second time at once."""

    def __init__(self) -> None:
        self.asked = False
        self._crew: Crew | None = None
        self._starting = asyncio.current_task()

    def ask(self) -> None:
        """Finish what runs, commit, and leave; a process that has not begun to work just ends."""
        self.asked = True
        if self._crew is not None:
            self._crew.drain()
        elif self._starting is not None:
            self._starting.cancel()

    def insist(self) -> None:
        """Ask; when it has been asked before, end here and now. Nothing is lost: the log has what was committed."""
        if self.asked:
            os._exit(EXIT_INSISTED)
        self.ask()

    def begins(self, crew: Crew) -> None:
        """From now on there is something to finish."""
        self._crew = crew

    def on_signals(self) -> None:
        """Ask at SIGTERM and SIGINT, insist at the next."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.insist)

    def at_the_end_of(self, descriptor: int) -> None:
        """Ask when a pipe ends that our parent holds open: when the parent has died, however it died."""
        loop = asyncio.get_running_loop()

        def readable() -> None:
            try:
                said = os.read(descriptor, 4096)
            except OSError:  # a reset: the parent died before it had read all that we told it
                said = b""
            if not said:
                loop.remove_reader(descriptor)
                self.ask()

        loop.add_reader(descriptor, readable)


async def host(
    services: Sequence[Service], place: Place, *, instance: str | None = None, leashed: bool = False
) -> None:
    """Host services in this process until it is asked to stop.

    `leashed`: standard input is a pipe of the parent's, and its end counts as being asked. Raises whatever
    makes hosting impossible, in a group when several things do.
    """
    from hocket.log import jetstream  # here, so that whoever only wants to know how to stop need not load it

    stop = Stop()
    stop.on_signals()
    if leashed:
        stop.at_the_end_of(sys.stdin.fileno())
    agents = [agent for service in services for agent in service.agents]
    replay = {name: value for service in services for name, value in service.replay.items()}
    name = "+".join(service.name for service in services)
    try:
        async with (
            _watched(services, instance, leashed=leashed) as process,
            jetstream.connect(
                place.url,
                domain=place.domain,
                shards=place.shards,
                replicas=place.replicas,
                name=name,
                timeout_s=CONNECT_S,
            ) as opened,
        ):
            crew = Crew(agents, opened, process=process, replay=replay)
            stop.begins(crew)
            await crew.run()
    except asyncio.CancelledError:
        if not stop.asked:
            raise


@asynccontextmanager
async def _watched(services: Sequence[Service], instance: str | None, *, leashed: bool) -> AsyncIterator[Process]:
    """Our process as its agents know it: with a watchdog on its loop, of which the supervisor hears."""
    started = rfc3339(SystemClock().now_s())
    with ExitStack() as stack:
        line = stack.enter_context(closing(ChildEnd(sys.stdin.fileno()))) if leashed else None
        watchdog = stack.enter_context(
            watching(
                blocked_s=_patience_s(services),
                beat=line.beat if line else lambda: None,
                tell=lambda block: line.say({"blocked": asdict(block)}) if line else None,
            )
        )

        def vitals() -> dict[str, Any]:
            return {"started": started, "memory_bytes": resident_bytes(os.getpid()), **watchdog.vitals()}

        def trying(event_id: str | None) -> None:
            if line:
                line.say({"trying": event_id})

        cap = cap_of([service.manifest for service in services])

        def spent() -> bool:
            return cap is not None and (resident_bytes(os.getpid()) or 0) > cap

        process = Process(vitals=vitals, trying=trying, spent=spent)
        yield replace(process, instance=instance) if instance else process


def _patience_s(services: Sequence[Service]) -> float:
    """When a loop counts as blocked: early enough to say who it was before the supervisor's own patience ends."""
    ends_s = [service.manifest.restarts.blocked_s / 2 for service in services if service.manifest.restarts]
    return min([BLOCKED_S, *(end_s for end_s in ends_s if end_s > 0)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one service process; return its exit code."""
    signal.signal(signal.SIGTERM, _leave)  # until there is something to finish
    options = _parser().parse_args(arguments)
    logs.to_stderr(options.log, hidden=logs.TOLD_BY_THE_SUPERVISOR if options.leashed else frozenset())
    sys.path.append(os.getcwd())  # last, so that a project's own contracts are found and nothing is shadowed
    code = 0
    try:
        place = from_environment(url=options.nats)
        if place is None:
            raise NothingRuns("no server is named: give --nats URL or set HOCKET_NATS")
        services = [load(folder) for folder in options.folders]
        runtime.run(host(services, place, instance=options.instance, leashed=options.leashed))
    except* HocketError as group:
        code = EXIT_REFUSED
        for error in _leaves(group):
            note(logging.ERROR, "cannot run", error=type(error).__name__, why=str(error))
            if error.__cause__ is not None and not isinstance(error, Unavailable):
                traceback.print_exception(error.__cause__)
    except* KeyboardInterrupt:
        code = EXIT_INSISTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hocket.host.child", description="Runs services in one process.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--nats", metavar="URL", help="instead of HOCKET_NATS")
    parser.add_argument("--instance", metavar="NAME", help="a name that no other living process has")
    parser.add_argument("--leashed", action="store_true", help="stop when standard input ends")
    parser.add_argument("--log", choices=("text", "json"), default="text")
    return parser


def _leave(number: int, frame: Any) -> None:
    raise SystemExit(0)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    """The single errors of a group of groups."""
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


if __name__ == "__main__":
    sys.exit(main())
