"""How often a service that ends is started again, and when to give it up: arithmetic, no processes."""

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
    """No wait is longer, in seconds."""

    def wait_s(self, ends_s: Sequence[float]) -> float | None:
        """How long to wait after the last of these ends, given in their order; None: give up."""
        recent = sum(1 for end_s in ends_s if end_s > ends_s[-1] - self.window_s)
        if recent > self.restarts_max:
            return None
        return 0.0 if recent <= 1 else min(self.longest_s, self.second_s * self.factor ** (recent - 2))


__all__ = ["Restarts"]
