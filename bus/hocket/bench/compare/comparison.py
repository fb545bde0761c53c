"""Who is compared with whom: each system in a process tree of its own, one after the other, and what came out."""

import asyncio
import json
import os
import tempfile
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from sys import executable
from typing import Any

from hocket.bench.compare import dbos, faststream, hocket, langgraph, restate, serving, temporal
from hocket.bench.compare.serving import LeftOut
from hocket.bench.compare.system import Place, System
from hocket.bench.load import TEXT
from hocket.errors import HocketError

SYSTEMS = (
    hocket.CHAIN,
    hocket.STEPS,
    hocket.CHAIN_LATER,
    faststream.FASTSTREAM,
    restate.RESTATE,
    temporal.TEMPORAL,
    dbos.ON_POSTGRES,
    dbos.ON_SQLITE,
    langgraph.ON_POSTGRES,
    langgraph.ON_SQLITE,
)
"""All that can be compared, in the order in which they are measured and shown."""

IN_FLIGHT = (1, 50, 500)
READY_S = 90.0
AFTER_S = 150.0
"""How long the sagas that are under way when the time is over may take."""

_PROGRAMS = Path(__file__).parent / "programs"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One system under one load."""

    system: str
    in_flight: int
    sagas: int
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_1000: float | None
    """Of all its processes, the server, the worker and who asks them; None where the system does not tell."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A system, its rows or why it has none."""

    system: str
    title: str
    on_disk: str
    versions: Mapping[str, str]
    rows: Sequence[Row]
    left_out: str | None = None
    """Why there is nothing, or nothing more, to show."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole measurement."""

    seconds: float
    systems: Sequence[Measured]

    def ratios(self) -> dict[str, dict[int, float]]:
        """How many times the sagas per second of every other system hocket's four agents make, by load."""
        rates = {m.system: {row.in_flight: row.per_s for row in m.rows} for m in self.systems}
        ours = rates.pop(hocket.CHAIN.name, {})
        return {
            name: {load: ours[load] / rate for load, rate in theirs.items() if load in ours and rate}
            for name, theirs in rates.items()
        }

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        ratios = {name: {str(load): ratio for load, ratio in each.items()} for name, each in self.ratios().items()}
        return {"seconds": self.seconds, "systems": [asdict(m) for m in self.systems], "hocket_times": ratios}


async def measure(
    systems: Sequence[System],
    *,
    installed: Path,
    postgres: Path | None = None,
    seconds: float,
    in_flight: Sequence[int] = IN_FLIGHT,
    say: Say,
) -> Comparison:
    """Install what is missing and measure one system after the other; one that cannot be had says so in its row.

    `seconds` is how long new sagas are started under each load, after a warm-up of a fifth of it.
    """
    measured = []
    for system in systems:
        with tempfile.TemporaryDirectory(prefix="hocket-compare-") as folder:
            os.chmod(folder, 0o711)  # a server that does not run as root must find its own folder in it
            environment = system.environment
            place = Place(environment.folder(installed) if environment else installed, Path(folder), postgres)
            measured.append(await _measured(system, place, installed, seconds, in_flight, say))
    return Comparison(seconds, measured)


async def _measured(
    system: System, place: Place, installed: Path, seconds: float, in_flight: Sequence[int], say: Say
) -> Measured:
    versions: dict[str, str] = {}
    rows: list[Row] = []
    why = None
    try:
        if system.environment is not None:
            if not system.environment.is_there(installed):
                say(f"{system.title}: installing {', '.join(system.environment.python + system.environment.npm)}")
            await system.environment.install(installed)
            interpreter = str(system.environment.interpreter(installed))
        else:
            interpreter = executable
        say(f"{system.title}: starting")
        async with system.start(place) as started:
            settings = json.dumps({**started.settings, "text": TEXT})
            command = [interpreter, str(_PROGRAMS / system.program), settings]
            log = place.data / "program.log"
            async with serving.running(command, log, spoken_to=True) as process:
                told = await _told(process, READY_S, log)
                versions |= {**told["versions"], **(started.versions or {})}
                roots = (*started.servers, process.pid)
                await _ordered(process, in_flight[-1] if len(in_flight) < 2 else in_flight[1], seconds / 5, log)
                for load in in_flight:
                    row = await _row(system, process, roots, load, seconds, log)
                    say(f"{system.title}: {row.per_s:,.0f} sagas/s with {load} in flight")
                    rows.append(row)
    except HocketError as error:
        why = str(error)
        say(f"{system.title}: left out: {why}")
    return Measured(system.name, system.title, system.on_disk, versions, rows, why)


async def _row(system: System, process: Process, roots: Sequence[int], load: int, seconds: float, log: Path) -> Row:
    before_s = serving.cpu_s(roots)
    told = await _ordered(process, load, seconds, log)
    after_s = serving.cpu_s(roots)
    count = told["sagas"]
    used = None if before_s is None or after_s is None else (after_s - before_s) / count * 1000
    return Row(system.name, load, count, count / told["took_s"], told["p50_s"] * 1000, told["p99_s"] * 1000, used)


async def _ordered(process: Process, in_flight: int, seconds: float, log: Path) -> dict[str, Any]:
    """Have so many sagas kept in flight for so long; what the program measured."""
    assert process.stdin is not None
    process.stdin.write(json.dumps({"in_flight": in_flight, "seconds": seconds}).encode() + b"\n")
    return await _told(process, seconds + AFTER_S, log)


async def _told(process: Process, within_s: float, log: Path) -> dict[str, Any]:
    """The program's next line. Raises LeftOut when it ends instead, or takes too long."""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(within_s):
            line = await process.stdout.readline()
    except TimeoutError:
        raise LeftOut(f"no answer within {within_s:.0f} s: {serving.last_words(log)}") from None
    if not line:
        raise LeftOut(f"its program ended: {serving.last_words(log)}")
    told: dict[str, Any] = json.loads(line)
    return told


__all__ = ["SYSTEMS", "Comparison", "LeftOut", "Measured", "Row", "measure"]
