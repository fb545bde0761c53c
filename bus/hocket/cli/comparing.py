"""The command `hocket bench compare`: the same saga on hocket and on other systems."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.bench import bench
from hocket.cli.output import AsJson, print_json, print_table, say
from hocket.host import runtime

DEFAULT_FOLDER = Path("~/.cache/hocket/compare")


@bench.command("compare", epilog="Example: hocket bench compare hocket restate dbos-postgres")
def compare_command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SYSTEM...]", help="Which systems; all of them without.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long sagas are started under each load.")] = 5.0,
    folder: Annotated[Path, typer.Option(help="Where the systems are installed.")] = DEFAULT_FOLDER,
    postgres: Annotated[Path | None, typer.Option(help="The folder with PostgreSQL's programs.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Install what is missing without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """The same saga of four durable steps on hocket and on other systems, with 1, 50 and 500 sagas in flight.

    Each system is installed from its public packages into an environment of its own, and measured by itself, in
    processes of its own. One that cannot be installed or started says so in its row.
    """
    from hocket.bench.compare.comparison import SYSTEMS, measure

    known = {system.name: system for system in SYSTEMS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)} is not known; these are: {', '.join(known)}")
    systems = [system for system in SYSTEMS if not names or system.name in names]
    installed = folder.expanduser()
    missing = {s.environment for s in systems if s.environment and not s.environment.is_there(installed)}
    if missing and not yes:
        for environment in sorted(missing, key=lambda environment: environment.name):
            say(f"{environment.folder(installed)}: {', '.join(environment.python + environment.npm)}")
        typer.confirm("Install these, each into its own folder?", abort=True, err=True)
    # Whoever ends us with a signal ends the servers too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    comparison = runtime.run(measure(systems, installed=installed, postgres=postgres, seconds=seconds, say=say))
    if as_json:
        print_json(comparison.as_json())
        return
    print("A saga is four durable steps, one after the other. CPU is that of all processes of a system.\n")
    ratios = comparison.ratios()
    print_table(
        ["system", "in flight", "sagas/s", "p50 ms", "p99 ms", "CPU s per 1000", "hocket's rate, times", "on disk"],
        [
            [
                measured.title,
                row.in_flight,
                f"{row.per_s:,.0f}",
                f"{row.p50_ms:.1f}",
                f"{row.p99_ms:.1f}",
                None if row.cpu_s_per_1000 is None else f"{row.cpu_s_per_1000:.2f}",
                f"{ratio:.1f}" if (ratio := ratios.get(measured.system, {}).get(row.in_flight)) else None,
                measured.on_disk,
            ]
            for measured in comparison.systems
            for row in measured.rows
        ],
        empty="nothing was measured",
    )
    for measured in comparison.systems:
        if measured.left_out:
            print(f"\n{measured.title} was left out: {measured.left_out}")
    used = {name: version for measured in comparison.systems for name, version in measured.versions.items()}
    print(f"\nVersions: {', '.join(f'{name} {version}' for name, version in sorted(used.items()))}.")
