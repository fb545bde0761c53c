"""The command `schedules`: what comes due when."""

import typer

from hocket.cli.output import AsJson, clock_time, print_json, print_table
from hocket.cli.reach import Domain, Nats, reading
from hocket.host import runtime
from hocket.observe.schedules import schedules

commands = typer.Typer()


@commands.command("schedules", epilog="Example: hocket schedules")
def schedules_command(nats: Nats = None, domain: Domain = None, as_json: AsJson = False) -> None:
    """List the schedules that agents have declared, and when each comes due, the next one first."""
    runtime.run(_schedules(nats, domain, as_json))


async def _schedules(nats: str | None, domain: str | None, as_json: bool) -> None:
    async with reading(nats, domain) as bus:
        lines = sorted([line async for line in schedules(bus)], key=lambda line: line.next_due)
    if as_json:
        print_json(lines)
        return
    print_table(
        ("agent", "schedule", "next due (UTC)", "rule", "time zone", "key", "last tick"),
        (
            (each.agent, each.schedule, clock_time(each.next_due), each.cron, each.tz, each.key, each.last_tick)
            for each in lines
        ),
        empty="no schedules",
    )
