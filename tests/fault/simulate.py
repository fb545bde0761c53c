"""Lives through thousands of small worlds, each decided by its seed, and holds each against the promises.

    python -m tests.fault.simulate --seeds 10000 --jobs 2     many worlds, what struck in them, what was broken
    python -m tests.fault.simulate --seed 17 --trace          one world again, with all that led to its end
    python -m tests.fault.simulate --seed 17 --shrink         the fewest blows under which it still breaks
    python -m tests.fault.simulate --plants                   bugs planted on purpose, and who finds each

Exit code 1: something is broken, a planted bug was not found, or the campaign proves nothing.
"""

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.fault.checks import Violation, vacuous, violations
from tests.fault.history import History
from tests.fault.planted import PLANTS, caught
from tests.fault.world import KINDS, SCENES, Blow, World, lived, plan

CHUNK = 50
"""Seeds that one process takes at a time."""

VACUOUS_MAX = 0.3
"""The share of worlds that may prove nothing; a campaign of more of them has failed."""

PLANT_SEEDS = 500
SHOWN_MAX = 40


@dataclass(slots=True)
class Campaign:
    """What many worlds came to."""

    worlds: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    """Calls that reached the outside."""

    effective: int = 0
    """Of these, those that changed something."""

    vacuous: int = 0
    broken: list[tuple[int, Violation]] = field(default_factory=list)

    def add(self, other: "Campaign") -> None:
        """Count what another part of it found."""
        for name in ("worlds", "struck", "operations"):
            getattr(self, name).update(getattr(other, name))
        self.attempts += other.attempts
        self.effective += other.effective
        self.vacuous += other.vacuous
        self.broken += other.broken

    @property
    def idle(self) -> str | None:
        """Why the campaign proves nothing; None: it does."""
        count = sum(self.worlds.values())
        missing = sorted(set(KINDS) - set(self.struck))
        if count >= 10 * len(KINDS) and missing:
            return f"these never struck: {', '.join(missing)}"
        if self.vacuous > VACUOUS_MAX * max(count, CHUNK):
            return f"{self.vacuous} of {count} worlds had nothing in hand when something struck"
        return None


def survey(seeds: range) -> Campaign:
    """Live through some worlds."""
    logging.disable(logging.CRITICAL)
    found = Campaign()
    for seed in seeds:
        world, history = lived(seed)
        found.worlds[world.scene] += 1
        found.struck.update(history.trouble.struck)
        found.operations.update(operation.end for operation in history.operations)
        does = [deed for deed in history.deeds if deed.kind == "do"]
        found.attempts += len(does)
        found.effective += sum(deed.effective for deed in does)
        found.vacuous += vacuous(history) is not None
        found.broken += [(seed, violation) for violation in violations(history)]
    return found


def campaign(seeds: range, jobs: int) -> Campaign:
    """Live through many, in several processes."""
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    total = Campaign()
    with ProcessPoolExecutor(jobs) as pool:
        for part in pool.map(survey, chunks):
            total.add(part)
    return total


def told(total: Campaign, took_s: float) -> Iterator[str]:
    """A campaign, for people."""
    worlds = ", ".join(f"{count} {scene}" for scene, count in sorted(total.worlds.items()))
    yield f"{sum(total.worlds.values())} worlds ({worlds}) in {took_s:.0f} s"
    yield "struck: " + ", ".join(f"{kind} {count}" for kind, count in total.struck.most_common())
    operations = ", ".join(f"{count} {end}" for end, count in sorted(total.operations.items()))
    yield f"clients were told: {operations}; outside {total.attempts} calls, {total.effective} took effect"
    yield f"{total.vacuous} worlds prove nothing: nothing was in hand when something struck"
    for seed, violation in total.broken[:SHOWN_MAX]:
        yield f"seed {seed}: {violation}"
    seeds = sorted({seed for seed, _ in total.broken})
    yield f"{len(total.broken)} violations" + (f" in seeds {seeds[:SHOWN_MAX]}" if seeds else "")
    if total.idle:
        yield f"VACUOUS: {total.idle}"


