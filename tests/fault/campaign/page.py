"""The page of a campaign: what struck how often, how soon all was well again, what was checked, and what was wrong."""

import importlib.metadata
import platform
from dataclasses import asdict, dataclass, field
from typing import Any

PROMISES = {
    "I1": "acked events that the log then showed",
    "I1 again": "events looked up once more after a server had been hit",
    "I2": "events from clients, each asked for by one",
    "I3": "events, each handled once",
    "I4": "events, handled in the order of the log",
    "I5": "states and answers, one chain by one writer",
    "I6": "sagas, ended as the world outside shows",
    "I6 order": "requests for an undo, in reverse of what was done",
    "I6 ledger": "sagas held once more against the whole ledger at the end",
    "I7": "timers, once and never early",
    "I7 in time": "of these due while all was well, and at most 2 s late",
    "I8": "answers, which come to the state that is there",
    "I8 audit": "events in the final audit of the log",
    "I9": "calls to the world outside, one effect for each key and one key for each effect",
    "I10": "recoveries within 30 s",
    "I11": "approvals, decided by the first who decided",
    "I12": "refusals, each in time and with its own error",
}

VIOLATIONS_SHOWN = 60


@dataclass(slots=True)
class Result:
    """What a campaign came to."""

    command: str
    seed: int
    minutes: float
    replicas: int
    started: str
    finished: bool
    server: str
    acked: int = 0
    """Events that the log took, from clients and from agents."""

    operations: dict[str, int] = field(default_factory=dict)
    sagas: dict[str, int] = field(default_factory=dict)
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults_total: int = 0
    checked: dict[str, int] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    violations_total: int = 0
    vacuous: list[str] = field(default_factory=list)
    journal: list[tuple[float, str, str, float | None]] = field(default_factory=list)
    """Each fault: seconds after the beginning, its kind, on what, and how long the recovery took."""

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def share(values: list[float], part: float) -> float | None:
    """A percentile: of a hundred the last counts as the 99th."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else None


def seconds(value: float | None) -> str:
    """As the table shows it."""
    return "-" if value is None else f"{value:.2f}"


def versions() -> dict[str, str]:
    """What ran."""
    return {"Python": platform.python_version(), **{p: importlib.metadata.version(p) for p in ("pydantic", "nats-py")}}


def page(result: Result) -> str:
    """The page, as Markdown."""
    ops, sagas = result.operations, result.sagas
    state = "" if result.finished else " (under way: this is how it stands)"
    lines = [
        f"# Fault campaign, seed {result.seed}, {result.replicas} replica{'s' if result.replicas > 1 else ''}{state}",
        "",
        f"```bash\n{result.command}\n```",
        "",
        f"Begun {result.started}, {result.minutes:.1f} minutes of faults, on 2 cores that servers, twelve workers, the "
        f"load, the networks and the checks shared; nats-server {result.server}, "
        + ", ".join(f"{name} {version}" for name, version in versions().items())
        + ".",
        "",
        f"- **{result.acked:,} events** were acked by the log: of clients and of agents, commands included.",
        f"- **{ops.get('asked', 0):,} operations** of clients: {ops.get('ok', 0):,} acked, {ops.get('refused', 0):,} "
        f"refused, {ops.get('unknown', 0):,} with an unknown outcome.",
        f"- **{sum(sagas.get(end, 0) for end in ('completed', 'compensated')):,} sagas** ended: "
        f"{sagas.get('completed', 0):,} completed, {sagas.get('compensated', 0):,} compensated "
        f"({sagas.get('expired', 0):,} of them by their deadline); {sagas.get('stuck', 0):,} times one waited for a "
        "person in between.",
        f"- **{result.faults_total:,} faults**; takeovers of agents: {result.seen.get('takeovers', 0):,.0f}; "
        f"calls to the world outside: {result.seen.get('attempts', 0):,.0f}; "
        f"dead letters: {result.seen.get('letters', 0):,.0f}.",
        f"- **{result.violations_total:,} violations**." + (f" Vacuous: {result.vacuous}." if result.vacuous else ""),
        "",
        "## Faults",
        "",
        "Recovery is the time until every event that came to the log before a moment, or within half a second after "
        "it, was answered in the log by the agent that was hit; of a fault that hits the clients' way, until their "
        "requests were answered. The moment is the strike; of what lasts, its end (for a process or a leader that is "
        "stopped or killed it is the strike: another takes over meanwhile). It includes the work itself.",
        "",
        "| Fault | Struck | p50, s | p99, s | Operations overlapped, p50 |",
        "|---|---|---|---|---|",
    ]
    for name, row in result.faults.items():
        lines.append(
            f"| {name} | {row['struck']} | {seconds(row['p50_s'])} | {seconds(row['p99_s'])} | {row['overlapped']} |"
        )
    lines += ["", "## Promises", "", "| | What was checked | How many |", "|---|---|---|"]
    lines += [f"| {name} | {PROMISES[name]} | {count:,} |" for name, count in result.checked.items()]
    late, late_most = result.seen.get("late_p99_s", 0.0), result.seen.get("late_most_s", 0.0)
    lines += ["", f"Timers, under fire too: p99 {late:.2f} s late, at most {late_most:.2f} s."]
    if result.violations:
        lines += ["", "## Violations", "", *(f"- {text}" for text in result.violations)]
    return "\n".join([*lines, ""])
