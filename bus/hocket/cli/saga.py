"""The commands by which a person decides about a saga that is stuck: `saga retry`, `saga skip` and `saga resolve`."""

import getpass
from typing import Annotated, Literal

import typer

from hocket.cli.reach import Domain, Nats, opened, running_place
from hocket.errors import NotFound, UsageError
from hocket.host import runtime
from hocket.observe.sagas import record_of
from hocket.saga.record import COORDINATOR
from hocket_schemas.undoing import UndoDecided

commands = typer.Typer()
deciding = typer.Typer(help="Decide about a saga that is stuck, because something could not be undone.")
commands.add_typer(deciding, name="saga")

Saga = Annotated[str, typer.Argument(metavar="SAGA", help="As `hocket sagas --stuck` lists it.")]
Key = Annotated[str | None, typer.Argument(metavar="[KEY]", help="Of one effect; otherwise all that could not be.")]
By = Annotated[str | None, typer.Option(help="Who decides; otherwise your login name.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the decision.")]


@deciding.command("retry", epilog="Example: hocket saga retry trip-17")
def retry_command(
    saga: Saga, key: Key = None, by: By = None, reason: Reason = "", nats: Nats = None, domain: Domain = None
) -> None:
    """Have it undone again, now that what was in the way is mended."""
    runtime.run(_decide(saga, key, "retry", by, reason, nats, domain))


@deciding.command("skip", epilog="Example: hocket saga skip trip-17 --reason 'the fee is ours'")
def skip_command(
    saga: Saga, key: Key = None, by: By = None, reason: Reason = "", nats: Nats = None, domain: Domain = None
) -> None:
    """Leave it done, and go on with what was done before it."""
    runtime.run(_decide(saga, key, "skip", by, reason, nats, domain))


@deciding.command("resolve", epilog="Example: hocket saga resolve trip-17 --reason 'refunded by phone'")
def resolve_command(
    saga: Saga, key: Key = None, by: By = None, reason: Reason = "", nats: Nats = None, domain: Domain = None
) -> None:
    """Say that it was undone by hand."""
    runtime.run(_decide(saga, key, "resolve", by, reason, nats, domain))


async def _decide(
    saga: str,
    key: str | None,
    decision: Literal["retry", "skip", "resolve"],
    by: str | None,
    reason: str,
    nats: str | None,
    domain: str | None,
) -> None:
    async with opened(running_place(nats, domain)) as bus:
        record = await record_of(bus, saga)
        if record is None:
            raise NotFound(f"the coordinator knows no saga {saga!r}; `hocket sagas` lists them")
        failed = [effect for effect in record.effects if effect.state == "failed" and key in (None, effect.key)]
        if not failed:
            raise UsageError(f"saga {saga!r} is {record.phase}, and nothing of it waits for a decision")
        decided = UndoDecided(effect_key=key, decision=decision, by=by or getpass.getuser(), reason=reason)
        await bus.command(decided, to=COORDINATOR, key=saga)
    print(f"{decided.by}: {decision} {', '.join(effect.name for effect in failed)}")
