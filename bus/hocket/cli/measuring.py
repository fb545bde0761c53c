"""Commands that measure what goes in and comes out by the tens of thousands: `bench ingest`."""

from typing import Annotated

import typer

from hocket.cli.bench import Sync, bench
from hocket.cli.output import AsJson, print_json, print_table, say
from hocket.host import runtime


@bench.command("ingest", epilog="Example: hocket bench ingest --events 5000")
def ingest_command(
    events: Annotated[int, typer.Option(min=1, help="How many events each round publishes.")] = 20_000,
    clients: Annotated[int, typer.Option(min=1, help="How many connections share them, beside one alone.")] = 4,
    in_flight: Annotated[int, typer.Option(min=1, help="How many publishes are open at once.")] = 2000,
    sync: Sync = "always",
    as_json: AsJson = False,
) -> None:
    """How many events a second are published, each acknowledged, against plain JetStream publishes."""
    from hocket.bench.ingest import measure

    ingest = runtime.run(measure(sync=sync, events=events, clients=clients, in_flight=in_flight, say=say))
    if as_json:
        print_json(ingest.as_json())
        return
    print(f"Events that are published and acknowledged, from one process; sync_interval {ingest.sync}.\n")
    print_table(
        ["system", "clients", "in flight", "events/s", "CPU us each"],
        [[row.system, row.clients, row.in_flight, f"{row.per_s:,.0f}", f"{row.cpu_us:.0f}"] for row in ingest.rows],
        empty="nothing was measured",
    )
    print(f"\nOne client publishes {ingest.rate_ratio:.1f}x as many as plain publishes with as many in flight.")
