"""Commands by which people decide: `approvals`, `approve`, `deny`, `effects` and `resolve`."""

import getpass
from typing import Annotated, Any

import orjson
import typer

from hocket.approval import DENY
from hocket.cli.output import AsJson, clock_time, print_json, print_table, short
from hocket.cli.reach import Domain, Nats, opened, reading, running_place
from hocket.errors import NotFound
from hocket.host import runtime
from hocket.observe.runs import asking, decide, effects, open_runs
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested, EffectResolved

commands = typer.Typer()

By = Annotated[str | None, typer.Option(help="Who decides; otherwise your login name.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the decision.")]
Approval = Annotated[str, typer.Argument(metavar="ID", help="As `hocket approvals` lists it.")]


@commands.command("approvals", epilog="Example: hocket approvals")
def approvals_command(nats: Nats = None, domain: Domain = None, as_json: AsJson = False) -> None:
    """List what waits for a person to decide."""
    runtime.run(_approvals(nats, domain, as_json))


async def _approvals(nats: str | None, domain: str | None, as_json: bool) -> None:
    async with reading(nats, domain) as bus:
        waiting = [run async for run in open_runs(bus) if run.request is not None]
    if as_json:
        print_json([{**(run.head.approval or {}), "key": run.key, "since": run.head.since} for run in waiting])
        return
    print_table(
        ["id", "agent", "key", "of", "until", "question", "details"],
        [
            [r.approval, run.agent, run.key, _asked(r), clock_time(r.expires), r.question, short(r.details)]
            for run in waiting
            if (r := run.request) is not None
        ],
        empty="nothing waits for a decision",
    )


def _asked(request: ApprovalRequested) -> str:
    """Who may decide now."""
    if not request.approvers:
        return "anybody"
    escalated = bool(request.escalate_to) and request.escalates is None
    people = [*request.approvers, *(request.escalate_to if escalated else ())]
    return ", ".join(people) + (" (escalated)" if escalated else "")


@commands.command("approve", epilog="Example: hocket approve 1f0c9e21d4b7a6c35e80.0 --reason 'cheap enough'")
def approve_command(
    approval: Approval,
    option: Annotated[str | None, typer.Option(help="Another option than the one that goes ahead.")] = None,
    edit: Annotated[str | None, typer.Option(metavar="JSON", help="The details as you want them.")] = None,
    by: By = None,
    reason: Reason = "",
    nats: Nats = None,
    domain: Domain = None,
) -> None:
    """Go ahead with what an approval asks, exactly as it is shown, or with edited details."""
    try:
        edited = None if edit is None else orjson.loads(edit)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"--edit is no JSON: {error}") from error
    runtime.run(_decide(approval, option, edited, by, reason, nats, domain))


@commands.command("deny", epilog="Example: hocket deny 1f0c9e21d4b7a6c35e80.0 --reason 'too dear'")
def deny_command(
    approval: Approval, by: By = None, reason: Reason = "", nats: Nats = None, domain: Domain = None
) -> None:
    """Say no to what an approval asks."""
    runtime.run(_decide(approval, DENY, None, by, reason, nats, domain))


async def _decide(
    approval: str, option: str | None, edited: Any, by: str | None, reason: str, nats: str | None, domain: str | None
) -> None:
    async with opened(running_place(nats, domain)) as bus:
        run = await asking(bus, approval)
        request = run.request
        assert request is not None
        decision = ApprovalDecided(
            approval=approval,
            digest=request.digest,
            option=option or request.options[0],
            by=by or getpass.getuser(),
            reason=reason,
            edited=edited,
        )
        await decide(bus, run, decision)
    print(f"{decision.by}: {decision.option} ({request.question})")


@commands.command("effects", epilog="Example: hocket effects trip-17")
def effects_command(
    saga: Annotated[str | None, typer.Argument(metavar="SAGA", help="Only the effects of one saga.")] = None,
    nats: Nats = None,
    domain: Domain = None,
    as_json: AsJson = False,
) -> None:
    """List what was done outside: the ledger of effects, with those whose outcome is not known."""
    runtime.run(_effects(saga, nats, domain, as_json))


async def _effects(saga: str | None, nats: str | None, domain: str | None, as_json: bool) -> None:
    async with reading(nats, domain) as bus:
        found = await effects(bus, saga)
    if as_json:
        print_json(found)
        return
    print_table(
        ["state", "effect", "agent", "saga", "key", "arguments", "outcome"],
        [
            [e.state, e.name, e.agent, e.saga, e.idempotency_key, short(e.arguments, 60), e.error or short(e.result)]
            for e in found
        ],
        empty="no effect is in the log",
    )


@commands.command("resolve", epilog="""Example: hocket resolve 9b1d…e2 --happened '{"ref": "X7"}'""")
def resolve_command(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The effect's key, as `hocket effects` lists it.")],
    happened: Annotated[
        str | None, typer.Option(metavar="JSON", help="It did, and this is what it would have returned.")
    ] = None,
    did_not: Annotated[bool, typer.Option("--did-not-happen", help="It may be done now.")] = False,
    by: By = None,
    nats: Nats = None,
    domain: Domain = None,
) -> None:
    """Say whether an effect happened whose outcome nobody but a person can find out."""
    if (happened is None) == (not did_not):
        raise typer.BadParameter("give either --happened JSON or --did-not-happen")
    try:
        result = None if happened is None else orjson.loads(happened)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"--happened is no JSON: {error}") from error
    runtime.run(_resolve(key, result, not did_not, by, nats, domain))


async def _resolve(key: str, result: Any, happened: bool, by: str | None, nats: str | None, domain: str | None) -> None:
    async with opened(running_place(nats, domain)) as bus:
        parked = [e for e in await effects(bus) if e.idempotency_key == key and e.state == "parked"]
        if not parked:
            raise NotFound(f"no parked effect has key {key!r}; `hocket effects` lists them")
        resolved = EffectResolved(effect=key, happened=happened, result=result, by=by or getpass.getuser())
        await bus.command(resolved, to=parked[0].agent, key=parked[0].key)
    print(f"{parked[0].name}: {'it happened' if happened else 'it did not happen'}")
