"""Commands that measure: `bench chain`, `bench steps`, `bench parked` and `bench poison`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hocket.cli.output import AsJson, print_json, print_table, say
from hocket.host import runtime

if TYPE_CHECKING:  # it brings the NATS client, which the other commands need not wait for
    from hocket.bench.parked import Timers, Waiting


class _Commands(TyperGroup):
    """Takes `--compare` for the command `compare`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["compare" if arg == "--compare" else arg for arg in args])


commands = typer.Typer()
bench = typer.Typer(
    cls=_Commands, no_args_is_help=True, help="Measure this machine, beside a baseline from the same run."
)
commands.add_typer(bench, name="bench")

Sync = Annotated[str, typer.Option(help="The server's sync_interval: 'always', or a duration.")]


@bench.callback()
def _bench() -> None:
    """Measure this machine, beside a baseline from the same run."""


@bench.command("chain", epilog="Example: hocket bench chain --sync 2m")
def chain_command(
    sync: Sync = "always",
    as_json: AsJson = False,
) -> None:
    """Four stateless agents that pass events on, against the same hops as plain JetStream publishes.

    The plain hops wait for one acknowledgement each and promise nothing: no deduplication, no fence, no state.
    Where services/coordinator is at hand, the chain is measured as a declared saga as well, with the coordinator.
    """
    from hocket.bench.chain import coordinator, measure

    chain = runtime.run(measure(sync=sync, coordinator=coordinator(), say=say))
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
    if chain.policy_rate_ratio is None:
        print("No services/coordinator is here, so nothing was measured under a saga policy.")
    else:
        print(f"Under a saga policy, followed by the coordinator: {chain.policy_rate_ratio:.0%} of the rate without.")


@bench.command("steps", epilog="Example: hocket bench steps --runs 20")
def steps_command(
    runs: Annotated[int, typer.Option(min=1, help="How many runs are made one after the other.")] = 60,
    together: Annotated[int, typer.Option(min=1, help="How many runs are started at once.")] = 200,
    sync: Sync = "always",
    as_json: AsJson = False,
) -> None:
    """What a step of a run costs, against one plain JetStream publish with its acknowledgement."""
    from hocket.bench.steps import measure

    steps = runtime.run(measure(sync=sync, runs=runs, together=together, say=say))
    if as_json:
        print_json(steps.as_json())
        return
    print(f"A run is {steps.steps} steps, one after the other; sync_interval {steps.sync}.\n")
    print_table(
        ["what", "ms each", "per second", "CPU us each"],
        [
            ["plain JetStream publish", f"{steps.publish_ms:.2f}", f"{1000 / steps.publish_ms:,.0f}", None],
            ["step of a run that is alone", f"{steps.step_ms:.2f}", f"{1000 / steps.step_ms:,.0f}", None],
            [f"steps of {steps.together} runs", None, f"{steps.per_s:,.0f}", f"{steps.cpu_us_per_step:.0f}"],
        ],
        empty="nothing was measured",
    )
    print(
        f"\nA step costs {steps.cost_ratio:.2f}x a plain publish; "
        f"{steps.together} runs at once take {steps.rate_ratio:.1f}x the steps per second of one."
    )


@bench.command("parked", epilog="Example: hocket bench parked --runs 2000 --timers 1000")
def parked_command(
    runs: Annotated[int, typer.Option(min=1, help="How many runs wait for a person.")] = 20_000,
    timers: Annotated[int, typer.Option(min=1, help="How many runs wait for their time, twice.")] = 10_000,
    sync: Sync = "always",
    as_json: AsJson = False,
) -> None:
    """What waiting runs cost, how fast they go on, and how late timers are, also after kill -9 while they are due."""
    from hocket.bench.parked import measure

    parked = runtime.run(measure(sync=sync, runs=runs, timers=timers, say=say))
    if as_json:
        print_json(parked.as_json())
        return
    _print_waiting(parked.waiting, parked.sync)
    _print_timers(parked.timers)


