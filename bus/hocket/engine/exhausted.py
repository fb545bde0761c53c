"""What follows when a handler has given an event up, besides its dead letter."""

from dataclasses import replace
from typing import Literal

from hocket.engine.commit import Committer
from hocket.engine.dispatch import Work
from hocket.engine.handling import Dead, Done, Handling, Received
from hocket.engine.holding import Holding
from hocket.engine.transition import Tenure
from hocket.log.base import Log, Write
from hocket.policy import OnExhausted
from hocket.run import Run
from hocket.subjects import type_of
from hocket_schemas.event import Event
from hocket_schemas.holds import HoldPlaced
from hocket_schemas.runtime import HandlingExhausted

REASON_LENGTH_MAX = 500


class Exhausted:
    """Says what is to follow, in the append of the dead letter, for one tenure."""

    def __init__(self, log: Log, tenure: Tenure, committer: Committer, handling: Handling, holding: Holding) -> None:
        self._log = log
        self._tenure = tenure
        self._committer = committer
        self._handling = handling
        self._holding = holding

    def told(self, work: Work, dead: Dead) -> tuple[Dead, list[Write]]:
        """The end of an event with what its letter says of it, and the events that go with the letter."""
        received, run = work.received, work.doing
        if received is None or run is None:
            return dead, [*dead.events]  # no handler has seen it
        then = policy_of(received, dead)
        dead = replace(dead, failures=run.failures, then="" if then == OnExhausted.DEAD_LETTER else then.value)
        said = self._consequence(received, dead, then) or self._holding.lifted_by(received)
        if said is None:
            return dead, [*dead.events]
        return dead, [*dead.events, self._handling.told(received, said, run.emitted + len(dead.events))]

    async def take_effect(self, events: list[Write]) -> None:
        """Have a key held before its next event has its turn."""
        if events and type_of(events[-1].subject) == HoldPlaced.event_type:
            await self._committer.caught_up(self._tenure)
            message = await self._log.last(events[-1].subject)
            if message is not None:
                self._holding.hear(message)

    def handled(self, received: Received, done: Done, run: Run) -> None:
        """Let a key go on that has waited for an event to be sent again, with what the handling of that says."""
        lifted = self._holding.lifted_by(received)
        if lifted is not None:
            done.events.append(self._handling.told(received, lifted, run.emitted + len(done.events)))

    def _consequence(self, received: Received, dead: Dead, then: OnExhausted) -> Event | None:
        agent, event_id = self._tenure.agent, received.envelope.id
        error = f"{type(dead.error).__name__}: {dead.error}"[:REASON_LENGTH_MAX]
        match then:
            case OnExhausted.DEAD_LETTER:
                return None
            case OnExhausted.HOLD:
                reason = f"event {event_id} could not be handled: {error}"
                by = f"agent {agent}"
                return HoldPlaced(agent=agent, key=received.key, letter=event_id, by=by[:200], reason=reason)
            case OnExhausted.FAIL_SAGA | OnExhausted.ESCALATE:
                wanted: Literal["fail_saga", "escalate"] = "fail_saga" if then == OnExhausted.FAIL_SAGA else "escalate"
                what = received.envelope.type
                return HandlingExhausted(agent=agent, event=event_id, what=what, error=error, then=wanted)


def policy_of(received: Received, dead: Dead) -> OnExhausted:
    """What its handler wants to follow, or the effect that has failed for good."""
    wanted = getattr(dead.error, "on_exhausted", None)
    return OnExhausted(wanted) if wanted else received.handler.on_exhausted


__all__ = ["Exhausted"]
