"""Commands that measure by the tens of thousands: `bench ingest`, `bench replay`, `bench sagas`, `bench growth`."""

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


@bench.command("replay", epilog="Example: hocket bench replay --events 5000")
def replay_command(
    events: Annotated[int, typer.Option(min=1, help="How many events the log holds.")] = 30_000,
    sync: Sync = "always",
    as_json: AsJson = False,
) -> None:
    """How fast everything is made again from the log, against a plain consumer that only reads and parses."""
    from hocket.bench.replay import measure

    replay = runtime.run(measure(sync=sync, events=events, say=say))
    if as_json:
        print_json(replay.as_json())
        return
    print(f"From the first event on; sync_interval {replay.sync}.\n")
    print_table(
        ["what", "events", "events/s", "CPU us each", "events/s of a core"],
        [
            [row.what, row.events, f"{row.per_s:,.0f}", f"{row.cpu_us:.0f}", f"{row.per_core:,.0f}"]
            for row in replay.rows
        ],
        empty="nothing was measured",
    )
    print(f"\nFolding is {replay.rate_ratio:.2f}x as fast as the plain consumer that checks nothing.")


@bench.command("sagas", epilog="Example: hocket bench sagas --sagas 500")
def sagas_command(
    sagas: Annotated[int, typer.Option(min=1, help="How many sagas are run.")] = 2000,
    in_flight: Annotated[int, typer.Option(min=1, help="How many of them at a time.")] = 200,
    sync: Sync = "always",
    as_json: AsJson = False,
) -> None:
    """Sagas of four effects with undo, one in ten undone, followed by the coordinator of services/coordinator."""
    from hocket.bench.chain import coordinator
    from hocket.bench.sagas import measure
    from hocket.errors import NotFound

    folder = coordinator()
    if folder is None:
        raise NotFound("no services/coordinator is here, and nobody else ends a saga")
    found = runtime.run(measure(sync=sync, sagas=sagas, in_flight=in_flight, coordinator=folder, say=say))
    if as_json:
        print_json(found.as_json())
        return
    print(
        f"{found.sagas} sagas of {found.steps} effects, {found.in_flight} in flight; sync_interval {found.sync}: "
        f"{found.per_s:,.0f} a second.\n"
    )
    print_table(
        ["end", "sagas", "p50 ms", "p99 ms"],
        [
            [end, row.sagas, f"{row.p50_ms:,.0f}", f"{row.p99_ms:,.0f}"]
            for end, row in (("completed", found.completed), ("compensated", found.compensated))
        ],
        empty="nothing was measured",
    )
    print(
        f"\nCPU per saga: {found.agents_cpu_ms:.2f} ms in the agents, {found.coordinator_cpu_ms:.2f} ms in the "
        f"coordinator. {found.effects} effects were called, {found.undone} undone. "
        f"In the time of a saga {found.publishes_ratio:.0f} plain publishes are made with as many in flight."
    )


@bench.command("growth", epilog="Example: hocket bench growth --events 10000")
def growth_command(
    events: Annotated[int, typer.Option(min=1, help="How many the shortest log holds; the longest: 100x.")] = 2000,
    sagas: Annotated[int, typer.Option(min=1, help="How many sagas go through the chain each time.")] = 500,
    sync: Sync = "always",
    as_json: AsJson = False,
) -> None:
    """Publishing, reading and handling, while the log holds once, ten and a hundred times as much."""
    from hocket.bench.growth import measure

    growth = runtime.run(measure(sync=sync, events=events, sagas=sagas, say=say))
    if as_json:
        print_json(growth.as_json())
        return
    print(f"While the log holds so many events; sync_interval {growth.sync}.\n")
    print_table(
        ["events", "published/s", "plain", "read/s", "plain", "sagas/s", "p50 ms"],
        [
            [
                f"{row.events:,}",
                f"{row.publish_per_s:,.0f}",
                f"{row.plain_publish_per_s:,.0f}",
                f"{row.read_per_s:,.0f}",
                f"{row.plain_read_per_s:,.0f}",
                f"{row.chain_per_s:,.0f}",
                f"{row.chain_p50_ms:.0f}",
            ]
            for row in growth.sizes
        ],
        empty="nothing was measured",
    )
    print(
        f"\nAt the longest log publishing keeps {growth.publish_bend:.0%} of its rate, reading {growth.read_bend:.0%}, "
        f"handling {growth.chain_bend:.0%}."
    )
