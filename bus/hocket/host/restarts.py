"""How often a service that ends is started again, and when to give it up: arithmetic, no processes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Restarts:
    """A restart policy: at once after the first end, then after longer and longer waits, then no more."""

    restarts_max: int = 5
    """Most restarts within the window; the end after the last of them is final."""

    window_s: float = 60.0
    """Ends that lie further back are forgotten, in seconds."""

    second_s: float = 0.25
    """The wait before the second restart within the window, in seconds; the first is not waited for."""

    factor: float = 3.0
    """Each wait is this many times the one before."""

    longest_s: float = 15.0
    """No wait is longer, in seconds, but for the jitter."""

    jitter: float = 0.2
    """Each wait is stretched by a random share of itself up to this, so that services do not start in step."""

    blocked_s: float = 60.0
    """A process whose event loop has not turned for so long, in seconds, is killed and started again; 0: never."""

    def wait_s(self, ends_s: Sequence[float], rng: random.Random) -> float | None:
        """How long to wait after the last of these ends, given in their order; None: give up."""
        recent = self.recent(ends_s) if ends_s else 0
        if recent > self.restarts_max:
            return None
        if recent <= 1:
            return 0.0
        # The exponent is bounded so that a generous `restarts_max` cannot overflow a float.
        wait_s = min(self.longest_s, self.second_s * self.factor ** min(recent - 2, 64))
        return wait_s * (1 + rng.random() * self.jitter)

    def recent(self, ends_s: Sequence[float]) -> int:
        """How many of these ends count: those within the window that the last of them closes."""
        return sum(1 for end_s in ends_s if end_s > ends_s[-1] - self.window_s)

    @property
    def wrong(self) -> str | None:
        """What is no policy about it, as a sentence's worth; None: nothing."""
        if self.restarts_max < 0:
            return f"restarts_max is {self.restarts_max}, wants 0 or more"
        if self.window_s <= 0:
            return f"window_s is {self.window_s:g}, wants more than 0"
        if self.factor < 1:
            return f"factor is {self.factor:g}, wants 1 or more"
        below = [name for name in ("second_s", "longest_s", "jitter", "blocked_s") if getattr(self, name) < 0]
        return f"{below[0]} is {getattr(self, below[0]):g}, wants 0 or more" if below else None


__all__ = ["Restarts"]