def traced(world: World, history: History) -> Iterator[str]:
    """All that led to the end of one world, in its order."""
    lines: list[tuple[float, str]] = [(at_s, f"** {text}") for at_s, text in world.told]
    lines.append((history.healed_s, "** all is well from here on"))
    for operation in history.operations:
        error = f" {type(operation.error).__name__}" if operation.error else ""
        lines.append((operation.ended_s, f"-- {operation.event_id} was published: {operation.end}{error}"))
    for deed in history.deeds:
        effective = "" if deed.effective else ", without effect"
        lines.append((deed.at_s, f"== outside: {deed.kind} {deed.saga}/{deed.n} under {deed.key[:8]}{effective}"))
    for message, line in history.stored:
        body = message.data.decode(errors="replace")
        text = f"{message.seq:5} line {line}: {message.subject.partition('.')[2]} {body[:160]}"
        lines.append((message.time_ns / 1e9, text))
    start_s = min((at_s for at_s, _ in lines), default=0.0)
    for at_s, text in sorted(lines, key=lambda line: line[0]):
        yield f"{at_s - start_s:8.3f} {text}"
    if history.quiet_s is not None:
        yield f"{history.quiet_s - start_s:8.3f} ** nothing is left to do"


def shrunk(blows: tuple[Blow, ...], breaks: Callable[[tuple[Blow, ...]], bool]) -> tuple[Blow, ...]:
    """The blows without those that are not needed: leaving out any one more of them breaks nothing."""
    left = blows
    for blow in blows:
        fewer = tuple(other for other in left if other is not blow)
        if breaks(fewer):
            left = fewer
    return left


def _one(seed: int, *, trace: bool, shrink: bool) -> Iterator[str]:
    world, history = lived(seed)
    found = violations(history)
    if trace:
        yield from traced(world, history)
    yield f"seed {seed}, {world.scene}: {vacuous(history) or 'something struck while there was work'}"
    yield from map(str, found)
    yield f"{len(found)} violations"
    if shrink and found:
        wanted = found[0].invariant
        few = shrunk(plan(seed), lambda blows: any(v.invariant == wanted for v in violations(lived(seed, blows)[1])))
        yield f"{wanted} breaks under {len(few)} of {len(plan(seed))} blows:"
        yield from (f"{blow.at_s:8.3f} {blow}" for blow in few)


def _plants() -> Iterator[str]:
    for bug in PLANTS:
        seed, how = caught(bug, range(PLANT_SEEDS))
        where = "NOT FOUND" if seed is None else f"seed {seed}"
        yield f"{bug.invariant:4} {bug.name:52} {where:10} {how[:100]}"


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--start", type=int, default=0, help="the first of their seeds")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes")
    parser.add_argument("--seed", type=int, help="one world again")
    parser.add_argument("--trace", action="store_true", help="with all that led to its end")
    parser.add_argument("--shrink", action="store_true", help="and the fewest blows under which it still breaks")
    parser.add_argument("--plants", action="store_true", help="plant bugs, and see that each is found")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if given.plants or given.seed is not None:
        lines = _plants() if given.plants else _one(given.seed, trace=given.trace, shrink=given.shrink)
        failed = False
        for line in lines:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
            failed = failed or "NOT FOUND" in line
        return int(failed or (not given.plants and line.split()[0] != "0"))
    began_s = time.monotonic()
    total = campaign(range(given.start, given.start + given.seeds), given.jobs)
    sys.stdout.writelines(f"{line}\n" for line in told(total, time.monotonic() - began_s))
    return 1 if total.broken or total.idle else 0


__all__ = ["SCENES", "Campaign", "campaign", "main", "shrunk", "survey", "told", "traced"]

if __name__ == "__main__":
    sys.exit(main())
