"""What many worlds of sagas came to: what went wrong where, and how the sagas ended.

`python -m tests.fault.simulated_sagas --sagas 2000 --seed 7` prints it as a table.
"""

import argparse
import sys
from collections import Counter
from dataclasses import dataclass, field

from tests.fault.saga_world import World
from tests.fault.trips import FAULTS

from hocket.testing import run_virtual


@dataclass(slots=True)
class Campaign:
    """What many worlds came to."""

    sagas: int = 0
    ends: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    """By position, fault and end."""

    deaths: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By process and point."""

    families: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By link, the parent's end and the child's."""

    corrected: int = 0
    violations: list[str] = field(default_factory=list)


def campaign(sagas: int, seed: int) -> Campaign:
    """Live as many worlds as that takes, from a seed on."""
    total = Campaign()
    while total.sagas < sagas:
        world = World(seed)
        seed += 1
        total.violations += run_virtual(world.live())
        total.sagas += len(world.plans)
        total.corrected += world.corrected
        for plan in world.plans.values():
            total.ends[plan.at, plan.fault, plan.end] += 1
            if plan.stay is not None and plan.stay_end:
                total.families[plan.stay.link, plan.end.rpartition(" ")[2], plan.stay_end] += 1
        for crash in world.deaths:
            total.deaths[crash.process, crash.point or "at a moment"] += 1
    return total


def table(total: Campaign) -> str:
    """Position x fault x end."""
    ends = sorted({end for _, _, end in total.ends})
    rows = sorted({(fault, at) for at, fault, _ in total.ends}, key=lambda row: (FAULTS.index(row[0]), row[1]))
    lines = [f"{'fault':12} {'position':>8} " + " ".join(f"{end:>24}" for end in ends)]
    for fault, at in rows:
        lines.append(f"{fault:12} {at + 1:8} " + " ".join(f"{total.ends[at, fault, end]:24}" for end in ends))
    lines.append("")
    for (link, end, stay_end), count in sorted(total.families.items()):
        lines.append(f"child ({link}) {stay_end:12} of a parent {end:12} {count:6}")
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sagas", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    total = campaign(given.sagas, given.seed)
    died = sum(total.deaths.values())
    told = f"{died} deaths, {total.corrected} corrections of what was remembered"
    sys.stdout.write(f"{table(total)}\n\n{total.sagas} sagas from seed {given.seed}, {told}\n")
    for text in total.violations:
        sys.stdout.write(f"{text}\n")
    sys.stdout.write(f"{len(total.violations)} violations\n")
    return 1 if total.violations else 0


if __name__ == "__main__":
    sys.exit(main())
