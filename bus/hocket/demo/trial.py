"""A brief that is written again under attack, and what that shows beside the calm run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hocket.demo import chaos, invariants
from hocket.demo.chaos import Blow, Strike
from hocket.demo.invariants import Invariant
from hocket.demo.play import WORK_S, Decision, Played, Published, Tell, play
from hocket.demo.progress import Progress, Step
from hocket.demo.stage import Stage
from hocket.observe.history import Entry
from hocket_schemas.approvals import ApprovalRequested
from hocket_schemas.briefs import BriefRequested


@dataclass(frozen=True, slots=True)
class Trial:
    """A run under attack, after its end."""

    stormy: Played
    blows: tuple[Blow, ...]
    hits: frozenset[Blow]
    """Those that struck somebody with work in hand."""

    missed: tuple[Strike, ...]
    """Strikes whose target did not come to work again in time."""

    invariants: tuple[Invariant, ...]

    @property
    def passed(self) -> bool:
        """Whether every promise was kept, and something was hit."""
        return all(invariant.holds for invariant in self.invariants)


async def attack(
    stage: Stage,
    request: BriefRequested,
    calm: Played,
    strikes: Sequence[Strike],
    *,
    tell: Tell = lambda entry, progress, steps: None,
    struck: Callable[[Blow], None] = lambda blow: None,
    work_s: float = WORK_S,
) -> Trial:
    """Ask for the same brief again while the strikes fall; what was decided on the calm one is decided again.

    The file of the calm run is taken away first, so that what is compared is what was written this time.
    """
    with chaos.raging(stage, strikes, struck) as storm:

        async def decide(request: ApprovalRequested) -> Decision:
            await storm.over()  # a person takes longer than a storm
            return Decision(isinstance(calm.ending, Published), "the calm run's decision")

        def see(entry: Entry, progress: Progress, steps: Sequence[Step]) -> None:
            storm.see(entry)  # first: what is told next to a person takes time
            tell(entry, progress, steps)

        with _taken_away(calm):
            stormy = await play(stage, request, decide=decide, tell=see, work_s=work_s)
    hits = frozenset(blow for blow in storm.blows if blow.hit(stormy.account, stage.services))
    kept = invariants.of_storm(calm, stormy, storm, hits)
    return Trial(stormy, tuple(storm.blows), hits, storm.missed, tuple(kept))


@contextmanager
def _taken_away(calm: Played) -> Iterator[None]:
    """Take away a run's brief, and put it back unless another one was written meanwhile."""
    if not isinstance(calm.ending, Published):
        yield
        return
    calm.ending.path.unlink(missing_ok=True)
    try:
        yield
    finally:
        if not calm.ending.path.exists():
            calm.ending.path.write_bytes(calm.ending.data)


__all__ = ["Trial", "attack"]
