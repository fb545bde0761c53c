"""The coordinator on the log's twin, with a clock that can be set."""

import asyncio
from typing import Any

from hocket.clock import LoopClock
from hocket.engine.runs import LONGEST_LOOK_S
from hocket.log.memory import MemoryServer
from hocket.testing import Bed, run_virtual
from hocket_schemas.briefs import BRIEF, BriefFailed, BriefPublished, BriefRequested
from hocket_schemas.runtime import SagaCompleted, SagaExpired, SagaFailed

from .agent import coordinator

REQUESTED = BriefRequested(folder="/documents", out="/brief.md")
PUBLISHED = BriefPublished(path="/brief.md", digest="0" * 64, sentences=3, documents=2)
FAILED = BriefFailed(reason="The folder is empty.")


def told(*events: Any, wait_s: float = 0.0) -> list[Any]:
    """What the coordinator says of one saga whose events come, and then time passes."""

    async def live() -> list[Any]:
        clock = LoopClock()
        async with Bed(coordinator, server=MemoryServer(clock=clock)) as bed:
            for event in events:
                await bed.publish(event, key="saga-1")
            await bed.settled()
            clock.advance(wait_s)
            await asyncio.sleep(LONGEST_LOOK_S + 1)  # of the loop's own time: until the clock is looked at again
            await bed.settled()
            return bed.events(SagaCompleted, SagaFailed, SagaExpired)

    return run_virtual(live())


def test_a_saga_whose_last_event_came_is_completed() -> None:
    (said,) = told(REQUESTED, PUBLISHED)

    assert (type(said), said.name, said.saga) == (SagaCompleted, "brief", "saga-1")


def test_a_saga_with_a_failure_is_failed_and_says_by_what() -> None:
    (said,) = told(REQUESTED, FAILED)

    assert (type(said), said.failure) == (SagaFailed, "brief.failed.v1")


def test_a_saga_that_does_not_end_expires_when_its_deadline_has_passed() -> None:
    early = told(REQUESTED, wait_s=BRIEF.deadline.total_seconds() - 60)
    (said,) = told(REQUESTED, wait_s=BRIEF.deadline.total_seconds() + 1)

    assert early == []
    assert (type(said), said.missing) == (SagaExpired, ["brief.published.v1", "brief.failed.v1"])


def test_an_ended_saga_does_not_expire_as_well() -> None:
    said = told(REQUESTED, PUBLISHED, FAILED, wait_s=BRIEF.deadline.total_seconds() + 1)

    assert [type(event) for event in said] == [SagaCompleted]


def test_an_end_without_a_start_is_none_of_ours() -> None:
    assert told(PUBLISHED) == []
