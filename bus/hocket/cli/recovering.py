"""Commands that measure how work goes on: `bench activation` and `bench replicas`."""

from typing import Annotated

import typer

from hocket.cli.bench import Sync, bench
from hocket.cli.output import AsJson, print_json, print_table, say
from hocket.host import runtime

Times = Annotated[list[int] | None, typer.Option(min=1, help="How many times as many are there; may be repeated.")]


@bench.command("activation", epilog="Example: hocket bench activation --actors 1000 --times 1 --times 100")
def activation_command(
    actors: Annotated[int, typer.Option(min=1, help="How many actors get an event each.")] = 10_000,
    times: Times = None,
    sync: Sync = "always",
    as_json: AsJson = False,
) -> None:
    """What it takes to wake actors that are only in the log, against the same events for actors in memory."""
    from hocket.bench.activation import measure

    activation = runtime.run(measure(sync=sync, actors=actors, times=times or (1, 10), say=say))
    if as_json:
        print_json(activation.as_json())
        return
    print(f"{activation.actors} actors get an event each, at once; sync_interval {activation.sync}.\n")
    print_table(
        ["actors there", "state is", "all handled s", "per second", "CPU us each", "answered right"],
        [
            [
                row.existing,
                "in the log" if row.cold else "in memory",
                f"{row.took_s:.2f}",
                f"{row.per_s:,.0f}",
                f"{row.cpu_us:.0f}",
                row.right,
            ]
            for row in activation.rounds
        ],
        empty="nothing was measured",
    )
    print(
        f"\nOut of the log it takes {activation.cold_ratio:.2f}x the time of memory; "
        f"with the most actors there {activation.growth_ratio:.2f}x that with the fewest."
    )


@bench.command("replicas", epilog="Example: hocket bench replicas --sync 2m")
def replicas_command(
    sync: Sync = "always",
    as_json: AsJson = False,
) -> None:
    """The chain on three replicas against one replica, and how long it stands still when their leader is killed.

    All servers run on this machine: three share what one has to itself, disks and processors.
    """
    from hocket.bench.replicas import measure

    replicas = runtime.run(measure(sync=sync, say=say))
    if as_json:
        print_json(replicas.as_json())
        return
    print(f"A saga is {replicas.hops} hops; sync_interval {replicas.sync}; all servers on this machine.\n")
    print_table(
        ["log", "in flight", "sagas/s", "p50 ms", "p99 ms", "CPU s per 1000"],
        [
            [
                row.system,
                row.in_flight,
                f"{row.per_s:,.0f}",
                f"{row.p50_ms:.1f}",
                f"{row.p99_ms:.1f}",
                f"{row.cpu_s_per_1000:.2f}",
            ]
            for row in replicas.levels
        ],
        empty="nothing was measured",
    )
    print(
        f"\nThree replicas: p50 {replicas.latency_ratio:.2f}x one replica's with the least in flight, "
        f"{replicas.rate_ratio:.2f}x its rate with the most."
    )
    failover = replicas.failover
    print(f"\nkill -9 of the leader with {failover.in_flight} in flight:\n")
    print_table(
        ["", "sagas", "sagas/s", "p50 ms"],
        [
            [name, part.sagas, f"{part.per_s:,.0f}", f"{part.p50_ms:.1f}"]
            for name, part in (("before", failover.before), ("after, two servers", failover.after))
        ],
        empty="nothing was measured",
    )
    print(
        f"\nNothing came through for {failover.stall_s:.1f} s. Of {failover.started} sagas "
        f"{failover.lost} are lost and {failover.doubled} events are doubled."
    )