def _print_waiting(waiting: "Waiting", sync: str) -> None:
    print(f"{waiting.runs} runs that wait for a person; sync_interval {sync}; one process works.\n")
    print_table(
        ["what", "figure", "CPU us each"],
        [
            ["created", f"{waiting.stages[-1].created_per_s:,.0f}/s", f"{waiting.created_cpu_us:.0f}"],
            ["memory of the worker before", f"{waiting.rss_before_mib:.0f} MiB", None],
            ["memory with all of them waiting", f"{waiting.rss_mib:.0f} MiB", None],
            ["CPU with all of them waiting", f"{waiting.idle_cpu_percent:.1f} %", None],
            ["owner again after kill -9", f"{waiting.owner_again_s:.1f} s", None],
            ["memory of the new process", f"{waiting.rss_again_mib:.0f} MiB", None],
            ["resumed", f"{waiting.resumed_per_s:,.0f}/s", f"{waiting.resumed_cpu_us:.0f}"],
            ["memory at most", f"{waiting.rss_most_mib:.0f} MiB", None],
            ["ended as decided", waiting.answers, None],
            ["came twice", waiting.doubled, None],
        ],
        empty="nothing was measured",
    )
    print("\nWhat each of those takes up that came to wait; what the process takes up once is in the first line.\n")
    print_table(
        ["wait", "came", "created/s", "memory, B", "disk, B"],
        [
            [
                stage.waiting,
                stage.came,
                f"{stage.created_per_s:,.0f}",
                f"{stage.memory_bytes:,.0f}",
                f"{stage.disk_bytes:,.0f}",
            ]
            for stage in waiting.stages
        ],
        empty="nothing was measured",
    )


def _print_timers(timers: "Sequence[Timers]") -> None:
    print("\nTimers that are due within a second. After a kill a new process starts at once.\n")
    print_table(
        ["", "set/s", "rang", "before kill", "twice", "early", "late p50 s", "late at most s", "last s after its time"],
        [
            [
                "kill -9" if row.killed else "calm",
                f"{row.set_per_s:,.0f}",
                row.rang,
                row.rang_before_kill if row.killed else None,
                row.doubled,
                row.early,
                f"{row.late_p50_s:.2f}",
                f"{row.late_most_s:.2f}",
                f"{row.late_last_s:.2f}",
            ]
            for row in timers
        ],
        empty="nothing was measured",
    )


@bench.command("poison", epilog="Example: hocket bench poison --seconds 30")
def poison_command(
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each half takes.")] = 20.0,
    sync: Sync = "always",
    as_json: AsJson = False,
) -> None:
    """How much later a steady stream of events is handled while others, on other keys, go wrong."""
    from hocket.bench.poison import KEYS, PER_S, POISON_PER_S, measure

    poison = runtime.run(measure(sync=sync, seconds=seconds, say=say))
    if as_json:
        print_json(poison.as_json())
        return
    print(f"{PER_S} events a second on {KEYS} keys; sync_interval {poison.sync}.")
    print(f"During: {POISON_PER_S} others a second that raise, hang or return garbage, each on a key of its own.\n")
    print_table(
        ["", "events", "p50 ms", "p99 ms"],
        [
            ["before", poison.events, f"{poison.before_p50_ms:.1f}", f"{poison.before_p99_ms:.1f}"],
            ["during", poison.events, f"{poison.during_p50_ms:.1f}", f"{poison.during_p99_ms:.1f}"],
        ],
        empty="nothing was measured",
    )
    print(
        f"\np99 while others go wrong: {poison.ratio:.2f}x the one before. "
        f"Of {poison.poisoned} poisoned events {poison.dead} are dead letters."
    )
    print("\nOne other that ends its process each time; two instances of the service are kept.\n")
    print_table(
        ["poison", "events/s", "ends", "p99 before, ms", "p99 during, ms", "ratio", "longest, ms", "dead letters"],
        [
            [
                ending.kind,
                ending.per_s,
                ending.ends,
                f"{ending.before_p99_ms:.1f}",
                f"{ending.during_p99_ms:.1f}",
                f"{ending.ratio:.2f}",
                f"{ending.during_most_ms:.0f}",
                ending.dead,
            ]
            for ending in poison.endings
        ],
        empty="nothing was measured",
    )
    took_ms = ", ".join(f"{took_s * 1000:.0f}" for took_s in sorted(poison.takeovers_s))
    print(f"\nFrom kill -9 of an owner to the first new commit of its standby: {took_ms} ms.")
