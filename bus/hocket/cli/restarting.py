"""The command that measures how soon an agent works again when its process was killed: `bench recovery`."""

from typing import Annotated

import typer

from hocket.cli.bench import Sync, bench
from hocket.cli.output import AsJson, print_json, print_table, say
from hocket.host import runtime

Runs = Annotated[list[int] | None, typer.Option(min=0, help="How many runs are open; may be repeated.")]


@bench.command("recovery", epilog="Example: hocket bench recovery --runs 0 --runs 100000")
def recovery_command(
    runs: Runs = None,
    kills: Annotated[int, typer.Option(min=1, help="How often the owner is killed with each number of runs.")] = 3,
    sync: Sync = "always",
    as_json: AsJson = False,
) -> None:
    """From kill -9 of an agent's process to its next commit, against the start of a plain process that publishes."""
    from hocket.bench.recovery import measure

    recovery = runtime.run(measure(sync=sync, runs=runs or (0, 100, 1000, 10_000), kills=kills, say=say))
    if as_json:
        print_json(recovery.as_json())
        return
    print(f"kill -9 of the owner, {kills} times each; sync_interval {recovery.sync}.\n")
    print_table(
        ["who goes on", "runs open", "median s", "longest s", "of the plain process"],
        [
            [
                "one that stands by" if row.standby else "a new process",
                row.runs,
                f"{row.median_s:.2f}",
                f"{max(row.took_s):.2f}",
                f"{recovery.ratio(row):.2f}x",
            ]
            for row in recovery.rows
        ],
        empty="nothing was measured",
    )
    print(f"\nA plain process starts, imports nats-py, connects and publishes in {recovery.plain_s:.2f} s.")
