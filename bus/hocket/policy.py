"""How often to try, how long to wait, and what the engine's limits are: values, and arithmetic on them."""

import random
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum


class OnExhausted(StrEnum):
    """What follows when a handler has given an event up, besides its dead letter."""

    DEAD_LETTER = "dead_letter"
    """Nothing: the key goes on with its next event."""

    HOLD = "hold"
    """The key waits, at this agent, until a person sends the event again and it is handled, discards the letter, or
    releases the key."""

    FAIL_SAGA = "fail_saga"
    """Its saga fails, and what that has done outside is undone. The key goes on."""

    ESCALATE = "escalate"
    """Somebody is told, by an event and by `hocket doctor`. The key goes on."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to try, and how long to wait in between."""

    attempts_max: int = 5
    """Counts the first attempt; after the last one the event is dead-lettered."""

    first_s: float = 0.2
    """The wait after the first failure, in seconds."""

    factor: float = 3.0
    """Each wait is this many times the one before."""

    longest_s: float = 60.0
    """No wait is longer, in seconds."""

    jitter: float = 0.2
    """Each wait is stretched by a random share of itself up to this, so that failures do not march in step."""

    total_s: float | None = None
    """No attempt begins later than this after the first one began, in seconds; None: only their number counts.

    What waits or outlives its process begins anew.
    """

    never: tuple[type[Exception], ...] = field(default=())
    """Errors that no second attempt can mend: dead-lettered at once."""

    def wait_s(self, attempts: int, error: Exception, rng: random.Random, *, spent_s: float = 0.0) -> float | None:
        """How long to wait after `attempts` failures in `spent_s` seconds, the last being `error`; None: give up.

        An error may carry `retry_after_s` (an API's Retry-After): then the wait is at least that.
        """
        if attempts >= self.attempts_max or isinstance(error, self.never):
            return None
        wait_s = min(self.longest_s, self.first_s * self.factor ** (attempts - 1))
        wait_s = max(wait_s * (1 + rng.random() * self.jitter), getattr(error, "retry_after_s", 0.0))
        return None if self.total_s is not None and spent_s + wait_s > self.total_s else wait_s


@dataclass(frozen=True, slots=True)
class Limits:
    """The engine's bounds; the defaults suit an agent that calls models and one that routes events."""

    silence_s: float = 5.0
    """An owner that is not heard for so long is replaced."""

    silence_at_start_s: float = 1.5
    """The same for an instance that has just started and never heard one."""

    heartbeat_s: float = 1.0
    """How often an instance says that it lives."""

    slow_s: float = 2.0
    """A handling that takes longer gets a run head and leaves the cursor's window."""

    window: int = 2000
    """Most events taken from the log and not yet finished, per agent and shard."""

    window_bytes: int = 64 << 20
    """No more are taken while these are so many bytes. What is on its way by then comes to 8 MiB at most."""

    concurrency: int = 256
    """Most handlers running at once, per agent and shard."""

    actors_cached: int = 10_000
    """Most actor states kept in memory, per agent and shard."""

    actors_cached_bytes: int = 64 << 20
    """As many bytes of them at most, as their records count. As objects they take up several times that."""

    cursor_lag_s: float = 0.05
    """The longest that a finished event waits for a cursor that says so."""

    append_s: float = 5.0
    """The deadline of one append; after it the outcome is unknown and recovery decides."""

    drain_s: float = 10.0
    """How long a stopping worker lets running handlers finish."""

    grace_s: float = 10.0
    """How long the call of an effect may go on when its run is cancelled, so that its outcome is seen, in seconds."""

    cleanup_s: float = 10.0
    """How long a handler that is cancelled may take to clean up; then it is cancelled again, each second."""

    hops_max: int = 32
    """Longest chain of causes; the event after it is dead-lettered as a loop. The runtime's own facts do not count: a
    saga is undone however long it was."""

    repeats_max: int = 100
    """Most calls of one step or effect with the same arguments within one run; the next one is taken for a loop. What
    polls and is meant to says so."""

    event_bytes_max: int = 1_000_000
    """Largest encoded event, or entry of a run's journal, kept below the server's payload limit of 1 MiB."""

    state_bytes_max: int = 1_000_000
    """Largest encoded actor state."""

    result_bytes_max: int = 32 << 20
    """Largest result of a step or an effect, and largest arguments of an effect, as JSON. Beyond 256 KiB they are
    stored in pieces, all in one append: hence 120 MiB is the most, whatever is said here."""

    journal_kept: timedelta = timedelta(days=400)
    """How long a run's journal stays in the log, counted from each entry: no run may last longer."""

    dead_kept: timedelta = timedelta(days=90)
    """How long a dead letter stays in the log."""
