"""The commands that keep agents from work for a while: `pause`, `resume`, `quarantine`, `release`."""

import asyncio
import getpass
from typing import Annotated

import typer

from hocket.cli.output import AsJson, clock_time, harmless, print_json, print_table, say
from hocket.cli.reach import Domain, Nats, opened, reading, running_place
from hocket.engine.owner import OWNER
from hocket.errors import NotFound
from hocket.host import health, runtime
from hocket.observe import holds
from hocket.policy import Limits
from hocket_schemas.holds import Hold, HoldLifted, HoldPlaced

commands = typer.Typer()

EXIT_NOT_YET = 1

LISTEN_S = 1.5 * Limits().heartbeat_s
"""How long to listen for heartbeats, which come each second."""

Reason = Annotated[str, typer.Option(help="Why; kept with it, and shown.")]
By = Annotated[str | None, typer.Option(help="Who wants it; otherwise your login name.")]
EventId = Annotated[str | None, typer.Option("--id", help="Its own id: saying it again with that adds nothing.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the agents, at most.")]
Key = Annotated[str | None, typer.Option("--key", help="A key, as `hocket history` takes it.")]
Saga = Annotated[str | None, typer.Option("--saga", help="A saga, as `hocket sagas` lists it.")]
OneAgent = Annotated[str | None, typer.Option("--agent", help="At this agent only; otherwise at every one.")]


@commands.command("pause", epilog="Example: hocket pause buyer --reason 'it buys too much'")
def pause_command(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="As `hocket agents` lists it.")],
    reason: Reason = "",
    by: By = None,
    event_id: EventId = None,
    timeout: Timeout = 10.0,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Have an agent begin nothing until it is resumed, whatever becomes of its processes meanwhile.

    What it has begun stops at its next durable call, or ends. Its events, answers and timers wait, and nothing is
    lost. Exit code 1: not every instance has said in time that it knows; it will.
    """
    _run(HoldPlaced(agent=agent, reason=reason, by=by or getpass.getuser()), event_id, timeout, nats, domain, as_json)


@commands.command("resume", epilog="Example: hocket resume buyer --reason 'it has a budget now'")
def resume_command(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="As `hocket agents` lists it.")],
    reason: Reason = "",
    by: By = None,
    event_id: EventId = None,
    timeout: Timeout = 10.0,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Let an agent that was paused go on where it was."""
    _run(HoldLifted(agent=agent, reason=reason, by=by or getpass.getuser()), event_id, timeout, nats, domain, as_json)


@commands.command("quarantine", epilog="Example: hocket quarantine --key order-7 --reason 'its address is wrong'")
def quarantine_command(
    key: Key = None,
    saga: Saga = None,
    agent: OneAgent = None,
    reason: Reason = "",
    by: By = None,
    event_id: EventId = None,
    timeout: Timeout = 10.0,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Have the events of a key or a saga wait until it is released, while all others go on.

    Handlings under way stop at their next durable call, or end. With neither key nor saga: list what is held.
    """
    if key is None and saga is None:
        if agent is not None:
            raise typer.BadParameter("give --key or --saga; a whole agent is paused with `hocket pause`")
        runtime.run(_list(nats, domain, as_json))
        return
    word = HoldPlaced(**_scope(key, saga), agent=agent, reason=reason, by=by or getpass.getuser())
    _run(word, event_id, timeout, nats, domain, as_json)


@commands.command("release", epilog="Example: hocket release --key order-7")
def release_command(
    key: Key = None,
    saga: Saga = None,
    agent: OneAgent = None,
    reason: Reason = "",
    by: By = None,
    event_id: EventId = None,
    timeout: Timeout = 10.0,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """Let the events of a key or a saga that were in quarantine be handled, in their order."""
    word = HoldLifted(**_scope(key, saga), agent=agent, reason=reason, by=by or getpass.getuser())
    _run(word, event_id, timeout, nats, domain, as_json)


def _scope(key: str | None, saga: str | None) -> dict[str, str]:
    if (key is None) == (saga is None) or "" in (key, saga):
        raise typer.BadParameter("give one of --key and --saga")
    return {"key": key} if key is not None else {"saga": saga or ""}


def _run(
    word: Hold, event_id: str | None, timeout_s: float, nats: str | None, domain: str | None, as_json: bool
) -> None:
    raise typer.Exit(runtime.run(_say(word, event_id, timeout_s, nats, domain, as_json)))


async def _say(
    word: Hold, event_id: str | None, timeout_s: float, nats: str | None, domain: str | None, as_json: bool
) -> int:
    loop = asyncio.get_running_loop()
    async with opened(running_place(nats, domain)) as bus, health.listening(bus.logs) as alive:

        def owners() -> dict[holds.Place, int]:
            return {(card.agent, card.shard): card.holds for card in alive.fresh(loop.time()) if card.role == OWNER}

        if word.agent is not None and word.agent not in await holds.known_agents(bus):
            raise NotFound(f"no agent {word.agent!r} has ever owned a shard of domain {bus.domain!r}")
        receipts = await holds.say(bus, word, event_id=event_id)
        await asyncio.sleep(LISTEN_S)
        behind = await holds.heard(word, receipts, owners=owners, timeout_s=timeout_s)
        here = sorted({agent for agent, _ in owners() if word.agent in (None, agent)})
    if as_json:
        print_json({"id": receipts[0].id, "heard": [name for name in here if name not in behind], "behind": behind})
    else:
        kind, name = word.scope
        done = {("agent", True): "paused", ("agent", False): "resumed"}.get((kind, isinstance(word, HoldPlaced)))
        done = done or ("in quarantine" if isinstance(word, HoldPlaced) else "released")
        at = f" at {word.agent}" if kind != "agent" and word.agent else ""
        print(harmless(f"{name} is {done}{at}" if kind == "agent" else f"{kind} {name} is {done}{at}"))
        for agent in behind:
            say(harmless(f"{agent} has not said yet that it knows"))
        if word.agent is not None and not here:
            say(harmless(f"no instance of {word.agent} is heard; it will know when it comes"))
    return EXIT_NOT_YET if behind else 0


async def _list(nats: str | None, domain: str | None, as_json: bool) -> None:
    async with reading(nats, domain) as bus:
        found = await holds.held(bus)
    if as_json:
        print_json(found)
        return
    print_table(
        ("what", "name", "agent", "shard", "since", "by", "reason"),
        ((h.kind, h.name, h.agent or "", h.shard, clock_time(h.since), h.by, h.reason) for h in found),
        empty="nothing is held",
    )
