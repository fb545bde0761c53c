"""Commands that measure: `bench chain`."""

from typing import Annotated

import typer

from hocket.cli.output import AsJson, print_json, print_table, say
from hocket.host import runtime

commands = typer.Typer()
bench = typer.Typer(no_args_is_help=True, help="Measure this machine, beside a baseline from the same run.")
commands.add_typer(bench, name="bench")


@bench.callback()
def _bench() -> None:
    """Measure this machine, beside a baseline from the same run."""


@bench.command("chain", epilog="Example: hocket bench chain --sync 2m")
def chain_command(
    sync: Annotated[str, typer.Option(help="The server's sync_interval: 'always', or a duration.")] = "always",
    as_json: AsJson = False,
) -> None:
    """Four stateless agents that pass events on, against the same hops as plain JetStream publishes.

    The plain hops wait for one acknowledgement each and promise nothing: no deduplication, no fence, no state.
    """
    from hocket.bench.chain import measure

    chain = runtime.run(measure(sync=sync, say=say))
    if as_json:
        print_json(chain.as_json())
        return
    print(f"A saga is {chain.hops} hops; sync_interval {chain.sync}; one process works, another one asks.\n")
    print_table(
        ["system", "in flight", "sagas/s", "p50 ms", "p99 ms", "CPU s per 1000", "commits per saga"],
        [
            [
                row.system,
                row.in_flight,
                f"{row.per_s:,.0f}",
                f"{row.p50_ms:.1f}",
                f"{row.p99_ms:.1f}",
                f"{row.cpu_s_per_1000:.2f}",
                f"{row.commits_per_saga:.2f}",
            ]
            for row in chain.levels
        ],
        empty="nothing was measured",
    )
    print(
        f"\np50 at 1 in flight: {chain.latency_ratio:.2f}x plain JetStream's. Rate at the highest load: "
        f"{chain.rate_ratio:.1f}x, and {chain.unordered_rate_ratio:.1f}x that of giving up the order too. "
        f"Worker memory: {chain.worker_rss_mib:.0f} MiB."
    )
