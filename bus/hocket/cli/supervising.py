"""Commands about processes: `agents` for who is at work, and `restart` for a service that needs a new one."""

import asyncio
import getpass
from contextlib import aclosing
from datetime import datetime
from typing import Annotated

import typer

from hocket.cli.output import AsJson, harmless, print_json, print_table, say
from hocket.cli.reach import Domain, Nats, opened, running_place
from hocket.client import Bus
from hocket.clock import SystemClock
from hocket.engine.owner import Claim
from hocket.errors import MalformedEvent, NothingRuns, UsageError
from hocket.host import health, roster, runtime
from hocket.host.failures import failures_in
from hocket.host.memory import MIB
from hocket.host.roster import Entry
from hocket.ids import fresh
from hocket.observe.atwork import PAUSED, AtWork, at_work
from hocket.observe.holds import held
from hocket.policy import Limits
from hocket.subjects import Names, tokens_of
from hocket_schemas.services import RestartRequested

commands = typer.Typer()

EXIT_FAILED = 1

LISTEN_S = 1.5 * Limits().heartbeat_s
"""How long to listen for heartbeats, which come each second."""


@commands.command("agents", epilog="Example: hocket agents --json")
def agents_command(
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to listen.")] = LISTEN_S,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """List who is at work: who owns which agent and shard, who stands by, who is being started again or has failed.

    An agent that the log knows and nobody is heard of is listed as silent.
    """
    runtime.run(_agents(seconds, nats, domain, as_json))


async def _agents(seconds: float, nats: str | None, domain: str | None, as_json: bool) -> None:
    loop = asyncio.get_running_loop()
    async with opened(running_place(nats, domain)) as bus:
        async with health.listening(bus.logs) as heard, roster.listening(bus.logs[0]) as supervised:
            await asyncio.sleep(seconds)
            now_s = loop.time()
            cards, entries = heard.table(now_s), supervised.table(now_s)
        paused = {(each.name, each.shard): each for each in await held(bus) if each.kind == "agent"}
        lines = at_work(cards, entries, await failures_in(bus), await _claims(bus), now_s, paused=paused)
    if as_json:
        print_json(lines)
        return
    now = SystemClock().now_s()
    print_table(
        ("agent", "shard", "state", "version", "waiting", "handled", "restarts", "memory", "since", "process"),
        (
            (
                *(line.agent, line.shard, line.state, line.version, line.lag, line.handled, line.restarts),
                _memory(line),
                _age(line.since, now),
                f"{line.host}:{line.pid}" if line.pid else line.host,
            )
            for line in lines
        ),
        empty="nobody is heard, and the log knows no agent",
    )
    for line in lines:
        if line.next or (line.why and line.state != line.role):
            why = f" {line.why}" if line.state == PAUSED else f": {line.why}" if line.why else ""
            print(harmless(f"\n{line.agent} {line.state}{why}"))
        elif line.blocked:
            print(f"\n{line.agent} has blocked its event loop {line.blocks} times, at last: {line.blocked}")
        if line.next:
            print(f"try: {line.next}")
        if line.held:
            print(f"\n{line.agent} keeps {line.held} events in quarantine; `hocket quarantine` tells why")


async def _claims(bus: Bus) -> dict[tuple[str, int], tuple[int, Claim]]:
    """Who owns what, as the log has it."""
    found: dict[tuple[str, int], tuple[int, Claim]] = {}
    for shard, log in enumerate(bus.logs):
        async with aclosing(log.scan([Names(bus.domain, shard).owners])) as claims:
            async for message in claims:
                try:
                    found[tokens_of(message.subject)[1], shard] = (message.seq, Claim.from_json(message.data))
                except MalformedEvent as error:
                    say(str(error))
    return found


def _memory(line: AtWork) -> str:
    if line.memory_bytes is None:
        return ""
    cap = f" of {line.memory_max_bytes // MIB}" if line.memory_max_bytes else ""
    return f"{line.memory_bytes // MIB}{cap} MiB"


def _age(since: str, now_s: float) -> str:
    """How long ago that was, in the largest unit that says something."""
    try:
        age_s = max(0.0, now_s - datetime.fromisoformat(since).timestamp())
    except ValueError:
        return ""
    for unit, unit_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if age_s >= 2 * unit_s:
            return f"{age_s // unit_s:.0f} {unit}"
    return f"{age_s:.0f} s"


@commands.command("restart", epilog="Example: hocket restart writer --reason 'the key was renewed'")
def restart_command(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="The name of its folder.")],
    host: Annotated[str | None, typer.Option(help="Only on this host; otherwise wherever it is kept.")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the request.")] = "",
    by: Annotated[str | None, typer.Option(help="Who asks; otherwise your login name.")] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, help="How long to wait until it is at work.")] = 60.0,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Give a service a new process, in good order; one that was given up is started again.

    Exit code 1: it is not at work in time, or has failed again.
    """
    request = RestartRequested(service=service, host=host, by=by or getpass.getuser(), reason=reason)
    raise typer.Exit(runtime.run(_restart(request, timeout_s, nats, domain, as_json)))


async def _restart(
    request: RestartRequested, timeout_s: float, nats: str | None, domain: str | None, as_json: bool
) -> int:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    async with (
        opened(running_place(nats, domain)) as bus,
        roster.listening(bus.logs[0], changed=told.set) as supervised,
    ):
        await asyncio.sleep(LISTEN_S)
        before = _wanted(request, supervised.table(loop.time()))
        await bus.publish(request, key=request.service, saga=fresh())
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    after = {each.instance: each for each in supervised.table(loop.time())}
                    how = [_outcome(each, after.get(each.instance)) for each in before]
                    if None not in how:
                        break
                    told.clear()
                    await told.wait()
        except TimeoutError:
            say(f"{request.service} is not at work after {timeout_s:g} s; it may still come. `hocket agents` tells")
    ends = [after.get(each.instance, each) for each in before]
    if as_json:
        print_json(ends)
    else:
        for each in ends:
            trouble = f": {each.why}" if each.why and each.state != "running" else ""
            print(f"{each.service} on {each.host}: {each.state}{trouble}")
    return 0 if all(how) else EXIT_FAILED


def _wanted(request: RestartRequested, entries: list[Entry]) -> list[Entry]:
    """Those that the request is for. Raises NothingRuns and UsageError when there are none."""
    if not entries:
        raise NothingRuns("no supervisor is heard: `hocket up` is one, `hocket run` is none")
    wanted = [e for e in entries if e.service == request.service and request.host in (None, e.host)]
    if not wanted:
        kept = ", ".join(sorted({f"{each.service} on {each.host}" for each in entries}))
        raise UsageError(f"no such service is kept: {request.service!r}; there are {kept}")
    return wanted


def _outcome(before: Entry, now: Entry | None) -> bool | None:
    """Whether a service that was to be started again has come up; None: that is still to be seen."""
    if now is None or now.restarts == before.restarts:
        return None
    if now.state == "failed":
        return False
    return True if now.state == "running" and now.pid != before.pid else None
