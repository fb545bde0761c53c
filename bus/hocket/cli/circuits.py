"""The command that shows what keeps calls from being made: `breakers`."""

import typer

from hocket.cli.output import AsJson, clock_time, print_json, print_table
from hocket.cli.reach import Domain, Nats, reading
from hocket.host import runtime
from hocket.observe.breakers import breakers

commands = typer.Typer()


@commands.command("breakers", epilog="Example: hocket breakers")
def breakers_command(nats: Nats = None, domain: Domain = None, as_json: AsJson = False) -> None:
    """List the circuit breakers: which are open, since when, by whose call, and when the next call is let through."""
    runtime.run(_breakers(nats, domain, as_json))


async def _breakers(nats: str | None, domain: str | None, as_json: bool) -> None:
    async with reading(nats, domain) as bus:
        found = await breakers(bus)
    if as_json:
        print_json(found)
        return
    print_table(
        ("breaker", "state", "failures", "since", "until", "by", "error"),
        ((b.name, b.state, b.failures, clock_time(b.since), clock_time(b.until), b.by, b.error) for b in found),
        empty="nothing that a breaker guards has ever failed",
    )
