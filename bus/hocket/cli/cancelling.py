"""The command that ends work which nobody wants any more: `cancel`."""

import asyncio
import getpass
from typing import Annotated

import typer

from hocket.cli.output import AsJson, harmless, print_json, print_table, say
from hocket.cli.reach import Domain, Nats, opened, running_place
from hocket.engine.owner import OWNER
from hocket.host import health, runtime
from hocket.observe.cancels import Outcome, Place, Request, outcome, request
from hocket.policy import Limits
from hocket_schemas.cancels import CancelRequested

commands = typer.Typer()

EXIT_NOT_YET = 1

LISTEN_S = 1.5 * Limits().heartbeat_s
"""How long to listen for heartbeats, which come each second."""


@commands.command("cancel", epilog="Example: hocket cancel trip-17 --reason 'the customer has called it off'")
def cancel_command(
    saga: Annotated[str | None, typer.Argument(metavar="SAGA", help="As `hocket sagas` lists it.")] = None,
    key: Annotated[str | None, typer.Option(help="Instead of a saga: what is under way of a key.")] = None,
    run: Annotated[str | None, typer.Option(help="Instead of a saga: one run.")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the request.")] = "",
    by: Annotated[str | None, typer.Option(help="Who wants it; otherwise your login name.")] = None,
    event_id: Annotated[
        str | None, typer.Option("--id", help="The request's own id: asking again with it adds nothing.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the agents, at most.")] = 30.0,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """End a saga, what is under way of a key, or one run, and say what had been done outside until then.

    Handlers may clean up. A saga stays cancelled: what comes of it later is not handled. Exit code 1: not all agents
    have dealt with it in time; they will.
    """
    if [saga, key, run].count(None) != 2 or "" in (saga, key, run):
        raise typer.BadParameter("name one saga, or give --key or --run")
    asked = CancelRequested(saga=saga, key=key, run=run, reason=reason, by=by or getpass.getuser())
    raise typer.Exit(runtime.run(_cancel(asked, event_id, timeout, nats, domain, as_json)))


async def _cancel(
    asked: CancelRequested, event_id: str | None, timeout_s: float, nats: str | None, domain: str | None, as_json: bool
) -> int:
    loop = asyncio.get_running_loop()
    async with opened(running_place(nats, domain)) as bus, health.listening(bus.logs) as heard:

        def alive() -> list[Place]:
            return [(card.agent, card.shard) for card in heard.fresh(loop.time()) if card.role == OWNER]

        made = await request(bus, asked, event_id=event_id)
        found = await outcome(bus, made, alive=alive, listen_s=LISTEN_S, timeout_s=timeout_s)
    if as_json:
        print_json(
            {
                "request": made.id,
                "complete": found.complete,
                "runs": [run.model_dump(mode="json") for run in found.runs],
                "behind": found.behind,
                "left": [{"agent": run.agent, "key": run.key, "run": run.run} for run in found.left],
            }
        )
    else:
        _print(made, found)
    return 0 if found.complete else EXIT_NOT_YET


def _print(made: Request, found: Outcome) -> None:
    what = " ".join(made.asked.scope)
    rows: list[tuple[str, ...]] = []
    for run in found.runs:
        begins = (run.agent, run.key, run.run)
        rows += [(*begins, effect.name, effect.status, effect.key) for effect in run.effects] or [begins + 3 * ("",)]
    print_table(
        ("agent", "key", "run", "effect", "status", "effect key"),
        rows,
        empty=f"nothing of {harmless(what)} was under way",
    )
    for run in found.runs:
        if run.error:
            say(harmless(f"the cleanup of {run.agent} {run.run} failed: {run.error}"))
        if run.effects_untold:
            say(f"{run.agent} {run.run} had {run.effects_untold} more effects; `hocket effects` lists them all")
    for agent in found.behind:
        say(harmless(f"{agent} has not dealt with it yet"))
    for left in found.left:
        say(harmless(f"a run of {left.agent} is still open: {left.run} of key {left.key}"))
