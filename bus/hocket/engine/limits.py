"""What is said of a handling that came to a limit."""

from hocket.account import Refusal
from hocket.errors import LoopDetected
from hocket_schemas.limits import LimitExceeded


def of_loop(looped: LoopDetected, *, agent: str, event: str) -> LimitExceeded:
    """The event of a loop."""
    return LimitExceeded(
        limit=looped.limit,
        most=looped.most,
        count=looped.count,
        agent=agent,
        event=event,
        what=looped.what,
        digest=looped.digest,
    )


def of_budget(refusal: Refusal, *, agent: str, event: str, what: str) -> LimitExceeded:
    """The event of a draw that was refused."""
    return LimitExceeded(
        limit=refusal.limit,
        most=refusal.most,
        count=refusal.count,
        agent=agent,
        event=event,
        what=what,
        account=refusal.saga,
        spent=dict(refusal.spent),
    )
