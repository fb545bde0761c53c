"""What earlier attempts at an event have failed with, written down with the append that shows that a later one did not.

Attempts are counted in memory, so this is all that is known of them here. It costs nothing when the first succeeds.
"""

from hocket.failures import with_one_more
from hocket.run import ATTEMPTS, Entry, Run


def take_note(run: Run, at: str, failure: str) -> None:
    """Remember that an attempt has failed."""
    run.failures = with_one_more(run.failures, at, failure)


async def written_down(run: Run) -> list[Entry]:
    """What the run's next append has to say of the attempts that failed before it: nothing, or one entry."""
    if not run.failures:
        return []
    await run.loaded()  # so that the entry has a number of its own
    failed = [{"at": at, "error": failure} for at, failure in run.failures]
    run.failures = ()
    return [Entry(f"{ATTEMPTS} failed", run.recorded, ATTEMPTS, failed[-1]["at"], result=failed)]


__all__ = ["take_note", "written_down"]
