"""What a measurement yields: latencies, rates and costs of one load level."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Level:
    """One system under one load."""

    system: str
    in_flight: int
    sagas: int
    per_s: float
    """Sagas per second."""

    p50_ms: float
    p99_ms: float
    cpu_s_per_1000: float
    """CPU seconds of the worker process per 1000 sagas."""

    commits_per_saga: float
    """Appends by the worker; the baseline's are its publishes."""


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie; the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def level_of(
    system: str, in_flight: int, latencies_s: Sequence[float], took_s: float, cpu_s: float, commits: float
) -> Level:
    """The figures of one level from what was measured."""
    count = len(latencies_s)
    return Level(
        system=system,
        in_flight=in_flight,
        sagas=count,
        per_s=count / took_s,
        p50_ms=quantile(latencies_s, 0.5) * 1000,
        p99_ms=quantile(latencies_s, 0.99) * 1000,
        cpu_s_per_1000=cpu_s / count * 1000,
        commits_per_saga=commits / count,
    )
